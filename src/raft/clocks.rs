//! The cluster's time: what a majority of the voters' wall clocks say (ADR 0070).
//!
//! Every answer to an append or a vote carries the peer's clock. The leader takes the median of the voters' clocks as
//! the cluster's time and tells it to the others with each append. While a node's own clock is within
//! [`limits::CLOCK_OFFSET`] of it, the node uses its own clock, which moves without steps; beyond that it uses the
//! cluster's time. So no single clock moves log time or ends a session.
//!
//! Peers' clocks are carried forward by the monotonic clock, so a step of this node's own wall clock does not move them.
//!
//! Left out: round-trip times. An answer is late by its way back, which makes a peer's clock look slow by as much. That
//! is far below the bound, and a low estimate only makes log time move later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    fault_injection::{self, Bug},
    types::{Clock, NodeId, limits},
};

/// A clock that was not heard for this long is unknown.
const SAMPLE_AGE: Duration = Duration::from_secs(60);
/// How long a leader whose clock seems to be off waits for a fresh answer of a majority before it believes that. After a
/// suspension of the whole cluster the old answers are wrong, not its clock.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// A reading of a clock. `time_ms` is `None` for a node whose program is too old to send it: such a clock counts as equal
/// to the reader's own.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    time_ms: Option<u64>,
    at: Instant,
}

impl Sample {
    /// A reading that arrives now; `None` for 0, which means that the sender cannot tell.
    pub fn now(time_ms: u64) -> Option<Self> {
        (time_ms != 0).then(|| Self { time_ms: Some(time_ms), at: Instant::now() })
    }

    fn is_recent(&self) -> bool {
        self.at.elapsed() <= SAMPLE_AGE
    }

    /// What that clock shows now, if it runs at the speed of this machine's monotonic clock.
    fn now_ms(&self) -> Option<u64> {
        Some(self.time_ms?.saturating_add(millis(self.at.elapsed())))
    }
}

/// Whose clocks count.
#[derive(Debug, Clone, Default)]
pub struct ClockView {
    /// Whether this node leads. Only a leader hears the others' clocks.
    pub leads: bool,
    /// The voter sets: one, or two during a membership change.
    pub voters: Vec<BTreeSet<NodeId>>,
}

/// The clocks of this node and its peers. Cheap to clone; all clones are the same.
///
/// # Invariants
///
/// - On a leader, [`stamp`](Self::stamp) exceeds neither its own clock nor the median of a majority's clocks by more than
///   [`limits::CLOCK_OFFSET`]. Without a majority's clocks it is 0, which leaves log time where it is.
/// - A candidate hears clocks with the votes that elect it, so a new leader knows a majority's from the start.
/// - The lock is held for a few assignments, never across an `await`.
#[derive(Clone)]
pub struct Clocks(Arc<Inner>);

struct Inner {
    id: NodeId,
    own: Clock,
    view: OnceLock<Box<dyn Fn() -> ClockView + Send + Sync>>,
    known: Mutex<Known>,
    /// Notified whenever a peer's clock is heard.
    heard: Notify,
    log_time_ms: AtomicU64,
}

#[derive(Default)]
struct Known {
    peers: BTreeMap<NodeId, Sample>,
    /// The cluster's time, as the leader told it.
    leader: Option<Sample>,
    /// The offset of this node's clock that fresh answers of a majority have confirmed.
    confirmed: Option<i64>,
}

/// What a majority's clocks say of the own one.
enum Judged {
    /// It may be used; this is what it shows.
    Right(u64),
    /// It is off by this much, and this is the cluster's time.
    Off(i64, u64),
    /// A leader hears too few clocks.
    Unknown,
}

impl Clocks {
    /// The clocks as node `id` knows them, whose own clock is `own`.
    pub fn new(id: NodeId, own: Clock) -> Self {
        Self(Arc::new(Inner {
            id,
            own,
            view: OnceLock::new(),
            known: Mutex::default(),
            heard: Notify::new(),
            log_time_ms: AtomicU64::new(0),
        }))
    }

    /// Asks `view` from now on whether this node leads, and who votes.
    pub fn follow(&self, view: impl Fn() -> ClockView + Send + Sync + 'static) {
        let _ = self.0.view.set(Box::new(view));
    }

    /// Records the clock that came with an answer of `peer`; 0 for an older program.
    pub fn record_peer(&self, peer: NodeId, time_ms: u64) {
        let sample = Sample { time_ms: (time_ms != 0).then_some(time_ms), at: Instant::now() };
        self.known().peers.insert(peer, sample);
        self.0.heard.notify_waiters();
    }

    /// Records the cluster's time that came with an accepted append.
    pub fn record_leader(&self, sample: Option<Sample>) {
        if sample.is_some() {
            self.known().leader = sample;
        }
    }

    /// This node's own clock.
    pub fn own_ms(&self) -> u64 {
        self.0.own.now_ms()
    }

    /// The cluster's time; `None` if too few clocks are known.
    pub fn cluster_ms(&self) -> Option<u64> {
        self.cluster_at(&self.view(), self.own_ms(), None)
    }

    /// The time to act by: the own clock, or the cluster's time if the own clock is off.
    pub fn now_ms(&self) -> u64 {
        let own_ms = self.own_ms();
        match self.cluster_at(&self.view(), own_ms, None) {
            Some(cluster_ms) if is_off(own_ms, cluster_ms) => cluster_ms,
            _ => own_ms,
        }
    }

    /// The stamp for a log entry that this leader proposes.
    ///
    /// Before it leaves the own clock aside it waits for a fresh answer of a majority, once for each new offset.
    pub async fn stamp(&self) -> u64 {
        match self.judge_own() {
            Judged::Right(own_ms) => own_ms,
            Judged::Off(offset_ms, cluster_ms) if self.is_confirmed(offset_ms) => cluster_ms,
            Judged::Off(..) | Judged::Unknown => {
                let _ = tokio::time::timeout(CONFIRM_TIMEOUT, self.hear_majority()).await;
                match self.judge_own() {
                    Judged::Right(own_ms) => own_ms,
                    Judged::Off(offset_ms, cluster_ms) => {
                        self.known().confirmed = Some(offset_ms);
                        cluster_ms
                    }
                    Judged::Unknown => 0,
                }
            }
        }
    }

    fn judge_own(&self) -> Judged {
        let (view, own_ms) = (self.view(), self.own_ms());
        match self.cluster_at(&view, own_ms, None) {
            None if view.leads => Judged::Unknown,
            Some(cluster_ms) if is_off(own_ms, cluster_ms) => Judged::Off(offset(own_ms, cluster_ms), cluster_ms),
            _ => Judged::Right(own_ms),
        }
    }

    /// Whether a fresh majority has found the own clock off by about as much before.
    fn is_confirmed(&self, offset_ms: i64) -> bool {
        let confirmed = self.known().confirmed;
        confirmed.is_some_and(|known| known.abs_diff(offset_ms) <= millis(limits::CLOCK_OFFSET))
    }

    /// Waits until a majority of the voters has answered after this call.
    async fn hear_majority(&self) {
        let since = Instant::now();
        loop {
            let heard = self.0.heard.notified();
            if self.cluster_at(&self.view(), self.own_ms(), Some(since)).is_some() {
                return;
            }
            heard.await;
        }
    }

    /// How far the clock of `id` is ahead of the cluster's time, in milliseconds; negative if behind. `None` if this node
    /// cannot tell: only the leader knows the others' clocks.
    pub fn offset_ms(&self, id: NodeId) -> Option<i64> {
        let view = self.view();
        let cluster_ms = self.cluster_at(&view, self.own_ms(), None)?;
        let clock_ms = match id == self.0.id {
            true => Some(self.own_ms()),
            false if view.leads => {
                self.known().peers.get(&id).copied().filter(Sample::is_recent).and_then(|s| s.now_ms())
            }
            false => None,
        };
        Some(offset(clock_ms?, cluster_ms))
    }

    /// Whether every one of `nodes` runs a program that sends its clock.
    pub fn all_report(&self, nodes: impl IntoIterator<Item = NodeId>) -> bool {
        let known = self.known();
        let reports = |id| known.peers.get(&id).is_some_and(|sample| sample.is_recent() && sample.time_ms.is_some());
        nodes.into_iter().all(|id| id == self.0.id || reports(id))
    }

    /// Records log time, as the state shows it.
    pub fn record_log_time(&self, time_ms: u64) {
        self.0.log_time_ms.store(time_ms, Ordering::Relaxed);
    }

    /// How far log time is ahead of the cluster's time, in milliseconds; 0 if that is within the bound or unknown.
    pub fn log_time_ahead_ms(&self) -> u64 {
        let ahead_ms = self.0.log_time_ms.load(Ordering::Relaxed).saturating_sub(self.now_ms());
        // Log time may lead by the bound, and the reading of the cluster's time lags by the age of the last look.
        if ahead_ms > 2 * millis(limits::CLOCK_OFFSET) { ahead_ms } else { 0 }
    }

    fn view(&self) -> ClockView {
        self.0.view.get().map(|view| view()).unwrap_or_default()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster's time, from clocks heard after `since`.
    fn cluster_at(&self, view: &ClockView, own_ms: u64, since: Option<Instant>) -> Option<u64> {
        let known = self.known();
        if !view.leads {
            return known.leader.filter(Sample::is_recent)?.now_ms();
        }
        let clock_of = |id: NodeId| {
            if id == self.0.id {
                return Some(own_ms);
            }
            let sample = known.peers.get(&id).filter(|sample| sample.is_recent())?;
            let fresh = since.is_none_or(|since| sample.at > since);
            fresh.then(|| sample.now_ms().unwrap_or(own_ms))
        };
        majority_ms(&view.voters, clock_of)
    }
}

/// The median of the known clocks of each voter set, and of two sets the earlier one. `None` unless a majority of each
/// set is known. Of two medians the lower one counts: log time that is late heals by itself, log time that is early does
/// not.
fn majority_ms(sets: &[BTreeSet<NodeId>], clock_of: impl Fn(NodeId) -> Option<u64>) -> Option<u64> {
    let median = |set: &BTreeSet<NodeId>| {
        let mut clocks: Vec<u64> = set.iter().filter_map(|id| clock_of(*id)).collect();
        clocks.sort_unstable();
        (clocks.len() > set.len() / 2).then(|| clocks[(clocks.len() - 1) / 2])
    };
    let medians: Option<Vec<u64>> = sets.iter().map(median).collect();
    medians?.into_iter().min()
}

/// Whether a clock is too far off the cluster's time to be used.
fn is_off(clock_ms: u64, cluster_ms: u64) -> bool {
    let off = clock_ms.abs_diff(cluster_ms) > millis(limits::CLOCK_OFFSET);
    off && !fault_injection::enabled(Bug::LeaderClockTrusted)
}

fn offset(clock_ms: u64, cluster_ms: u64) -> i64 {
    let size = i64::try_from(clock_ms.abs_diff(cluster_ms)).unwrap_or(i64::MAX);
    if clock_ms >= cluster_ms { size } else { -size }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    const DAY: i64 = 86_400_000;

    /// Node 1 of the voters 1 to 3 on tokio's paused clock; its wall clock is ahead by the returned number.
    fn leader_of_three() -> (Clocks, Arc<AtomicI64>, impl Fn(i64) -> u64 + Copy + Send + use<>) {
        let start = Instant::now();
        let truth = move |skew_ms: i64| (1_000_000_000_000 + millis(start.elapsed())).saturating_add_signed(skew_ms);
        let skew = Arc::new(AtomicI64::new(0));
        let own = skew.clone();
        let clocks = Clocks::new(1, Clock::new(move || truth(own.load(Ordering::Relaxed))));
        clocks.follow(|| ClockView { leads: true, voters: vec![[1, 2, 3].into()] });
        (clocks, skew, truth)
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_clock_is_days_off_stamps_what_the_majority_says() {
        let (clocks, skew, truth) = leader_of_three();
        assert_eq!(clocks.stamp().await, 0, "it has heard nobody yet");
        let answers = clocks.clone();
        tokio::spawn(async move {
            loop {
                answers.record_peer(2, truth(-300));
                answers.record_peer(3, truth(400));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(clocks.stamp().await, truth(0));
        for days in [2, -2, 30, 0] {
            skew.store(days * DAY, Ordering::Relaxed);
            let stamp = clocks.stamp().await;
            assert!(stamp.abs_diff(truth(0)) <= 1_000, "{days} days: {}", offset(stamp, truth(0)));
            assert!(clocks.now_ms().abs_diff(truth(0)) <= 1_000, "{days} days");
            let shown = clocks.offset_ms(1).expect("a majority is known");
            assert!(shown.abs_diff(days * DAY) <= 1_000, "{days} days: {shown}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_follower_with_a_bad_clock_moves_nothing() {
        let (clocks, _, truth) = leader_of_three();
        for days in [2, -2] {
            clocks.record_peer(2, truth(0));
            clocks.record_peer(3, truth(days * DAY));
            assert_eq!(clocks.stamp().await, truth(0));
            assert_eq!(clocks.offset_ms(3), Some(days * DAY));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_of_the_whole_cluster_a_fresh_answer_decides() {
        let (clocks, skew, truth) = leader_of_three();
        clocks.record_peer(2, truth(0));
        clocks.record_peer(3, truth(0));
        // The machines were suspended: wall clocks went on, the monotonic clock did not.
        skew.store(3_600_000, Ordering::Relaxed);
        let answers = clocks.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            answers.record_peer(2, truth(3_600_000));
        });
        assert_eq!(clocks.stamp().await, truth(3_600_000));
    }

    #[tokio::test(start_paused = true)]
    async fn peers_with_an_older_program_count_as_agreeing() {
        let (clocks, skew, truth) = leader_of_three();
        clocks.record_peer(2, 0);
        clocks.record_peer(3, 0);
        skew.store(2 * DAY, Ordering::Relaxed);
        assert_eq!(clocks.stamp().await, truth(2 * DAY));
        assert!(!clocks.all_report([1, 2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_goes_by_its_leaders_time_when_its_own_clock_is_off() {
        let (clocks, skew, truth) = leader_of_three();
        let follower = Clocks::new(2, clocks.0.own.clone());
        follower.record_leader(Sample::now(truth(0)));
        skew.store(2 * DAY, Ordering::Relaxed);
        assert_eq!((follower.now_ms(), follower.offset_ms(2)), (truth(0), Some(2 * DAY)));
        tokio::time::advance(SAMPLE_AGE * 2).await;
        assert_eq!(follower.now_ms(), truth(2 * DAY), "an old word no longer counts");
    }

    #[test]
    fn the_lower_median_of_a_majority_counts() {
        let clocks = BTreeMap::from([(1, 10), (2, 20), (3, 30), (4, 40)]);
        let of = |sets: &[&[NodeId]]| {
            let sets: Vec<BTreeSet<NodeId>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
            majority_ms(&sets, |id| clocks.get(&id).copied())
        };
        assert_eq!(of(&[&[1]]), Some(10));
        assert_eq!(of(&[&[1, 2, 3]]), Some(20));
        assert_eq!(of(&[&[1, 2, 3, 4]]), Some(20));
        assert_eq!(of(&[&[1, 2, 9]]), Some(10));
        assert_eq!(of(&[&[1, 8, 9]]), None, "one of three is no majority");
        assert_eq!(of(&[&[3, 4], &[1, 2, 3]]), Some(20), "both sets of a joint membership");
        assert_eq!(of(&[]), None);
    }
}
