//! Randomness, as a seam: production asks the operating system, a simulation derives it from its seed.

use std::{fmt, sync::Arc};

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

/// A source of random bytes for tokens, salts, cluster ids and request ids.
#[derive(Clone)]
pub struct Entropy(Arc<Fill>);

impl Entropy {
    /// The operating system's generator.
    ///
    /// # Panics
    /// When the operating system has no randomness: without it no secret can be made.
    pub fn system() -> Self {
        Self::new(|buffer| getrandom::fill(buffer).expect("the operating system gives random bytes"))
    }

    /// A source that the caller made.
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    /// Fills an array of `N` bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut buffer = [0; N];
        (self.0)(&mut buffer);
        buffer
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
