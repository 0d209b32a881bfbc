//! Floor 1: messages on the network and on disk.
//!
//! The generated protobuf modules, their JSON form, the one mapping between errors and `google.rpc.Status` ([`Fault`]),
//! and how connections are made ([`Dialer`]). It does not know what the messages mean.

mod dial;
mod fault;
pub mod json;
pub mod metadata;
mod reason;

pub use crate::types::{Address, InvalidAddress};
pub use dial::{BoxedIo, Dialer, Io, Profile};
pub use fault::Fault;
pub use reason::Reason;

/// The compiled descriptors of all proto files, for reflection and JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

// The module tree mirrors the proto packages, because generated code refers to other packages by relative paths.
#[allow(missing_docs, clippy::all, rustdoc::all)]
mod generated {
    pub mod chat {
        pub mod v1 {
            tonic::include_proto!("chat.v1");
        }
        pub mod cluster {
            pub mod v1 {
                tonic::include_proto!("chat.cluster.v1");
            }
        }
        pub mod admin {
            pub mod v1 {
                tonic::include_proto!("chat.admin.v1");
            }
        }
        pub mod raft {
            pub mod v1 {
                tonic::include_proto!("chat.raft.v1");
            }
        }
        pub mod store {
            pub mod v1 {
                tonic::include_proto!("chat.store.v1");
            }
        }
    }
}

pub use generated::chat::{
    admin::v1 as admin, cluster::v1 as cluster, raft::v1 as raft, store::v1 as store, v1 as chat,
};
