//! The replica while it runs.
//!
//! [`Replica`] owns one openraft instance and all that stands around it: [`Proposer`] for writes, [`Reader`] for reads,
//! [`Leadership`] for who leads, [`Hub`] for doorbells. `background`, `chores` and `membership_check` are its tasks;
//! `status` describes it on the wire; `metrics` answers questions about openraft's metrics.
//!
//! How a node comes to have a replica is `lifecycle`'s business, and how the membership changes is `change`'s: nothing
//! here uses either.
//!
//! [`Proposer`]: proposer::Proposer
//! [`Reader`]: reads::Reader
//! [`Leadership`]: leadership::Leadership

mod background;
mod chores;
mod clock_watch;
mod correct_time;
mod disk_watch;
mod hub;
mod leadership;
mod membership_check;
pub mod metrics;
mod proposer;
mod reads;
mod replica;
pub mod status;
mod stores;

pub use self::{
    background::{record_address, start as start_background},
    chores::start as start_chores,
    clock_watch::start as start_clock_watch,
    correct_time::CorrectedTime,
    hub::{Doorbell, Hub, Ring},
    proposer::Proposed,
    reads::{applied_index, unreadable_state},
    replica::{Elections, Replica, ReplicaError},
    status::VERSION,
    stores::{STATE, Stores},
};
