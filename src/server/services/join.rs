//! JoinService: what a node answers to empty nodes, and to nodes that ask whether they are still members.
//!
//! It works without an identity, because an empty node must be able to answer. The checks are in [`crate::node`]'s
//! `join` and `adopt`. An inspection costs a look at the disk and may make this node dial others, so it is bounded here:
//! by rate for each address, and by the number of dials in progress.

use tonic::{Request, Response, Status};

use crate::{
    node::Node,
    server::{
        faults::overloaded,
        limits::{InspectionRates, Origin, Quota},
    },
    types::limits,
    wire::raft::{
        AdoptRequest, AdoptResponse, CheckMemberRequest, CheckMemberResponse, InspectRequest, InspectResponse,
        join_service_server::JoinService,
    },
};

pub(super) struct Join {
    node: Node,
    rates: InspectionRates,
    /// One permit for each address that is being dialled.
    dials: Quota,
}

impl Join {
    pub fn new(node: Node) -> Self {
        Self { node, rates: InspectionRates::new(), dials: Quota::new(limits::DIALS) }
    }
}

#[tonic::async_trait]
impl JoinService for Join {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let origin = request.remote_addr().map(|address| Origin::of(address.ip()));
        let message = request.into_inner();
        // The node refuses more than that.
        let dials = message.dial.len().min(limits::NODES);
        self.rates.inspection(origin, dials)?;
        let permit = self.dials.take_wide(origin, dials);
        let _permit = permit.map_err(|_| overloaded("this node is dialling too many addresses already"))?;
        Ok(Response::new(self.node.inspect(message).await?))
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
