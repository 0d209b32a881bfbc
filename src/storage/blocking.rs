//! Where blocking work runs.

use std::{future::pending, panic::resume_unwind};

/// Where blocking work runs: a thread pool in production, inline inside a simulation, which must stay on one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool of blocking threads; the log has a writer thread of its own.
    Pool,
    /// On the calling thread, before the call returns.
    Inline,
}

impl Blocking {
    /// Runs `f` and answers with its result. A panic in `f` goes on in the caller. When the runtime shuts down before
    /// `f` started, this never resolves: the caller is about to be dropped as well.
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
