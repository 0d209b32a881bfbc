//! Runs the golden scripts: a layout in, its tolerance or a verdict out.
//!
//! A node is written `n1@zone`, followed by marks: `/down` does not answer, `/learner` does not vote, `/old` votes in
//! the outgoing set only, `/new` in the incoming set only. Its id is the number in its name, or the number after a dot,
//! as in `n3.7@zone`.

use std::error::Error;

use goldenscript::{Argument, Command, Context};

use super::{Change, Layout, Node, Verdict, judge};
use crate::types::NodeId;

struct Runner(Layout);

#[test]
fn layouts_get_the_verdicts_written_in_the_scripts() {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/membership/testscripts");
    let mut ran = 0;
    for entry in std::fs::read_dir(scripts).unwrap() {
        let path = entry.unwrap().path();
        goldenscript::run(&mut Runner(Layout::new([], [])), &path).unwrap();
        ran += 1;
    }
    assert!(ran >= 4, "only {ran} scripts found");
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args: Vec<&str> = command.args.iter().filter_map(positional).collect();
        match (command.name.as_str(), args.as_slice()) {
            ("plan", []) => {
                self.0 = Layout::of_zones(command.args.iter().filter_map(zone));
                Ok(self.verdict())
            }
            ("layout", nodes) => {
                self.0 = layout(nodes);
                Ok(self.verdict())
            }
            ("fatal", []) => {
                let tolerance = self.0.tolerance();
                Ok(format!("nodes {:?}, zones {:?}\n", tolerance.fatal_nodes, tolerance.fatal_zones))
            }
            ("apply", [verb, rest @ ..]) => {
                self.0 = self.0.after(&change(verb, rest)).map_err(|refused| say(&refused))?;
                Ok(String::new())
            }
            (verb, rest) => Ok(say(&judge(&self.0, &change(verb, rest)))),
        }
    }
}

fn positional(arg: &Argument) -> Option<&str> {
    match arg {
        Argument::Positional(value) => Some(value),
        _ => None,
    }
}

fn zone(arg: &Argument) -> Option<(&str, usize)> {
    match arg {
        Argument::KeyValue(zone, voters) => Some((zone, voters.parse().expect("a number of voters"))),
        _ => None,
    }
}

impl Runner {
    fn verdict(&self) -> String {
        self.0.tolerance().words().join("\n") + "\n"
    }
}

fn say(verdict: &Verdict) -> String {
    let warn = |warnings: &[String]| warnings.iter().map(|text| format!("  warning: {text}\n")).collect::<String>();
    match verdict {
        Verdict::Ok { warnings } => format!("ok\n{}", warn(warnings)),
        Verdict::NeedsFlag { why, warnings } => format!("needs the flag: {why}\n{}", warn(warnings)),
        Verdict::Refused { why, next } => format!("refused: {why}\n  next: {next}\n"),
    }
}

fn change(verb: &str, args: &[&str]) -> Change {
    match (verb, args) {
        ("add", [new]) => Change::Add(node(new)),
        ("add-learner", [new]) => Change::AddLearner(node(new)),
        ("remove", [old]) => Change::Remove(node(old).id),
        ("replace", [old, new]) => Change::Replace { old: node(old).id, new: node(new) },
        ("swap", [old, new]) => Change::Swap { old: node(old).id, new: node(new).id },
        ("promote", [id]) => Change::Promote(node(id).id),
        ("demote", [id]) => Change::Demote(node(id).id),
        _ => panic!("no such command: {verb} {args:?}"),
    }
}

fn layout(specs: &[&str]) -> Layout {
    let marked = |spec: &str, mark: &str| spec.split('/').skip(1).any(|given| given == mark);
    let voters = |but: &str| -> Vec<NodeId> {
        let votes = |spec: &&&str| !marked(spec, "learner") && !marked(spec, but);
        specs.iter().filter(votes).map(|spec| node(spec).id).collect()
    };
    Layout::joint(specs.iter().map(|spec| node(spec)), voters("new"), voters("old"))
}

fn node(spec: &str) -> Node {
    let mut parts = spec.split('/');
    let (name, zone) = {
        let place = parts.next().unwrap_or_default();
        place.split_once('@').unwrap_or((place, ""))
    };
    let (name, id) = name.split_once('.').unwrap_or((name, name.trim_start_matches(char::is_alphabetic)));
    Node {
        id: id.parse().expect("a number in the name, or behind it"),
        name: name.to_owned(),
        zone: zone.to_owned(),
        healthy: !parts.any(|mark| mark == "down"),
    }
}
