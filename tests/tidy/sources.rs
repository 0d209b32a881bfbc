//! Reads the source tree: each file whole, and the part of it that ships.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One source file: the part that ships, and the part that only tests see.
pub struct Source {
    /// Relative to the root of the tree.
    pub path: String,
    /// The whole file.
    pub text: String,
    /// The shipped code: empty for a file that only tests see.
    pub product: String,
}

impl Source {
    /// `room/file.rs` → `room`; `lib.rs` → `lib`.
    pub fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split(['/', '.']).next().unwrap_or(inside)
    }

    /// How many modules deep the file is: what so many `super::` climb out of.
    pub fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').filter(|part| *part != "mod.rs").count()
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn files(under: &str, extension: Option<&str>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source tree") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_none_or(|wanted| path.extension().is_some_and(|has| has == wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside the tree").display().to_string()
}

pub fn sources(under: &str) -> Vec<Source> {
    let texts: BTreeMap<PathBuf, String> = files(under, Some("rs"))
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("UTF-8 source");
            (path, text)
        })
        .collect();
    let only_for_tests: Vec<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    // `name.rs` stands for the folder `name` as well.
    let is_test =
        |path: &Path| only_for_tests.iter().any(|test| path.starts_with(test.with_extension("")) || path == test);
    texts
        .into_iter()
        .map(|(path, text)| {
            let product = if is_test(&path) { String::new() } else { code(&text) };
            Source { path: relative(&path), text, product }
        })
        .collect()
}

/// The files of the modules that a file declares under `#[cfg(test)]`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let beside = path.parent().expect("a folder").to_owned();
    let own = path.file_stem().is_some_and(|stem| stem != "mod" && stem != "lib");
    let folder = if own { path.with_extension("") } else { beside.clone() };
    let lines: Vec<&str> = text.lines().map(str::trim).chain([""]).collect();
    let mut files = Vec::new();
    for declared in lines.windows(3).filter(|lines| lines[0] == "#[cfg(test)]") {
        // A file of another name than the module's says so between the two, and stands beside this one.
        if let Some(file) = declared[1].strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            files.push(beside.join(file));
        } else if let Some(name) = declared[1].split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';')) {
            files.push(folder.join(format!("{name}.rs")));
        }
    }
    files
}

/// The shipped code of a file: no comments, and nothing from the first inline test module on (which comes last).
pub fn code(text: &str) -> String {
    let end = ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\nmod test {"]
        .iter()
        .filter_map(|start| text.find(start))
        .min()
        .unwrap_or(text.len());
    code_lines(&text[..end])
}

/// The lines of `text` without their comments.
pub fn code_lines(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("//") {
        // A URL in a string is no comment.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
