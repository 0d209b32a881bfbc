//! The gRPC services, each beside the conversions of its requests and replies.
//!
//! | file | content |
//! |---|---|
//! | `service_context` | what the services share, and the common path of every RPC |
//! | `call` | a call's metadata: session, deadline, consistency |
//! | `check` | the rules of single fields, and the [`Write`](check::Write) that passed them |
//! | `outcome` | outcomes and refusals of the state machine, as replies and faults |
//! | `auth_queries` | the state that authentication reads |
//! | `accounts/`, `conversations/`, `messages/`, `events/` | users; `convert.rs` has the pure conversions |
//! | `cluster`, `admin/` | discovery; operators |
//! | `join`, `health` | empty nodes and strangers; liveness and readiness |
//!
//! A conversion checks every field of a request against its rule and its limit. The first field that breaks one is
//! refused by name, and nothing of the request happens.

pub(super) mod accounts;
pub(super) mod admin;
mod auth_queries;
pub(super) mod call;
pub(super) mod check;
mod cluster;
pub(super) mod conversations;
pub(super) mod events;
pub(super) mod health;
mod join;
pub(super) mod messages;
mod outcome;
mod service_context;

use std::sync::Arc;

use tonic::service::Routes;

pub(super) use self::service_context::ServiceContext;
use self::{
    accounts::Accounts, admin::Admin, cluster::Cluster, conversations::Conversations, events::Events, join::Join,
    messages::Messages,
};
use crate::{
    node::Node,
    types::limits,
    wire::{
        self,
        admin::admin_service_server::AdminServiceServer,
        chat::{
            account_service_server::AccountServiceServer, conversation_service_server::ConversationServiceServer,
            event_service_server::EventServiceServer, message_service_server::MessageServiceServer,
        },
        cluster::cluster_service_server::ClusterServiceServer,
        raft::{
            join_service_server::JoinServiceServer,
            raft_service_server::{RaftService, RaftServiceServer},
        },
    },
};

/// The services for users and operators, and gRPC reflection, beside `others`.
pub(super) fn routes(context: &Arc<ServiceContext>, others: Routes) -> Routes {
    // A macro, because the setters are inherent methods of each generated server type and no trait has them.
    macro_rules! bounded {
        ($server:ident, $service:ident) => {
            $server::new($service { context: Arc::clone(context) })
                .max_decoding_message_size(limits::REQUEST_BYTES)
                .max_encoding_message_size(limits::RPC_BYTES)
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the build script wrote these descriptors")
        .max_decoding_message_size(limits::REQUEST_BYTES);
    others
        .add_service(reflection)
        .add_service(bounded!(AccountServiceServer, Accounts))
        .add_service(bounded!(ConversationServiceServer, Conversations))
        .add_service(bounded!(MessageServiceServer, Messages))
        .add_service(bounded!(EventServiceServer, Events))
        .add_service(bounded!(ClusterServiceServer, Cluster))
        .add_service(bounded!(AdminServiceServer, Admin))
        .prepare()
}

/// The services for peers, and for nodes that are no peers yet.
pub fn peer_routes(node: &Node) -> Routes {
    peer_routes_by(node.peer_service(), node)
}

/// The same around another implementation of the service for peers, such as one that observes the node's own.
pub fn peer_routes_by(service: impl RaftService, node: &Node) -> Routes {
    let raft = RaftServiceServer::new(service)
        .max_decoding_message_size(limits::PEER_RPC_BYTES)
        .max_encoding_message_size(limits::PEER_RPC_BYTES);
    let join = JoinServiceServer::new(Join::new(node.clone())).max_decoding_message_size(limits::REQUEST_BYTES);
    Routes::new(raft).add_service(join)
}
