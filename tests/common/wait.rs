//! Waits until something is true, with a deadline.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep};

/// Longest wait for anything. Generous, because the machine may be busy with other tests.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Poll interval.
const POLL: Duration = Duration::from_millis(15);

/// Calls `look` until it succeeds and returns its value; panics after [`TIMEOUT`] with the last error.
pub async fn eventually<T, E: Display>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(TIMEOUT, what, look).await
}

/// Like [`eventually`], with another timeout.
pub async fn within<T, E: Display>(timeout: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => panic!("{what}: not within {timeout:?}, but: {instead}"),
            Err(_) => sleep(POLL).await,
        }
    }
}
