//! The house rules that a machine can hold: floors, sizes, and what has no place in the product.

mod circles;
mod imports;
mod sources;
mod words;

use std::fs;

use sources::{files, relative, root, sources};

/// The floors of `src/lib.rs`, lowest first. A room uses only floors below its own.
const FLOORS: &[&[&str]] = &[
    &["types", "fault_injection"],
    &["config", "telemetry", "wire", "storage", "membership"],
    &["machine", "client"],
    &["raft", "cli"],
    &["node"],
    &["server"],
    &["daemon"],
    &["bin"],
];

const LINES: usize = 500;
/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] =
    &[("src/storage/tests/crashes.rs", "one simulated disk and every history on it: apart they would repeat it")];

/// What has no place in the deterministic room, and what to use instead.
const NOT_IN_MACHINE: &[(&str, &str)] = &[
    ("SystemTime", "time comes with the command"),
    ("Instant::now", "time comes with the command"),
    ("HashMap", "its order differs from replica to replica: use BTreeMap"),
    ("HashSet", "its order differs from replica to replica: use BTreeSet"),
    ("rand::", "randomness comes with the command"),
    ("getrandom", "randomness comes with the command"),
    ("f32", "floats round differently"),
    ("f64", "floats round differently"),
    ("thread", "a command is applied where it stands"),
    ("tokio", "a command is applied where it stands"),
    ("tracing", "a state machine has nothing to say"),
];

/// Every room that the code names: `crate::room`, and the first names of `crate::{…}`.
fn rooms_used(code: &str, own_crate: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(own_crate) {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + own_crate.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_names(group)),
            None => found.push(name_at(rest)),
        }
    }
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The names directly inside a group whose brace has been opened.
fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && c.is_alphanumeric() => {
                names.push(name_at(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn a_room_uses_only_the_floors_below_its_own() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| source.room() != "lib") {
        let own =
            floor(source.room()).unwrap_or_else(|| panic!("{} has no floor: give its room one here", source.path));
        let names = if source.room() == "bin" { "quorate::" } else { "crate::" };
        for used in rooms_used(&source.product, names).iter().filter(|used| *used != source.room()) {
            match floor(used) {
                Some(below) if below < own => {}
                Some(_) => broken.push(format!("{} uses {used}", source.path)),
                None => broken.push(format!("{} uses {used}, which is no room", source.path)),
            }
        }
        if source.product.contains(&"super::".repeat(source.depth())) && source.room() != "bin" {
            broken.push(format!("{} climbs out of its room by super::", source.path));
        }
    }
    assert_none(&broken, "a room uses only the floors below its own (see src/lib.rs)");
}

#[test]
fn the_floors_are_those_that_the_library_tells_of() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    for (number, rooms) in FLOORS.iter().enumerate() {
        let row = lib.lines().find(|line| line.starts_with(&format!("//! | {number} |")));
        let row = row.unwrap_or_else(|| panic!("src/lib.rs tells nothing of floor {number}"));
        for room in *rooms {
            assert!(row.contains(&format!("`{room}")), "src/lib.rs does not put {room} on floor {number}: {row}");
        }
    }
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let all = sources("src").into_iter().chain(sources("tests"));
    let long = all.filter(|source| source.text.lines().count() > LINES);
    let unlisted = long.filter(|source| !LONGER.iter().any(|(path, _)| *path == source.path));
    let found: Vec<String> =
        unlisted.map(|source| format!("{} has {} lines", source.path, source.text.lines().count())).collect();
    assert_none(&found, "a file is one idea, under 500 lines");
}

#[test]
fn nothing_in_the_product_unwraps_or_is_left_to_do() {
    let mut found = Vec::new();
    // Put together here, so that this file does not find itself.
    let unfinished = ["todo", "dbg", "unimplemented"].map(|word| format!("{word}!("));
    for source in sources("src") {
        for (number, line) in source.product.lines().enumerate() {
            if line.contains(".unwrap()") {
                found.push(format!("{}:{}: unwrap() outside tests", source.path, number + 1));
            }
        }
    }
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(word) = unfinished.iter().find(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    assert_none(&found, "errors are values with a cause, and nothing is left half done");
}

#[test]
fn the_state_machine_is_deterministic_by_what_it_uses() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| source.room() == "machine") {
        for (number, line) in source.product.lines().enumerate() {
            for (word, instead) in NOT_IN_MACHINE.iter().filter(|(word, _)| line.contains(word)) {
                found.push(format!("{}:{}: {word}: {instead}", source.path, number + 1));
            }
        }
    }
    assert_none(&found, "machine/ decides by state, command and time alone");
}

#[test]
fn every_injected_fault_is_made_in_one_place() {
    let sources = sources("src");
    let room = sources.iter().find(|source| source.path == "src/fault_injection.rs").expect("src/fault_injection.rs");
    let names: Vec<&str> = room
        .product
        .lines()
        .filter_map(|line| line.trim().split_once(" = \"").map(|(name, _)| name))
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .collect();
    assert!(names.len() >= 10, "the bugs were not found in src/fault_injection.rs: {names:?}");
    let mut found = Vec::new();
    for name in names {
        let asked = format!("fault_injection::enabled(Bug::{name})");
        let places: usize = sources.iter().map(|source| source.product.matches(&asked).count()).sum();
        if places != 1 {
            found.push(format!("{name} is made in {places} places"));
        }
    }
    assert_none(&found, "a bug that is made nowhere is found by nobody, and one made twice is two");
}

#[test]
fn what_is_delivered_is_built_without_fault_injection() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let features = manifest.split("[features]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("features");
    let mut found: Vec<String> = features
        .lines()
        .filter(|line| !line.trim().starts_with('#') && !line.starts_with("fault-injection = []"))
        .filter(|line| line.contains("fault-injection"))
        .map(|line| format!("Cargo.toml: {line}"))
        .collect();
    for path in files("deploy", None).into_iter().chain(files("scripts", None)) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let builds = |line: &&str| line.contains("--all-features") || line.contains("fault-injection");
        let tests = |line: &&str| line.contains("cargo test");
        let lines = text.lines().filter(builds).filter(|line| !tests(line));
        found.extend(lines.map(|line| format!("{}: {}", relative(&path), line.trim())));
    }
    assert_none(&found, "mistakes made on purpose are for tests alone");
}

#[test]
fn every_promise_is_named_by_a_test() {
    let mut tests = String::new();
    for source in sources("src") {
        tests.push_str(if source.product.is_empty() {
            &source.text
        } else {
            source.text.split("#[cfg(test)]").nth(1).unwrap_or("")
        });
    }
    for path in files("tests", Some("rs")).iter().filter(|path| !path.starts_with(root().join("tests/tidy"))) {
        tests.push_str(&fs::read_to_string(path).expect("UTF-8 source"));
    }
    let named = |promise: &str| {
        tests.match_indices(promise).any(|(at, _)| !tests[at + 2..].starts_with(|next: char| next.is_alphanumeric()))
    };
    let missing: Vec<String> = (1..=8).map(|n| format!("P{n}")).filter(|promise| !named(promise)).collect();
    assert_none(&missing, "every promise has tests that carry its number");
}

#[test]
fn the_reader_of_use_lines_sees_what_they_name() {
    let code = "use crate::{\n    wire::{Fault, store::{a}},\n    node,\n};\nuse crate::types;\nfn f() { mycrate::x(); crate::cli::run() }";
    assert_eq!(rooms_used(code, "crate::"), ["wire", "node", "types", "cli"]);
}
