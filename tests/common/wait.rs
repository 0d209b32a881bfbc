//! Waiting on facts, with a deadline.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep};

/// More than anything here takes, on a machine that is busy with other things.
pub const TIMEOUT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(15);

/// Looks until `look` finds what it is after; panics after [`TIMEOUT`] with what it found instead.
pub async fn eventually<T, E: Display>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(TIMEOUT, what, look).await
}

/// The same with a timeout of the caller's own.
pub async fn within<T, E: Display>(timeout: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => panic!("{what}: not within {timeout:?}, but: {instead}"),
            Err(_) => sleep(LOOK).await,
        }
    }
}
