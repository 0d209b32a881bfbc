//! Shows the progress of a membership change: a bar on a terminal, one line per phase elsewhere, or JSON lines.

use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use crate::{
    cli::{Output, Result, text},
    wire::{
        Fault,
        admin::{ChangeProgress, Check, change_progress::Phase},
        cluster::FaultTolerance,
    },
};

/// Shows the messages of one change, and remembers what its conclusion needs.
///
/// With `--json`, messages go to stdout as they are, and nothing else does. Otherwise progress is talk on stderr, and only
/// the conclusion goes to stdout.
pub(super) struct Progress<'a> {
    output: &'a mut Output,
    bar: Option<ProgressBar>,
    /// The phase that was reported last.
    phase: Phase,
    done: bool,
    /// The leader's note on the result; may be empty.
    note: String,
    checks: Vec<Check>,
    /// Fault tolerance before the change and after it.
    before: Option<FaultTolerance>,
    after: Option<FaultTolerance>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: &'a mut Output) -> Self {
        let bar = (output.talk_can_redraw() && !output.is_json()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar.set_message("looking for the leader");
            bar
        });
        Self {
            output,
            bar,
            phase: Phase::Unspecified,
            done: false,
            note: String::new(),
            checks: Vec::new(),
            before: None,
            after: None,
        }
    }

    pub(super) fn show(&mut self, message: &ChangeProgress) -> Result<()> {
        if message.phase() == Phase::Done {
            self.done = true;
            self.note.clone_from(&message.note);
        }
        if let Some(tolerance) = &message.tolerance {
            let slot = if message.phase() == Phase::Done { &mut self.after } else { &mut self.before };
            *slot = Some(tolerance.clone());
        }
        if self.output.is_json() {
            self.checks.extend(message.checks.iter().cloned());
            return self.output.message(message);
        }
        for check in &message.checks {
            self.check(check);
        }
        if let Some(bar) = &self.bar {
            draw(bar, message);
        }
        if message.phase() != self.phase {
            self.phase = message.phase();
            self.say(&phase_line(message));
        }
        Ok(())
    }

    /// Reports that the stream broke and the change is being resumed.
    pub(super) fn interrupted(&mut self, fault: &Fault) {
        self.phase = Phase::Unspecified;
        self.say(&format!("interrupted ({}); resuming with the current leader", text::line(&fault.message)));
    }

    /// Removes the bar.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Whether the leader has said that the change is done.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The leader's note on the result, if it sent one.
    pub(super) fn note(&self) -> Option<&str> {
        Some(self.note.as_str()).filter(|note| !note.is_empty())
    }

    /// Whether there were checks and all passed.
    pub(super) fn passed_checks(&self) -> bool {
        !self.checks.is_empty() && self.failed_check().is_none()
    }

    /// The first check that failed.
    pub(super) fn failed_check(&self) -> Option<&Check> {
        self.checks.iter().find(|check| !check.ok)
    }

    /// Prints the result and the fault tolerance before and after the change.
    ///
    /// The node `checked` has just answered the checks, but the leader's advice may be older and call it silent. That
    /// advice is left out.
    pub(super) fn conclude(self, done: &str, checked: Option<&str>, dry_run: bool) -> Result<()> {
        if self.output.is_json() {
            return Ok(());
        }
        self.output.line(text::line(done))?;
        let lines = [("before", &self.before), (if dry_run { "then" } else { "now" }, &self.after)];
        for (when, tolerance) in lines.into_iter().filter_map(|(when, it)| it.as_ref().map(|it| (when, it))) {
            self.output.line(format!("  {:<8}{}", format!("{when}:"), summary(tolerance)))?;
        }
        let silent = checked.map(|name| format!("{name} does not answer: "));
        let stale = |advice: &&String| silent.as_ref().is_some_and(|silent| advice.starts_with(silent));
        for advice in self.after.iter().flat_map(|tolerance| &tolerance.advice).filter(|advice| !stale(advice)) {
            self.output.line(format!("  {}", text::line(advice)))?;
        }
        Ok(())
    }

    fn check(&mut self, check: &Check) {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        let mut line = format!("  {mark} {}: {}", text::line(&check.name), text::line(&check.detail));
        if !check.hint.is_empty() {
            line.push_str(&format!(" ({})", text::line(&check.hint)));
        }
        self.checks.push(check.clone());
        self.say(&line);
    }

    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.output.talk(line),
        }
    }
}

/// The line for the start of a phase.
fn phase_line(message: &ChangeProgress) -> String {
    match message.phase() {
        Phase::Unspecified => "starting".to_owned(),
        Phase::Checks => "checks done".to_owned(),
        Phase::LearnerAdded => "learner added".to_owned(),
        Phase::Snapshot => format!("sending a snapshot of {}", HumanBytes(message.bytes_total)),
        Phase::Log => format!("catching up with the log, {} entries behind", message.lag_entries),
        Phase::Joint => "changing the voters".to_owned(),
        Phase::Done => "done".to_owned(),
    }
}

/// Updates the bar.
fn draw(bar: &ProgressBar, message: &ChangeProgress) {
    let eta = message.eta.and_then(|eta| Duration::try_from(eta).ok());
    let eta = eta.map(|eta| format!(", {} to go", HumanDuration(eta))).unwrap_or_default();
    if message.phase() == Phase::Snapshot && message.bytes_total > 0 {
        if bar.length().is_none() {
            let template = "snapshot {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}{msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
        }
        bar.set_length(message.bytes_total);
        bar.set_position(message.bytes_done);
        bar.set_message(eta);
        return;
    }
    bar.unset_length();
    bar.set_style(ProgressStyle::default_spinner());
    bar.set_message(match message.phase() {
        Phase::Log => format!("log: {} entries behind{eta}", message.lag_entries),
        _ => phase_line(message),
    });
}

/// `5 voters, quorum 3, survives any 2 nodes`.
pub(super) fn summary(tolerance: &FaultTolerance) -> String {
    let counted = |number: u32, noun: &str| if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") };
    let mut line = format!("{}, quorum {}", counted(tolerance.voters, "voter"), tolerance.quorum);
    line.push_str(&match tolerance.survives_any_nodes {
        0 => ", survives no failure".to_owned(),
        nodes => format!(", survives any {}", counted(nodes, "node")),
    });
    if tolerance.survives_any_zones > 0 {
        line.push_str(&format!(" and any {}", counted(tolerance.survives_any_zones, "zone")));
    }
    if !tolerance.fatal_zones.is_empty() {
        let zones = tolerance.fatal_zones.join(" ");
        let noun = if tolerance.fatal_zones.len() == 1 { "zone" } else { "any of the zones" };
        line.push_str(&format!("; losing {noun} {} stops writes", text::line(&zones)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_is_survived_and_what_is_not() {
        let tolerance = FaultTolerance {
            voters: 5,
            quorum: 3,
            survives_any_nodes: 2,
            survives_any_zones: 1,
            ..FaultTolerance::default()
        };
        assert_eq!(summary(&tolerance), "5 voters, quorum 3, survives any 2 nodes and any 1 zone");
        let fatal_zones = vec!["a".to_owned(), "b".to_owned()];
        let tolerance = FaultTolerance { voters: 2, quorum: 2, fatal_zones, ..FaultTolerance::default() };
        assert_eq!(
            summary(&tolerance),
            "2 voters, quorum 2, survives no failure; losing any of the zones a b stops writes"
        );
    }
}
