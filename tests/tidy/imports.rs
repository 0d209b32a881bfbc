//! Reads `use` trees and finds the file that defines what they name.
//!
//! It reads text, not types: a path begins with `crate::`, `super::` or `self::`, or with a module that the file
//! itself declares. A name that a facade (`mod.rs`, or `x.rs` beside a folder `x/`) re-exports counts as an import of
//! the file that defines it. Not seen: names that reach a file by a glob or by a macro.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::sources::{Source, files, relative, sources};

/// Re-exports may point at re-exports, this many deep.
const REEXPORTS: usize = 4;

/// A path of module names below the root of a crate.
pub type Module = Vec<String>;

/// One crate, or one folder that is compiled as one: its modules, and what each of them names.
pub struct Tree {
    modules: BTreeMap<Module, Source>,
}

impl Tree {
    /// The modules of the files under `folder`, whose root is `lib.rs`, `main.rs` or `mod.rs`.
    pub fn read(folder: &str) -> Self {
        let modules = sources(folder).into_iter().filter(|source| !source.product.is_empty());
        Self { modules: modules.map(|source| (module(folder, &source.path), source)).collect() }
    }

    /// Every import of one file by another: `(importing, imported)`, facades left out.
    pub fn arrows(&self) -> BTreeSet<(Module, Module)> {
        let mut arrows = BTreeSet::new();
        for (from, source) in self.modules.iter().filter(|(module, _)| !self.is_facade(module)) {
            for path in self.paths(from, source) {
                let to = self.defined_in(&path, REEXPORTS);
                if to != *from && !self.is_facade(&to) {
                    arrows.insert((from.clone(), to));
                }
            }
        }
        arrows
    }

    /// The path of the file that holds `module`.
    pub fn file(&self, module: &Module) -> &str {
        self.modules.get(module).map_or("?", |source| &source.path)
    }

    /// Whether the module has modules of its own: it names them all, and its re-exports are theirs.
    fn is_facade(&self, module: &Module) -> bool {
        module.is_empty() || self.modules.keys().any(|other| other.len() > module.len() && other.starts_with(module))
    }

    /// What `source` names, from the root on.
    fn paths(&self, own: &Module, source: &Source) -> Vec<Module> {
        let mut found = Vec::new();
        for (start, base) in [("crate::", Some(0)), ("self::", Some(own.len())), ("super::", None)] {
            for (at, _) in source.product.match_indices(start) {
                let before = &source.product[..at];
                // `a::super::` and `my_crate::` begin elsewhere; of `super::super::` only the first counts.
                if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let mut rest = &source.product[at..];
                let mut depth = base.unwrap_or(own.len());
                while let Some(after) = rest.strip_prefix("super::") {
                    (rest, depth) = (after, depth.saturating_sub(1));
                }
                rest = rest.strip_prefix("crate::").or(rest.strip_prefix("self::")).unwrap_or(rest);
                let prefix = own[..depth.min(own.len())].to_vec();
                found.extend(leaves(rest).into_iter().map(|leaf| [prefix.clone(), leaf].concat()));
            }
        }
        found
    }

    /// What a facade re-exports or imports of its own modules, by the name it has there.
    fn reexports(&self, facade: &Module) -> Vec<(String, Module)> {
        let Some(source) = self.modules.get(facade) else { return Vec::new() };
        let mut found = Vec::new();
        for (at, _) in source.product.match_indices("use ") {
            let rest = source.product[at + 4..].trim_start().trim_start_matches("self::");
            for leaf in leaves(rest) {
                if self.modules.contains_key(&[facade.clone(), leaf[..1].to_vec()].concat()) {
                    let name = leaf.last().cloned().unwrap_or_default();
                    found.push((name, [facade.clone(), leaf].concat()));
                }
            }
        }
        found
    }

    /// The module that defines what `path` names.
    fn defined_in(&self, path: &Module, reexports: usize) -> Module {
        let depth = (0..=path.len()).rev().find(|depth| self.modules.contains_key(&path[..*depth])).unwrap_or(0);
        let module = path[..depth].to_vec();
        if reexports > 0
            && let Some(name) = path.get(depth)
            && self.is_facade(&module)
            && let Some((_, target)) = self.reexports(&module).into_iter().find(|(known, _)| known == name)
        {
            return self.defined_in(&target, reexports - 1);
        }
        module
    }
}

/// `src/a/b.rs` below `src` is `[a, b]`; `mod.rs`, `lib.rs` and `main.rs` are their folder.
fn module(folder: &str, path: &str) -> Module {
    let inside = path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/');
    let mut names: Module = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        names.pop();
    }
    names
}

/// Every path of a use tree, or the one path that an expression begins with: `a::{b, c::{self, D}}` is `a::b`, `a::c`
/// and `a::c::D`. A new name given by `as` is passed over.
pub fn leaves(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    tree(text, &Vec::new(), &mut found);
    found
}

/// Reads one tree at the beginning of `text`; answers with how many bytes it took.
fn tree(text: &str, prefix: &Module, found: &mut Vec<Module>) -> usize {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut at = name.len();
    let mut path = prefix.clone();
    if !name.is_empty() && name != "self" {
        path.push(name.clone());
    }
    match text[at..].strip_prefix("::") {
        Some(rest) if rest.starts_with('{') => at + 2 + group(rest, &path, found),
        Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_') => at + 2 + tree(rest, &path, found),
        _ if text.starts_with('{') => group(text, &path, found),
        _ => {
            if path != *prefix || name == "self" {
                found.push(path);
            }
            // `as other` and `::*` belong to this tree.
            at += text[at..].find([',', '}', ';', '\n']).unwrap_or(0);
            at
        }
    }
}

/// Reads `{a, b::c}`; answers with how many bytes it took.
fn group(text: &str, prefix: &Module, found: &mut Vec<Module>) -> usize {
    let mut at = 1;
    while let Some(next) = text[at..].chars().next() {
        match next {
            '}' => return at + 1,
            ',' => at += 1,
            c if c.is_whitespace() => at += c.len_utf8(),
            _ => at += tree(&text[at..], prefix, found).max(next.len_utf8()),
        }
    }
    at
}

/// The folders that are compiled as one: the crate, and each folder of tests.
pub fn trees() -> Vec<Tree> {
    let roots = files("tests", Some("rs")).into_iter().filter_map(|path| {
        let root = path.ends_with("main.rs") || path.ends_with("common/mod.rs");
        root.then(|| relative(path.parent().unwrap_or(Path::new(""))))
    });
    std::iter::once("src".to_owned()).chain(roots).map(|folder| Tree::read(&folder)).collect()
}

#[test]
fn a_use_tree_is_read_whole() {
    let read = |text: &str| leaves(text).iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(read("a::{b, c::{self, D as E}, f::*};"), ["a::b", "a::c", "a::c::D", "a::f"]);
    assert_eq!(read("{one, two::three};\nuse x;"), ["one", "two::three"]);
    assert_eq!(read("limits::CALLS + 1"), ["limits::CALLS"]);
    assert_eq!(read("a::{\n    b,\n    c::{\n        d,\n    },\n};"), ["a::b", "a::c::d"]);
}

#[test]
fn a_name_is_looked_for_where_it_is_defined() {
    let tree = Tree::read("src");
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Module>();
    assert_eq!(tree.defined_in(&path("cli::Failure"), REEXPORTS), path("cli::failure"));
    assert_eq!(tree.defined_in(&path("storage::kv::Read"), REEXPORTS), path("storage::kv"));
    assert!(tree.arrows().contains(&(path("cli::failure"), path("cli::exit"))));
}
