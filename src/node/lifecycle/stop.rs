//! How a node stops: on request, or by itself.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use crate::node::{Exit, Node, consensus::record_address};

/// How long a stopping leader waits for a successor.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(1_500);

impl Node {
    /// Waits until the node stops by itself, and returns the reason.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.inner.exit.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let reason = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        match reason {
            Some(exit) => exit,
            None => std::future::pending().await,
        }
    }

    /// Ends all subscriptions and refuses new ones: the first step of stopping.
    pub fn close_subscriptions(&self) {
        self.inner.hub.close();
        self.inner.ready.send_replace(false);
    }

    /// Hands leadership over, stops consensus and makes log and state durable. Takes a few seconds at most.
    pub async fn stop(&self) {
        self.close_subscriptions();
        self.inner.stopping.store(true, Ordering::SeqCst);
        // Wait for an adoption that is under way, so that the member it starts is stopped below.
        drop(self.inner.identity_file.lock().await);
        let replica = self.inner.replica.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(replica) = replica {
            // The membership may have got this node's new address a moment ago.
            if let Err(error) = record_address(self, &replica.leadership.metrics()).await {
                tracing::warn!(%error, "this node's address could not be written down; the next start tries again");
            }
            replica.stop(self.settings(), HAND_OVER_TIMEOUT).await;
            self.inner.peers.stop();
            self.set_replica(None);
            tracing::info!(node = replica.identity.node_id, "stopped");
        }
    }
}
