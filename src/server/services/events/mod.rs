//! EventService: live events, resumed from a cursor on any node.
//!
//! The service finds out where a subscription starts; [`Subscription`] delivers.

pub(in crate::server) mod convert;
mod subscription;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};
use tracing::debug;

use self::{convert::Start, subscription::Subscription};
use super::{
    auth_queries,
    call::Call,
    service_context::{Method, Reply, ServiceContext},
};
use crate::{
    fault_injection::{self, Bug},
    server::faults::overloaded,
    types::{AccountId, Consistency, Cursor, SessionKey},
    wire::{
        Fault, Reason,
        chat::{self, event_service_server::EventService},
    },
};

pub(super) struct Events {
    pub context: Arc<ServiceContext>,
}

type Delivery = BoxStream<'static, Result<chat::SubscribeResponse, Status>>;

#[tonic::async_trait]
impl EventService for Events {
    type SubscribeStream = Delivery;

    async fn subscribe(&self, request: Request<chat::SubscribeRequest>) -> Result<Response<Delivery>, Status> {
        self.context.answer(Method::limited("Subscribe"), request, subscribe).await
    }
}

/// Opens a subscription: finds the account and the start, makes the doorbell, then streams.
///
/// The doorbell is made before the first read of the state, so a change between the two is seen by the read or rings.
/// The permit is part of the subscription and returns when the client goes away.
async fn subscribe(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::SubscribeRequest,
) -> Result<Reply<Delivery>, Fault> {
    let key = call.session()?;
    let start = convert::start(&request)?;
    let permit = context.subscriptions.take(call.origin);
    let permit = permit.map_err(|full| overloaded(&format!("too many subscriptions are served: {full}")))?;
    let (account, index) = match start {
        Start::Now => live_account(&context, &call, key, Consistency::Linearizable).await?,
        Start::After(cursor) => resume(&context, &call, key, cursor).await?,
    };
    let cursor = match start {
        Start::Now => Cursor::end_of(index),
        Start::After(cursor) if fault_injection::enabled(Bug::EventDroppedOnResume) && cursor > Cursor(0) => {
            Cursor::end_of(cursor.index() + 1)
        }
        Start::After(cursor) => cursor,
    };
    let doorbell = context.node.doorbell(account, Vec::new())?;
    let subscription = Subscription::new(context, key, cursor, doorbell, permit);
    let stream = stream::unfold(Some(subscription), async |subscription| {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(event) => Some((Ok(event), Some(subscription))),
            Err(fault) => {
                debug!(method = "Subscribe", reason = fault.reason.as_str(), message = %fault.message, "ended");
                Some((Err(fault.into()), None))
            }
        }
    });
    Ok(Reply { message: stream.boxed(), index })
}

/// The account of session `key` in a view of this consistency, and the view's log index.
async fn live_account(
    context: &ServiceContext,
    call: &Call,
    key: SessionKey,
    consistency: Consistency,
) -> Result<(AccountId, u64), Fault> {
    let now_ms = context.node.now_ms();
    context.query(consistency, call.remaining(), move |state| auth_queries::live_account(state, key, now_ms)).await
}

/// The account of a subscription that resumes after `cursor`, and the log index to start from.
///
/// The node's own state is enough, even without a quorum, if it knows the session and includes the cursor. If it does
/// not, the node may lag, and a linearizable view decides. A cursor beyond that view comes from another cluster, or
/// from this one before it was restored from a backup.
async fn resume(
    context: &ServiceContext,
    call: &Call,
    key: SessionKey,
    cursor: Cursor,
) -> Result<(AccountId, u64), Fault> {
    match live_account(context, call, key, Consistency::Stale).await {
        Ok((account, index)) if index >= cursor.index() => return Ok((account, index)),
        Err(fault) if fault.reason != Reason::SessionInvalid => return Err(fault),
        _ => {}
    }
    let (account, index) = live_account(context, call, key, Consistency::Linearizable).await?;
    if index < cursor.index() {
        let message = format!("the cursor is of log index {}, this cluster is at {index}", cursor.index());
        return Err(Fault {
            field: Some("after_cursor".to_owned()),
            ..Fault::new(Reason::CursorInvalid, message).next("subscribe from 0 or from_now")
        });
    }
    Ok((account, index))
}
