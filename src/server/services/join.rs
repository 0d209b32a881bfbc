//! JoinService: what a node answers to empty nodes, and to nodes that ask whether they are still members.
//!
//! It works without an identity, because an empty node must be able to answer. The checks are in [`crate::node`]'s
//! `join` and `adopt`.

use tonic::{Request, Response, Status};

use crate::{
    node::Node,
    wire::raft::{
        AdoptRequest, AdoptResponse, CheckMemberRequest, CheckMemberResponse, InspectRequest, InspectResponse,
        join_service_server::JoinService,
    },
};

pub(super) struct Join {
    pub node: Node,
}

#[tonic::async_trait]
impl JoinService for Join {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        Ok(Response::new(self.node.inspect(request.into_inner()).await?))
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        self.node.adopt(request.into_inner()).await?;
        Ok(Response::new(AdoptResponse {}))
    }

    async fn check_member(
        &self,
        request: Request<CheckMemberRequest>,
    ) -> Result<Response<CheckMemberResponse>, Status> {
        Ok(Response::new(self.node.check_member(request.into_inner()).await?))
    }
}
