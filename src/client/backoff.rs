//! The wait between attempts: exponential, with jitter, bounded.

use std::time::Duration;

use crate::types::Entropy;

/// The first step.
const FIRST: Duration = Duration::from_millis(20);
/// The longest step. Elections take about as long, so waiting longer would only delay the caller.
const LONGEST: Duration = Duration::from_millis(500);

/// The waits between attempts: 20 ms, doubling up to 500 ms, each shortened at random by up to a half. The jitter keeps
/// clients that failed together from coming back together.
///
/// Invariant: each wait lies between a half and the whole of the current step, and no step exceeds [`LONGEST`].
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    entropy: Entropy,
}

impl Backoff {
    pub(super) fn new(entropy: Entropy) -> Self {
        Self { next: FIRST, entropy }
    }

    /// The next wait.
    pub(super) fn delay(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST);
        let share = u32::from(u16::from_be_bytes(self.entropy.bytes()));
        full / 2 + full / 2 * share / u32::from(u16::MAX)
    }

    /// Starts over after a success.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_half_a_second_and_never_leave_their_bounds() {
        for byte in [0, 0x7f, 0xff] {
            let mut backoff = Backoff::new(Entropy::new(move |buffer| buffer.fill(byte)));
            let mut full = FIRST;
            for _ in 0..12 {
                let delay = backoff.delay();
                assert!(delay >= full / 2 && delay <= full, "{delay:?} lies outside half of {full:?} to {full:?}");
                full = (full * 2).min(LONGEST);
            }
            backoff.reset();
            assert!(backoff.delay() <= FIRST);
        }
    }
}
