//! What a node answers to strangers: see [`crate::node`]'s `join`.

use tonic::{Request, Response, Status};

use crate::{
    node::Node,
    wire::raft::{
        AdoptRequest, AdoptResponse, CheckMemberRequest, CheckMemberResponse, InspectRequest, InspectResponse,
        join_service_server::JoinService,
    },
};

/// The service for empty nodes, and for nodes that ask whether they still belong.
pub struct Join(pub Node);

#[tonic::async_trait]
impl JoinService for Join {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        Ok(Response::new(self.0.inspect(request.into_inner()).await?))
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        self.0.adopt(request.into_inner()).await?;
        Ok(Response::new(AdoptResponse {}))
    }

    async fn check_member(
        &self,
        request: Request<CheckMemberRequest>,
    ) -> Result<Response<CheckMemberResponse>, Status> {
        Ok(Response::new(self.0.check_member(request.into_inner()).await?))
    }
}
