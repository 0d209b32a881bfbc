//! Single checks of a change, as the operator sees them.

use super::faults::{change_in_progress, check_failed};
use crate::{
    membership::{ACCEPT_LOWER_TOLERANCE, Change, Layout, Verdict, judge},
    wire::{Fault, admin::Check},
};

/// The checks of a change, and what they were made on.
pub struct Judged {
    /// Each check, in order.
    pub checks: Vec<Check>,
    /// The membership, and which nodes answer.
    pub layout: Layout,
    /// The change that was judged.
    pub change: Change,
}

impl Judged {
    /// Judges only what `change` does to fault tolerance. `accept_lower` is the operator's flag.
    pub fn tolerance(layout: Layout, change: Change, accept_lower: bool) -> Self {
        let checks = vec![tolerance_check(&layout, &change, accept_lower)];
        Self { checks, layout, change }
    }

    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The fault of the first check that failed. A verdict on a joint layout was made half way through another change,
    /// so it says nothing about the time after that, even if that change is done by now.
    pub fn refusal(&self) -> Option<Fault> {
        let failed = self.checks.iter().find(|check| !check.ok)?;
        Some(if self.layout.is_joint() { change_in_progress() } else { check_failed(failed) })
    }
}

/// One check from its detail, or from the detail and the hint of its failure.
pub fn check(name: &str, result: Result<String, (String, &str)>) -> Check {
    match result {
        Ok(detail) => Check { name: name.into(), ok: true, detail, hint: String::new() },
        Err((detail, hint)) => Check { name: name.into(), ok: false, detail, hint: hint.into() },
    }
}

/// The verdict on `change` as a check. A change that needs the operator's flag passes if `accept_lower` gives it.
pub fn tolerance_check(layout: &Layout, change: &Change, accept_lower: bool) -> Check {
    let check = |ok, detail: String, hint: String| Check { name: "fault tolerance".into(), ok, detail, hint };
    match judge(layout, change) {
        Verdict::Ok { warnings } if warnings.is_empty() => check(true, "not lowered".into(), String::new()),
        Verdict::Ok { warnings } => check(true, warnings.join("; "), String::new()),
        Verdict::NeedsFlag { why, warnings } => {
            let detail = std::iter::once(why).chain(warnings).collect::<Vec<_>>().join("; ");
            let hint = match accept_lower {
                true => String::new(),
                false => format!("give {ACCEPT_LOWER_TOLERANCE} if that is meant"),
            };
            check(accept_lower, detail, hint)
        }
        Verdict::Refused { why, next } => check(false, why, next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{membership::Node, wire::Reason};

    #[test]
    fn the_hint_names_the_flag_until_it_is_given() {
        let node = |id| Node { id, name: format!("n{id}"), zone: String::new(), healthy: true };
        let three = Layout::new([node(1), node(2), node(3)], [1, 2, 3]);
        let hint = |accept_lower| tolerance_check(&three, &Change::Remove(3), accept_lower).hint;
        assert_eq!(hint(false), "give --accept-lower-tolerance if that is meant");
        assert_eq!(hint(true), "");
    }

    #[test]
    fn a_verdict_made_half_way_through_another_change_is_a_conflict_and_can_be_repeated() {
        let node = |id| Node { id, name: format!("n{id}"), zone: String::new(), healthy: true };
        let (one, two) = ([1], [2]);
        let joint = Layout::joint([node(1), node(2)], one, two);
        let half_way = Judged::tolerance(joint, Change::Remove(1), false);
        assert_eq!(half_way.refusal().map(|fault| fault.reason), Some(Reason::ChangeInProgress));
        let settled = Judged::tolerance(Layout::new([node(1)], one), Change::Remove(1), false);
        assert_eq!(settled.refusal().map(|fault| fault.reason), Some(Reason::Unsafe));
    }
}
