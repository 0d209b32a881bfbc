//! Within a folder, files and subfolders import each other in one direction only.
//!
//! A facade (`mod.rs`) names all that is beside it and is named by it, so it does not count. A subfolder is one thing,
//! seen from the folder that holds it; inside it the rule holds again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    assert_none,
    imports::{Module, Tree, trees},
};

/// A file or subfolder of a folder, and those beside it that it uses.
type Siblings<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The arrows between the children of each folder.
fn folders(arrows: &BTreeSet<(Module, Module)>) -> BTreeMap<&[String], Siblings<'_>> {
    let mut folders: BTreeMap<&[String], Siblings<'_>> = BTreeMap::new();
    for (from, to) in arrows {
        let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        let (Some(user), Some(used)) = (from.get(shared), to.get(shared)) else { continue };
        folders.entry(&from[..shared]).or_default().entry(user).or_default().insert(used);
    }
    folders
}

/// Who can be reached from `start`, itself only if it is in a circle.
fn reached<'a>(siblings: &Siblings<'a>, start: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = siblings.get(start).into_iter().flatten().copied().collect();
    while let Some(name) = next.pop() {
        if found.insert(name) {
            next.extend(siblings.get(name).into_iter().flatten());
        }
    }
    found
}

/// Each circle of a folder: the names in it.
fn circles<'a>(siblings: &Siblings<'a>) -> BTreeSet<Vec<&'a str>> {
    let in_one_with = |name: &'a str| {
        let reached = reached(siblings, name);
        let circle: Vec<&str> =
            reached.iter().copied().filter(|other| self::reached(siblings, other).contains(name)).collect();
        reached.contains(name).then_some(circle)
    };
    siblings.keys().filter_map(|name| in_one_with(name)).collect()
}

/// The imports that a circle is made of, file by file.
fn imports(tree: &Tree, arrows: &BTreeSet<(Module, Module)>, folder: &[String], circle: &[&str]) -> String {
    let inside = |module: &Module| {
        module.starts_with(folder) && module.get(folder.len()).is_some_and(|name| circle.contains(&name.as_str()))
    };
    let crossing =
        arrows.iter().filter(|(from, to)| inside(from) && inside(to) && from[folder.len()] != to[folder.len()]);
    let lines: Vec<String> = crossing.map(|(from, to)| format!("{} uses {}", tree.file(from), tree.file(to))).collect();
    lines.join("\n    ")
}

#[test]
fn files_of_one_folder_import_each_other_in_one_direction() {
    let mut found = Vec::new();
    for tree in trees() {
        let arrows = tree.arrows();
        for (folder, siblings) in folders(&arrows) {
            for circle in circles(&siblings) {
                found.push(format!("{}:\n    {}", circle.join(", "), imports(&tree, &arrows, folder, &circle)));
            }
        }
    }
    assert_none(&found, "files and subfolders of one folder form no circle");
}

#[test]
fn a_circle_is_seen_and_a_chain_is_not() {
    let arrow = |from: &str, to: &str| {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Module>();
        (path(from), path(to))
    };
    let circles_of = |arrows: &BTreeSet<(Module, Module)>| -> Vec<String> {
        folders(arrows).values().flat_map(circles).map(|circle| circle.join(" ")).collect()
    };
    assert!(circles_of(&[arrow("a", "b"), arrow("b", "c"), arrow("a", "c")].into()).is_empty());
    assert_eq!(circles_of(&[arrow("a", "b"), arrow("b", "c"), arrow("c", "a"), arrow("d", "a")].into()), ["a b c"]);
    // Two folders: each file is innocent, the folders are not.
    assert_eq!(circles_of(&[arrow("x::a", "y::b"), arrow("y::c", "x::d")].into()), ["x y"]);
}
