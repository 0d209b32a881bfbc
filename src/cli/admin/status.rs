//! The command `status`: one screen about the cluster, which ends with the failures that it survives.

use std::time::Duration;

use super::{
    CommandContext,
    survey::{Survey, survey},
};
use crate::{
    cli::{Failure, Output, Result, Style, Table, text},
    types::limits,
    wire::Address,
};

/// A smaller clock offset is shown as `ok`.
const CLOCK_SHOWN: Duration = Duration::from_millis(250);

/// Prints the state of the cluster. Works without a quorum.
pub(super) async fn once(context: &CommandContext<'_>, output: &mut Output) -> Result<()> {
    let survey = survey(&context.cluster, &context.args.endpoints, context.args.timeout).await?;
    if output.is_json() {
        return output.message(&survey.message());
    }
    screen(&survey, output.has_colour()).into_iter().try_for_each(|line| output.line(line))
}

/// Shows the cluster until interrupted: in place on a terminal, else as one screen after another.
pub(super) async fn watch(context: &CommandContext<'_>, interval: Duration, output: &mut Output) -> Result<()> {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let in_place = output.can_redraw() && !output.is_json();
    if in_place {
        output.raw("\u{1b}[2J")?;
    }
    let mut known = context.args.endpoints.clone();
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return interrupted.map_err(Failure::from),
            shown = show_next(context, &mut known, &mut ticks, in_place, output) => shown?,
        }
    }
}

/// Shows the cluster at the next tick.
///
/// `known` holds the endpoints and the addresses of the members last seen, so the watch continues when the endpoints are
/// gone.
async fn show_next(
    context: &CommandContext<'_>,
    known: &mut Vec<Address>,
    ticks: &mut tokio::time::Interval,
    in_place: bool,
    output: &mut Output,
) -> Result<()> {
    ticks.tick().await;
    // Below the default interval, so that a node that hangs does not make the screen late.
    let timeout = context.args.timeout.min(Duration::from_millis(900));
    let found = survey(&context.cluster, known, timeout).await;
    if let Ok(survey) = &found {
        known.clone_from(&context.args.endpoints);
        known.extend(survey.view.nodes.iter().filter_map(|node| node.address.parse().ok()));
    }
    if output.is_json() {
        return match found {
            Ok(survey) => output.message(&survey.message()),
            Err(failure) => {
                output.talk(failure);
                Ok(())
            }
        };
    }
    let lines = match found {
        Ok(survey) => screen(&survey, output.has_colour()),
        Err(failure) => failure.to_string().lines().map(str::to_owned).collect(),
    };
    output.raw(if in_place { redraw(&lines) } else { lines.join("\n") + "\n\n" })
}

/// Writes the lines over the last screen: goes to the top, clears the rest of each line, then everything below.
fn redraw(lines: &[String]) -> String {
    let body: String = lines.iter().map(|line| format!("{line}\u{1b}[K\r\n")).collect();
    format!("\u{1b}[H{body}\u{1b}[J")
}

/// The lines of the screen.
pub(super) fn screen(survey: &Survey, colour: bool) -> Vec<String> {
    if survey.view.answered_by_id == 0 {
        return vec![
            "this node is in no cluster yet: it waits to be added".to_owned(),
            "  next: run `chat-admin -e ADDRESS-OF-A-MEMBER add-node NAME ITS-ADDRESS`".to_owned(),
        ];
    }
    let mut lines = heading(survey, colour);
    lines.push(String::new());
    lines.extend(nodes(survey).render(colour));
    lines.extend(conditions(survey).into_iter().map(|line| Style::Warn.paint(colour, &line)));
    lines.push(String::new());
    let warnings = clock_warnings(survey);
    if !warnings.is_empty() {
        lines.extend(warnings.iter().map(|line| Style::Warn.paint(colour, text::line(line))));
        lines.push(String::new());
    }
    let words = verdict(survey);
    lines.extend(words.iter().map(|line| accent(&text::line(line), colour)));
    lines
}

fn verdict(survey: &Survey) -> Vec<String> {
    let tolerance = survey.tolerance();
    if !survey.is_cut_off() {
        return tolerance.words();
    }
    let cut_off = format!(
        "  the cluster has a quorum, says {}, but too few nodes answer here to tell what it survives",
        survey.view.answered_by
    );
    vec![tolerance.heading(), cut_off]
}

fn heading(survey: &Survey, colour: bool) -> Vec<String> {
    let view = &survey.view;
    let leader = view.nodes.iter().find(|node| node.node_id == view.leader_id && view.leader_id != 0);
    let leads = match leader {
        Some(leader) => format!("leader {}", leader.name),
        None => "no leader".to_owned(),
    };
    let mut lines = vec![
        text::line(&format!(
            "cluster {}  {leads}  term {}  commit index {}",
            view.cluster_id, view.term, view.commit_index
        ))
        .into_owned(),
    ];
    if !survey.has_quorum() {
        let verdict = "NO QUORUM: writes have stopped, or an election is under way";
        lines.push(Style::Bad.paint(colour, verdict));
    }
    if !survey.is_leaders() {
        lines.push(
            text::line(&format!("as seen by {} and the other nodes that answer here", view.answered_by)).into_owned(),
        );
    }
    lines
}

/// One line for each node that is not as it should be.
fn conditions(survey: &Survey) -> Vec<String> {
    let unfit = survey.view.nodes.iter().filter_map(|node| survey.condition(node).map(|why| (node, why)));
    unfit.map(|(node, why)| text::line(&format!("{} is {}: {}", node.name, why.0, why.1)).into_owned()).collect()
}

fn nodes(survey: &Survey) -> Table {
    let mut table = Table::new(["NAME", "ROLE", "ZONE", "ADDRESS", "REACHABLE", "LAG", "CLOCK", "VERSION"]);
    for node in &survey.view.nodes {
        let (reachable, style) = match (survey.is_reachable(node), survey.answers_us(node)) {
            (true, true) => ("yes", Some(Style::Good)),
            (true, false) => ("by the leader only", Some(Style::Warn)),
            (false, true) => ("not by the leader", Some(Style::Warn)),
            (false, false) => ("NO", Some(Style::Bad)),
        };
        let (reachable, style) = match survey.condition(node) {
            Some((word, _)) => (word, Some(Style::Warn)),
            None => (reachable, style),
        };
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        table.styled_row([
            (node.name.clone(), None),
            (survey.role(node), None),
            (or_dash(&node.zone), None),
            (node.address.clone(), None),
            (reachable.to_owned(), style),
            (survey.lag(node).map_or("-".to_owned(), |lag| lag.to_string()), None),
            clock(survey.clock_offset_ms(node)),
            (or_dash(survey.version(node)), None),
        ]);
    }
    table
}

/// How far a clock is off: `ok` below a quarter of a second, `-` if nobody can tell.
fn clock(offset_ms: Option<i64>) -> (String, Option<Style>) {
    let Some(offset_ms) = offset_ms else { return ("-".to_owned(), None) };
    let size = Duration::from_millis(offset_ms.unsigned_abs());
    if size < CLOCK_SHOWN {
        return ("ok".to_owned(), None);
    }
    let style = if size > limits::CLOCK_OFFSET { Style::Bad } else { Style::Warn };
    (format!("{}{}", if offset_ms > 0 { "+" } else { "-" }, coarse(size)), Some(style))
}

/// A duration in its largest unit, with one decimal.
fn coarse(size: Duration) -> String {
    let seconds = size.as_secs_f64();
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.1}s"),
        _ if seconds < 7_200.0 => format!("{:.1}min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.1}h", seconds / 3_600.0),
        _ => format!("{:.1}days", seconds / 86_400.0),
    }
}

/// Warnings about clocks that are not used, and about log time that a wrong clock has carried ahead.
fn clock_warnings(survey: &Survey) -> Vec<String> {
    let mut lines = Vec::new();
    for node in &survey.view.nodes {
        let Some(offset_ms) = survey.clock_offset_ms(node) else { continue };
        let size = Duration::from_millis(offset_ms.unsigned_abs());
        if size > limits::CLOCK_OFFSET {
            let side = if offset_ms > 0 { "ahead of" } else { "behind" };
            let (name, size) = (&node.name, coarse(size));
            lines.push(format!(
                "the clock of {name} is {size} {side} the majority's and is not used: set it, with NTP best"
            ));
        }
    }
    let log_time_ahead_ms = survey.log_time_ahead_ms();
    if log_time_ahead_ms > 0 {
        let size = coarse(Duration::from_millis(log_time_ahead_ms));
        lines.push(format!("log time is {size} ahead of the nodes' clocks: run `chat-admin correct-time --dry-run`"));
    }
    lines
}

/// Colours the lines of the verdict: red for a loss of writes, bold for headings.
fn accent(line: &str, colour: bool) -> String {
    match () {
        () if line.contains("WRITES STOP") || line.contains("NO QUORUM") => Style::Bad.paint(colour, line),
        () if !line.starts_with(' ') => Style::Bold.paint(colour, line),
        () => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redraw_leaves_nothing_of_a_longer_screen() {
        assert_eq!(redraw(&["a".into(), "b".into()]), "\u{1b}[Ha\u{1b}[K\r\nb\u{1b}[K\r\n\u{1b}[J");
    }
}
