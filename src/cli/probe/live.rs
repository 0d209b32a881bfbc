//! How far a run is, while it goes on: one line kept up to date on a terminal, now and then a line elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{Output, text},
    client::probe::Progress,
};

/// Between two lines where there is no terminal.
const SELDOM: Duration = Duration::from_secs(5);

/// Talk on stderr.
pub struct Live<'a> {
    output: &'a mut Output,
    bar: Option<ProgressBar>,
    /// When the next line is due, where there is no terminal.
    due: Duration,
}

impl<'a> Live<'a> {
    /// Begins to talk.
    pub fn new(output: &'a mut Output) -> Self {
        let bar = output.talk_is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well formed");
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { output, bar, due: SELDOM }
    }

    /// Shows how far the run is.
    pub fn show(&mut self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_message(line(progress));
        } else if progress.elapsed >= self.due {
            self.due = progress.elapsed + SELDOM;
            self.output.talk(line(progress));
        }
    }

    /// Says something that stays.
    pub fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.output.talk(line),
        }
    }

    /// Ends the talk; where the answers go.
    pub fn output(&mut self) -> &mut Output {
        self.clear();
        self.output
    }

    /// Takes the line off the screen.
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
