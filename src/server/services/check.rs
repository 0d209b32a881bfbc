//! The rules of single request fields, and the write that passed them.
//!
//! A check returns the parsed value where there is a type for it. A fault names the field and the rule; it never
//! repeats a password.

use crate::{
    types::{ConversationId, InvalidName, RequestId, RoomTitle, Username, is_printable, limits},
    wire::{
        Fault, Reason, chat,
        store::{self, command::Verb},
    },
};

/// A write whose fields have all been checked.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::server) struct Write {
    /// Identifies the write across retries, so that it takes effect once (P4).
    pub request_id: RequestId,
    pub verb: Verb,
}

/// A UUIDv7: its timestamp orders the table of outcomes, which is pruned from its front.
pub(super) fn request_id(text: &str) -> Result<RequestId, Fault> {
    text.parse().map_err(|error| Fault {
        field: Some("request_id".to_owned()),
        ..Fault::new(Reason::RequestIdInvalid, format!("{error}"))
            .next("mint one UUIDv7 for the write and send it again with each retry")
    })
}

pub(super) fn username(field: &str, text: &str) -> Result<Username, Fault> {
    name(field, Username::new(text))
}

/// The title in normal form: the log holds no other (ADR 0060).
pub(super) fn title(text: &str) -> Result<String, Fault> {
    Ok(name("title", RoomTitle::normalised(text))?.as_str().to_owned())
}

/// Turns the error of one of the name types into a fault that names the field.
pub(super) fn name<T>(field: &str, checked: Result<T, InvalidName>) -> Result<T, Fault> {
    checked.map_err(|error| Fault::invalid(field, error.to_string()))
}

/// At most [`limits::NAMES_PER_REQUEST`] usernames.
pub(super) fn usernames(field: &str, names: Vec<String>) -> Result<Vec<String>, Fault> {
    at_most(field, names.len(), limits::NAMES_PER_REQUEST, "names")?;
    names.iter().try_for_each(|name| username(field, name).map(drop))?;
    Ok(names)
}

/// A password to be verified. It is bounded, but need not follow the rule for new ones: it may be older than the rule.
pub(super) fn password(field: &str, text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::invalid(field, "the password is empty"));
    }
    at_most(field, text.len(), limits::PASSWORD_BYTES, "bytes")
}

/// A password to be set. Counted in characters, not bytes, so that the rule is the same in every script.
pub(super) fn new_password(field: &str, text: &str) -> Result<(), Fault> {
    password(field, text)?;
    if text.chars().count() < limits::PASSWORD_CHARS_MIN {
        let rule = format!("a password must have at least {} characters", limits::PASSWORD_CHARS_MIN);
        return Err(Fault::invalid(field, rule));
    }
    Ok(())
}

/// The label of a session. Terminals print it in listings, so control characters are refused.
pub(super) fn device(text: &str) -> Result<(), Fault> {
    at_most("device", text.len(), limits::DEVICE_BYTES, "bytes")?;
    if !is_printable(text) {
        return Err(Fault::invalid("device", "a device label must be printable text"));
    }
    Ok(())
}

/// The body of a message: any text, not empty.
pub(super) fn body(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::invalid("body", "the body is empty"));
    }
    at_most("body", text.len(), limits::BODY_BYTES, "bytes")
}

pub(super) fn conversation_id(field: &str, text: &str) -> Result<ConversationId, Fault> {
    text.parse().map_err(|error| Fault::invalid(field, format!("{error}")))
}

/// The id of a session in listings: 16 lower-case hexadecimal digits.
pub(super) fn session_id(text: &str) -> Result<(), Fault> {
    let fits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if fits { Ok(()) } else { Err(Fault::invalid("session_id", "a session_id is 16 hexadecimal digits")) }
}

/// 1 to [`limits::MESSAGE_REFS`] messages.
pub(super) fn refs(references: Vec<chat::MessageRef>) -> Result<Vec<store::MessageRef>, Fault> {
    if references.is_empty() {
        return Err(Fault::invalid("messages", "no message is named"));
    }
    at_most("messages", references.len(), limits::MESSAGE_REFS, "messages")?;
    references.into_iter().map(reference).collect()
}

fn reference(reference: chat::MessageRef) -> Result<store::MessageRef, Fault> {
    let conversation_id = conversation_id("messages.conversation_id", &reference.conversation_id)?.0;
    if reference.seq == 0 {
        return Err(Fault::invalid("messages.seq", "messages are numbered from 1"));
    }
    Ok(store::MessageRef { conversation_id, seq: reference.seq })
}

/// Rows in a page, where 0 means the default, and the length of a page token.
pub(super) fn page(size: i32, token: &str) -> Result<(), Fault> {
    if !usize::try_from(size).is_ok_and(|size| size <= limits::PAGE_SIZE) {
        let rule = format!("page_size must be 1 to {}, or 0 for {}", limits::PAGE_SIZE, limits::PAGE_SIZE_DEFAULT);
        return Err(Fault::invalid("page_size", rule));
    }
    at_most("page_token", token.len(), limits::PAGE_TOKEN_BYTES, "bytes")
}

/// A pattern of usernames; the empty pattern means all.
pub(super) fn pattern(text: &str) -> Result<(), Fault> {
    at_most("pattern", text.len(), limits::PATTERN_BYTES, "bytes")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*?".contains(&byte);
    if !text.bytes().all(allowed) {
        let rule = "a pattern is made of the characters of usernames, `*` for any text and `?` for any character";
        return Err(Fault::invalid("pattern", rule));
    }
    Ok(())
}

/// Refuses more than `most` of `unit`.
pub(super) fn at_most(field: &str, given: usize, most: usize, unit: &str) -> Result<(), Fault> {
    if given <= most {
        return Ok(());
    }
    Err(Fault::invalid(field, format!("{field} has {given} {unit}, the limit is {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field and the reason of the fault.
    fn refused<T: std::fmt::Debug>(checked: Result<T, Fault>) -> (String, Reason) {
        let fault = checked.expect_err("it breaks a rule");
        assert!(!fault.message.is_empty());
        (fault.field.clone().expect("the field is named"), fault.reason)
    }

    fn invalid(field: &str) -> (String, Reason) {
        (field.to_owned(), Reason::InvalidArgument)
    }

    #[test]
    fn empty_and_oversized_names_are_refused_by_field() {
        for bad in ["", "a b", &"a".repeat(limits::USERNAME_BYTES + 1), "аlice"] {
            assert_eq!(refused(username("username", bad)), invalid("username"));
        }
        assert_eq!(refused(title("")), invalid("title"));
        assert_eq!(refused(title(&"x".repeat(limits::ROOM_TITLE_BYTES + 1))), invalid("title"));
        let crowd = vec!["a".to_owned(); limits::NAMES_PER_REQUEST + 1];
        assert_eq!(refused(usernames("members", crowd)), invalid("members"));
        assert_eq!(refused(usernames("members", vec!["ok".into(), "not ok".into()])), invalid("members"));
    }

    #[test]
    fn empty_and_oversized_bodies_are_refused() {
        assert_eq!(refused(body("")), invalid("body"));
        assert_eq!(refused(body(&"x".repeat(limits::BODY_BYTES + 1))), invalid("body"));
        assert_eq!(body(&"x".repeat(limits::BODY_BYTES)), Ok(()));
    }

    #[test]
    fn malformed_request_ids_are_refused_by_their_own_reason() {
        for bad in ["", "1", "9b2b3b6e-6b3e-4c59-8d3c-0a4d4d1c1d11"] {
            assert_eq!(refused(request_id(bad)), ("request_id".to_owned(), Reason::RequestIdInvalid));
        }
    }

    #[test]
    fn page_sizes_and_tokens_are_bounded() {
        for good in [0, 1, 500] {
            assert_eq!(page(good, "1a00"), Ok(()));
        }
        for bad in [-1, 501, 1_000_000_000, i32::MIN] {
            assert_eq!(refused(page(bad, "")), invalid("page_size"));
        }
        assert_eq!(refused(page(0, &"x".repeat(limits::PAGE_TOKEN_BYTES + 1))), invalid("page_token"));
    }

    #[test]
    fn passwords_are_bounded_and_never_repeated_in_a_refusal() {
        assert_eq!(refused(password("password", "")), invalid("password"));
        assert_eq!(refused(new_password("password", "hunter2")), invalid("password"));
        let long = "hunter2".repeat(limits::PASSWORD_BYTES);
        let fault = new_password("password", &long).unwrap_err();
        assert!(!fault.message.contains("hunter2"), "{fault}");
        assert_eq!(new_password("password", "ééééèèèè"), Ok(()), "eight characters, whatever their bytes");
    }

    #[test]
    fn patterns_are_bounded_and_plain() {
        assert_eq!(pattern(""), Ok(()));
        assert_eq!(pattern("al*ce?"), Ok(()));
        assert_eq!(refused(pattern("a[bc]")), invalid("pattern"));
        assert_eq!(refused(pattern(&"*".repeat(limits::PATTERN_BYTES + 1))), invalid("pattern"));
    }

    #[test]
    fn message_references_are_counted_and_checked() {
        let one = |id: &str, seq| chat::MessageRef { conversation_id: id.into(), seq };
        assert_eq!(refs(vec![one("c4", 9)]), Ok(vec![store::MessageRef { conversation_id: 4, seq: 9 }]));
        assert_eq!(refused(refs(vec![])), invalid("messages"));
        assert_eq!(refused(refs(vec![one("c4", 0)])), invalid("messages.seq"));
        assert_eq!(refused(refs(vec![one("4", 1)])), invalid("messages.conversation_id"));
        assert_eq!(refused(refs(vec![one("c4", 1); limits::MESSAGE_REFS + 1])), invalid("messages"));
    }

    #[test]
    fn session_ids_and_device_labels_are_checked() {
        assert_eq!(session_id("0123456789abcdef"), Ok(()));
        for bad in ["", "0123", "0123456789ABCDEF", "0123456789abcdeg"] {
            assert_eq!(refused(session_id(bad)), invalid("session_id"));
        }
        for bad in ["a\u{1b}[2J", "a\nb", "\u{202e}a", "a\u{200b}"] {
            assert_eq!(refused(device(bad)), invalid("device"));
        }
        assert_eq!(refused(device(&"x".repeat(limits::DEVICE_BYTES + 1))), invalid("device"));
    }
}
