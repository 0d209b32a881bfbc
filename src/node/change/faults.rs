//! Faults that several steps of a change share.

use crate::{
    node::consensus::metrics,
    raft::types::Metrics,
    wire::{Fault, Reason, admin::Check},
};

/// Another change is between its two steps.
pub fn change_in_progress() -> Fault {
    Fault::new(Reason::ChangeInProgress, "another membership change is under way")
        .next("repeat the command when `chat-admin status` shows it done")
}

/// The membership is no longer the one that the change was judged on.
pub fn membership_changed(metrics: &Metrics) -> Fault {
    let members = metrics.membership_config.nodes();
    let names: Vec<String> = members.map(|(id, member)| format!("{} (id {id})", member.name)).collect();
    let message = format!("the membership has changed meanwhile; its nodes are now {}", names.join(", "));
    let mut fault =
        Fault::new(Reason::EtagMismatch, message).next("look at `chat-admin status` and repeat the command");
    fault.metadata.insert("etag".into(), metrics::etag(metrics));
    fault
}

/// A check does not pass, so the change is refused.
pub fn check_failed(check: &Check) -> Fault {
    let message = format!("refused by the check `{}`: {}", check.name, check.detail);
    Fault::new(Reason::Unsafe, message).next(check.hint.clone())
}
