//! A histogram of latencies in constant memory, exact to one part in 32 (as HdrHistogram with 5 significant bits).

use std::time::Duration;

/// Buckets per doubling.
const STEPS: u64 = 32;
/// Doublings: values up to 2^36 microseconds, 19 hours. Longer ones count as the longest.
const DOUBLINGS: usize = 32;

/// Counts durations in microseconds: exact below 32 µs, then in buckets about 3 % wide. `count` is the sum of `buckets`.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { buckets: vec![0; STEPS as usize * DOUBLINGS], count: 0 }
    }

    pub(super) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let last = self.buckets.len() - 1;
        self.buckets[bucket(micros).min(last)] += 1;
        self.count += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The quantile `thousandths`/1000, rounded up to the end of its bucket; zero if nothing was recorded.
    pub(super) fn at(&self, thousandths: u64) -> Duration {
        let wanted = (self.count * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(Duration::ZERO, |bucket| Duration::from_micros(upper(bucket)))
    }
}

/// The bucket of a value: one for each value below `STEPS`, then `STEPS` for each doubling.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let shift = micros.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (micros >> shift)) as usize
}

/// The largest value in a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_to_within_three_percent() {
        for micros in (0..100_000).chain((0..36).map(|power| (1 << power) - 1)).chain([5_000_000_000]) {
            let upper = upper(bucket(micros));
            assert!(upper >= micros && upper <= micros + micros / 32, "{micros} is counted as {upper}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.at(500), Duration::ZERO);
        (1..=1000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!(twice.count(), 2000);
        let median = twice.at(500).as_micros();
        assert!((500..=516).contains(&median), "{median}");
        let most = twice.at(999).as_micros();
        assert!((999..=1031).contains(&most), "{most}");
    }
}
