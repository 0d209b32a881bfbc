//! The progress of a probe or a demo on stderr: one line that is updated on a terminal, a line every few seconds
//! elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{Output, text},
    client::probe::Progress,
};

/// Pause between two lines if stderr is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The live line. It owns the last row of stderr while it is shown, so every other line goes through [`Live::say`]. Dropping
/// it removes the line, also on an error.
pub struct Live<'a> {
    output: &'a mut Output,
    bar: Option<ProgressBar>,
    /// When the next line is due, as time since the start, if stderr is no terminal.
    due: Duration,
}

impl<'a> Live<'a> {
    /// Starts with an empty line.
    pub fn new(output: &'a mut Output) -> Self {
        let bar = output.talk_can_redraw().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed");
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { output, bar, due: LINE_INTERVAL }
    }

    /// Shows progress on terminals only. [`Live::say`] still prints everywhere.
    #[must_use]
    pub fn only_on_terminals(mut self) -> Self {
        self.due = Duration::MAX;
        self
    }

    /// Shows the progress.
    pub fn show(&mut self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_message(line(progress));
        } else if progress.elapsed >= self.due {
            self.due = progress.elapsed + LINE_INTERVAL;
            self.output.talk(line(progress));
        }
    }

    /// Prints a line that stays.
    pub fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.output.talk(line),
        }
    }

    /// Removes the live line and returns the output for the answers.
    pub fn output(&mut self) -> &mut Output {
        self.clear();
        self.output
    }

    /// Removes the live line.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `12.0 s  sent 600  acknowledged 598 …`.
pub(super) fn line(progress: &Progress) -> String {
    let leader = match progress.leader.as_str() {
        "" => "no leader".to_owned(),
        leader => format!("{} leads term {}", text::line(leader), progress.term),
    };
    let silent = match progress.last {
        Some(last) => progress.elapsed.saturating_sub(last),
        None => progress.elapsed,
    };
    let pause = if silent > Duration::from_millis(500) {
        format!("  NO WRITE FOR {:.1} s", silent.as_secs_f64())
    } else {
        String::new()
    };
    format!(
        "{:.1} s  sent {}  acknowledged {}  unknown {}  refused {}  {leader}  {} of {} nodes answer{pause}",
        progress.elapsed.as_secs_f64(),
        progress.sent,
        progress.acknowledged,
        progress.unknown,
        progress.refused,
        progress.answering,
        progress.nodes
    )
}
