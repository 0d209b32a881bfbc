//! Where blocking work runs: on a thread pool, or inline in a simulation.

use std::{future::pending, panic::resume_unwind};

/// Where blocking work runs: on a thread pool in production, inline in a simulation, which must stay on one thread to
/// be deterministic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool of blocking threads; the log has a writer thread of its own.
    Pool,
    /// On the calling thread, before the call returns.
    Inline,
}

impl Blocking {
    /// Runs `f` and returns its result. A panic in `f` continues in the caller. If the runtime shuts down before `f`
    /// starts, this future never resolves; the runtime is about to drop the caller too.
    pub async fn run<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Self::Inline => f(),
            Self::Pool => match tokio::task::spawn_blocking(f).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    Err(_cancelled) => pending().await,
                },
            },
        }
    }
}
