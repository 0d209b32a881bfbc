//! Single checks of a change, as the operator sees them.

use crate::{
    membership::{ACCEPT_LOWER_TOLERANCE, Change, Layout, Verdict, judge},
    wire::admin::Check,
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
            check(accept_lower, detail, format!("give {ACCEPT_LOWER_TOLERANCE} if that is meant"))
        }
        Verdict::Refused { why, next } => check(false, why, next),
    }
}
