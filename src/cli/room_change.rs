//! Changes of a room as sentences: created, joined, left, invited, removed, renamed.

use super::text;
use crate::wire::chat::RoomChange;

/// One sentence, such as `alice invited bob`. Names and titles in it are escaped.
pub fn describe(change: &RoomChange) -> String {
    let by = text::line(&change.by);
    let names = |names: &[String]| text::line(&names.join(" ")).into_owned();
    let others: Vec<String> = change.joined.iter().filter(|name| **name != change.by).cloned().collect();
    match (&change.joined[..], &change.left[..]) {
        ([], []) => format!("{by} renamed the room to {}", text::title(&change.title)),
        ([], [one]) if *one == change.by => format!("{by} left"),
        ([], left) => format!("{by} removed {}", names(left)),
        _ if change.seq == 1 && others.is_empty() => format!("{by} created the room"),
        _ if change.seq == 1 => format!("{by} created the room with {}", names(&others)),
        _ if others.is_empty() => format!("{by} joined"),
        _ => format!("{by} invited {}", names(&others)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_says_who_did_what_to_whom() {
        let change = |seq, joined: &[&str], left: &[&str], title: &str| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let (by, title) = ("alice".to_owned(), title.to_owned());
            describe(&RoomChange { seq, by, joined: names(joined), left: names(left), title, ..Default::default() })
        };
        assert_eq!(change(1, &["alice"], &[], ""), "alice created the room");
        assert_eq!(change(1, &["alice", "bob"], &[], ""), "alice created the room with bob");
        assert_eq!(change(2, &["alice"], &[], ""), "alice joined");
        assert_eq!(change(2, &["bob", "carol"], &[], ""), "alice invited bob carol");
        assert_eq!(change(2, &[], &["alice"], ""), "alice left");
        assert_eq!(change(2, &[], &["bob"], ""), "alice removed bob");
        assert_eq!(change(2, &[], &[], "on call"), "alice renamed the room to #\"on call\"");
    }
}
