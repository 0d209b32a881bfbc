//! The retired words of `docs/glossary.md` stay retired.
//!
//! The table there is the only list. A `word` is refused everywhere, in any case; a `name` is refused as an identifier
//! of Rust code, outside comments; a `file` is refused as the name of a file or of a module's folder. The glossary
//! itself may name them, and the license is not ours to word.

use std::{fs, path::Path};

use crate::{
    assert_none,
    sources::{code_lines, files, relative, root},
};

/// What people read: every text under these, and these files.
const FOLDERS: &[&str] = &["src", "tests", "docs", "deploy", "scripts", "proto", "examples", "fuzz", ".ci"];
const FILES: &[&str] = &["README.md", "NOTEBOOK.md", "CONTRIBUTING.md", "CHANGELOG.md", "Cargo.toml", "build.rs"];
const GLOSSARY: &str = "docs/glossary.md";

#[derive(Debug, PartialEq)]
struct Retired {
    term: String,
    kind: Kind,
    instead: String,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Kind {
    Word,
    Name,
    File,
}

/// The rows of the table `| retired | kind | instead |`.
fn retired(glossary: &str) -> Vec<Retired> {
    let rows = glossary.lines().skip_while(|line| !line.starts_with("| retired | kind | instead |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [term, kind, instead] = cells[..] else { panic!("{GLOSSARY}: a row of three cells, not: {row}") };
        let kind = match kind {
            "word" => Kind::Word,
            "name" => Kind::Name,
            "file" => Kind::File,
            other => panic!("{GLOSSARY}: {other} is neither word, name nor file: {row}"),
        };
        Retired { term: term.trim_matches('`').to_owned(), kind, instead: instead.to_owned() }
    })
    .collect()
}

/// Whether `text` has `term` between two ends of words. Spaces stand for any white space, a comment's line break too.
fn has(text: &str, term: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(term)
        .any(|(at, _)| !text[..at].ends_with(inside) && !text[at + term.len()..].starts_with(inside))
}

/// Lower case, and a sentence that goes on in the next line of a comment as one line.
fn flattened(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_start_matches(['/', '!', '#', '>', '*']).trim());
    lines.collect::<Vec<_>>().join(" ").to_lowercase()
}

fn texts() -> Vec<(String, String)> {
    let folders = FOLDERS.iter().filter(|folder| root().join(folder).is_dir());
    let inside = folders.flat_map(|folder| files(folder, None)).filter(|path| !ours_to_skip(path));
    let beside = FILES.iter().map(|file| root().join(file)).filter(|path| path.is_file());
    inside.chain(beside).filter_map(|path| Some((relative(&path), fs::read_to_string(&path).ok()?))).collect()
}

/// The list itself, what the fuzzers leave behind, and this rule.
fn ours_to_skip(path: &Path) -> bool {
    let path = relative(path);
    path == GLOSSARY
        || path == "tests/tidy/words.rs"
        || path.starts_with("fuzz/corpus")
        || path.starts_with("fuzz/target")
}

fn broken_in(path: &str, text: &str, rule: &Retired) -> bool {
    match rule.kind {
        Kind::Word => has(&flattened(text), &rule.term.to_lowercase()),
        Kind::Name => path.ends_with(".rs") && has(&code_lines(text), &rule.term),
        Kind::File => {
            let names = Path::new(path).components().filter_map(|part| part.as_os_str().to_str());
            path.ends_with(".rs") && names.into_iter().any(|name| name.trim_end_matches(".rs") == rule.term)
        }
    }
}

#[test]
fn retired_words_stay_retired() {
    let glossary = fs::read_to_string(root().join(GLOSSARY)).expect("docs/glossary.md");
    let rules = retired(&glossary);
    assert!(rules.len() >= 30, "{GLOSSARY} has a table of retired words, with {} rows", rules.len());
    let mut found = Vec::new();
    for (path, text) in texts() {
        for rule in rules.iter().filter(|rule| broken_in(&path, &text, rule)) {
            found.push(format!("{path}: `{}`; say {}", rule.term, rule.instead));
        }
    }
    assert_none(&found, "one word for one thing, and a plain one (docs/glossary.md)");
}

#[test]
fn a_retired_word_is_seen_where_its_kind_says() {
    let table = "| retired | kind | instead |\n|---|---|---|\n| `such a one` | word | this |\n| `Desk` | name | X |\n| `tame` | file | Y |\n\n| `no` | word | row |\n";
    let rules = retired(table);
    assert_eq!(rules.len(), 3);
    let broken = |path: &str, text: &str| rules.iter().filter(|rule| broken_in(path, text, rule)).count();
    assert_eq!(broken("src/a.rs", "/// Such a\n/// one.\nfn f() {}"), 1);
    assert_eq!(broken("src/a.rs", "struct Desk;"), 1);
    assert_eq!(broken("src/a.rs", "// Desk\nlet my_Desk = Desks;"), 0);
    assert_eq!(broken("tests/tame.rs", ""), 1);
    assert_eq!(broken("docs/tame.md", "a such one"), 0);
}
