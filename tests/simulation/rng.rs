//! Pseudo-random numbers (splitmix64, Steele et al. 2014): small, fast enough, and the same on every platform.

use std::ops::Range;

/// A generator whose numbers follow from its seed alone.
///
/// Invariant: the order of draws is part of what a seed means. A draw that is added, removed or moved changes every run
/// that uses this generator, so each purpose has a generator of its own ([`Rng::of`]).
#[derive(Debug, Clone, Copy)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates an independent generator for `purpose`: more draws from one do not change another.
    pub fn of(seed: u64, purpose: &str) -> Self {
        let mut rng = Self(seed);
        for byte in purpose.bytes() {
            rng.0 = rng.0.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte);
            rng.next();
        }
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Draws from `range`, which must not be empty. The modulo bias is negligible for ranges this small.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Returns true with a probability of `percent` in 100.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// Picks one element. Draws nothing if there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[self.within(0..of.len() as u64) as usize])
    }
}
