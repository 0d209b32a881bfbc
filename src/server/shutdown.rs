//! How the services learn that the server stops.
//!
//! A stream that lives longer than a call waits for [`Shutdown::requested`] and then ends with
//! [`shutting_down`](super::faults::shutting_down), so that its reader can tell an end from a completion.

use tokio::sync::watch;

/// Requests the shutdown.
pub(super) struct Stop(watch::Sender<bool>);

impl Stop {
    pub fn send(&self) {
        self.0.send_replace(true);
    }
}

/// Tells when the shutdown was requested. It happens at most once and is never taken back.
#[derive(Debug, Clone)]
pub(super) struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    pub fn channel() -> (Stop, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stop(sender), Self(receiver))
    }

    /// Waits for the shutdown. Returns at once if it was requested before, or if the server is gone.
    pub async fn requested(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
