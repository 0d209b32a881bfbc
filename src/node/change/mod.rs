//! Membership changes: add, replace, remove, promote, demote, move, transfer leadership.
//!
//! # How a change goes
//!
//! [`Node::add_node`](super::Node::add_node) and its siblings run on the leader. Each takes a parsed request and
//!
//! 1. begins a [`ChangeOperation`](operation::ChangeOperation): this node must lead, no other change may be about the same node, and the membership
//!    must be the one that the operator has seen;
//! 2. spawns a task for it, so that the change continues when the client disconnects;
//! 3. judges the change by the nodes that answer now ([`membership::judge`](crate::membership::judge)) and reports the
//!    checks;
//! 4. takes its steps: a new node becomes a learner, catches up, and is promoted; voters change by joint consensus only.
//!
//! Every step is a compare-and-set on the membership that it was judged on (`step`). Each begins with a look at the
//! membership, so the same command given again after any crash continues where the first one ended.
//!
//! | file | what |
//! |---|---|
//! | `requests` | parsed requests |
//! | `operation`, `lock`, `checks`, `faults` | what every change shares |
//! | `liveness` | which nodes answer now |
//! | `preflight` | the checks on a new node |
//! | `admission` | from a new node to a learner |
//! | `catch_up`, `promote` | from learner to voter |
//! | `step` | one guarded entry in the log |
//! | `add`, `replace`, `remove`, `set_role`, `set_address`, `transfer` | the commands |

mod add;
mod admission;
mod catch_up;
mod checks;
mod faults;
mod liveness;
mod lock;
mod operation;
mod preflight;
mod promote;
mod remove;
mod replace;
mod requests;
mod set_address;
mod set_role;
mod step;
mod transfer;

pub(super) use self::{lock::ChangeLock, promote::ReadyLearners};
pub use self::{
    operation::Progress,
    requests::{AddNode, Newcomer, ReplaceNode, SetAddress},
};
