//! The named scenarios of membership, each under load and the ledger, each with one seed, or with as many as `SEEDS` says.
//!
//! | | scenario | here | and |
//! |---|---|---|---|
//! | 1 | an unreachable node is refused before any log entry | [`strangers`] | `tests/cluster/membership.rs` |
//! | 2 | foreign, known and doubled nodes | [`changes`] (doubled) | `tests/cluster/membership.rs` |
//! | 3 | the leader dies at any step of a change | [`crashes`] | `tests/cluster/membership.rs` |
//! | 4 | two changes at once | [`changes`] | `tests/cluster/membership.rs` |
//! | 5 | a joint entry on a minority leader is taken back | [`changes`] | `tests/cluster/membership.rs` |
//! | 6 | the leader, a dead node, a lost node are removed | [`changes`] | `tests/cluster/membership.rs` |
//! | 7 | old disks and old ids do not come back | [`strangers`] | `tests/cluster/membership.rs`, `tests/recovery` |
//! | 8 | grow, shrink, replace every node | [`growth`] | `tests/cluster/reconfiguration.rs` |
//! | 9 | sender or receiver of a snapshot dies, its disk is full | [`snapshots`] | `tests/cluster/reconfiguration.rs` |
//! | 10 | a learner that lags is not promoted | [`growth`] | `tests/cluster/reconfiguration.rs` |
//! | 11 | one of three is dead | [`growth`] | `tests/cluster/reconfiguration.rs` |
//! | 12 | leadership is handed to the lagging, to the dead, during a change | [`leaders`] | `tests/cluster/reconfiguration.rs` |
//! | 13, 14 | the membership is newer in the log, newer in the snapshot, in the snapshot alone | [`snapshots`] | |
//! | 15, 16 | the old leader in a minority; a frozen leader | [`leaders`] | `tests/cluster/promises.rs`, `tests/processes` |
//! | 17 | a clock jumps | [`outages`] | `tests/cluster/promises.rs` |
//! | 18 | all killed at once, again and again | [`outages`] | `tests/cluster/promises.rs` |
//! | 19 | links that carry one way only | [`leaders`] | `tests/cluster/promises.rs` |
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
