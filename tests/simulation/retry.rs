//! The one loop that repeats a call until it is answered.

use quorate::wire::Fault;

/// Repeats `call` until `decide` turns its result into an answer. `decide` returns a fault for "not answered yet";
/// `pause` then waits, and the next attempt follows.
///
/// The loop has no end of its own. A call that is never answered keeps its user from finishing, and that is a violation
/// of the bound in [`Cluster::heal_and_judge`](crate::cluster::Cluster::heal_and_judge).
pub async fn until_answered<T, Answer>(
    call: impl AsyncFn() -> Result<T, Fault>,
    mut decide: impl FnMut(Result<T, Fault>) -> Result<Answer, Fault>,
    pause: impl AsyncFn(&Fault),
) -> Answer {
    loop {
        match decide(call().await) {
            Ok(answer) => return answer,
            Err(fault) => pause(&fault).await,
        }
    }
}
