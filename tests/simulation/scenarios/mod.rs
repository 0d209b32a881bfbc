//! Named scenarios of membership changes. Each runs under the load of users, ends with the judge, and has one seed
//! unless `SEEDS` says more. The numbers are used in comments of the scenarios.
//!
//! | | scenario | here | also in |
//! |---|---|---|---|
//! | 1 | an unreachable node is refused before any log entry | [`strangers`] | `tests/cluster/membership.rs` |
//! | 2 | a node of another cluster, a known node, one node added twice | [`changes`] (added twice) | `tests/cluster/membership.rs` |
//! | 3 | the leader dies at any step of a change | [`crashes`] | `tests/cluster/membership.rs` |
//! | 4 | two changes at once | [`changes`] | `tests/cluster/membership.rs` |
//! | 5 | a joint entry on a minority leader is truncated | [`changes`] | `tests/cluster/membership.rs` |
//! | 6 | the leader, a dead node, an isolated node are removed | [`changes`] | `tests/cluster/membership.rs` |
//! | 7 | a removed node does not return with its old disk or its old id | [`strangers`] | `tests/cluster/membership.rs`, `tests/recovery` |
//! | 8 | grow, shrink, replace every node | [`growth`] | `tests/cluster/reconfiguration.rs` |
//! | 9 | the sender or receiver of a snapshot dies, or its disk is full | [`snapshots`] | `tests/cluster/reconfiguration.rs` |
//! | 10 | a learner that lags is not promoted | [`growth`] | `tests/cluster/reconfiguration.rs` |
//! | 11 | one of three is dead | [`growth`] | `tests/cluster/reconfiguration.rs` |
//! | 12 | leadership is transferred to a lagging node, to a dead node, during a change | [`leaders`] | `tests/cluster/reconfiguration.rs` |
//! | 13, 14 | the membership is newer in the log, newer in the snapshot, in the snapshot alone | [`snapshots`] | |
//! | 15, 16 | the old leader is in a minority; the leader is frozen | [`leaders`] | `tests/cluster/promises.rs`, `tests/processes` |
//! | 17 | a clock jumps | [`outages`] | `tests/cluster/promises.rs` |
//! | 18 | all killed at once, again and again | [`outages`] | `tests/cluster/promises.rs` |
//! | 19 | links work in one direction only | [`leaders`] | `tests/cluster/promises.rs` |
//! | 20 | a majority is down | [`outages`] | `tests/cluster/promises.rs` |
//! | | a disk rots | [`rot`] | `src/storage/tests` |

mod changes;
mod crashes;
mod growth;
mod leaders;
mod outages;
mod rot;
mod snapshots;
mod strangers;
