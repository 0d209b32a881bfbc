//! Conversions of MessageService.

use crate::{
    server::services::{
        check::{self, Write},
        outcome,
    },
    types::ConversationId,
    wire::{
        Fault, chat,
        store::{self, command::Verb},
    },
};

/// The write, and the body for the reply: the outcome does not carry it.
pub(in crate::server) fn send_message(request: chat::SendMessageRequest) -> Result<(Write, String), Fault> {
    use chat::send_message_request::Recipient as Asked;
    use store::send_message::Recipient;
    let request_id = check::request_id(&request.request_id)?;
    let recipient = match request.recipient {
        Some(Asked::Username(name)) => Recipient::Username(check::username("username", &name)?.to_string()),
        Some(Asked::ConversationId(id)) => Recipient::ConversationId(check::conversation_id("conversation_id", &id)?.0),
        None => return Err(Fault::invalid("recipient", "give a username or a conversation_id")),
    };
    check::body(&request.body)?;
    let body = request.body.clone();
    let send = store::SendMessage { recipient: Some(recipient), body: request.body };
    Ok((Write { request_id, verb: Verb::SendMessage(send) }, body))
}

/// The sent message as its sender sees it: read, because one's own messages are.
pub(in crate::server) fn sent(sent: store::MessageSent, body: String, deduplicated: bool) -> chat::SendMessageResponse {
    let message = chat::Message {
        conversation_id: ConversationId(sent.conversation_id).to_string(),
        seq: sent.seq,
        cursor: sent.cursor,
        sender: sent.sender,
        body,
        create_time: Some(outcome::time(sent.create_time_ms)),
        read: true,
        ..Default::default()
    };
    chat::SendMessageResponse { message: Some(message), deduplicated }
}

/// Either single messages, or a conversation up to a sequence number, where 0 means all of it.
pub(in crate::server) fn mark_read(request: chat::MarkReadRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let mark = match (request.conversation_id.as_str(), request.messages.is_empty()) {
        ("", true) => return Err(Fault::invalid("messages", "give messages or a conversation_id")),
        ("", false) if request.up_to_seq > 0 => {
            return Err(Fault::invalid("up_to_seq", "up_to_seq needs a conversation_id"));
        }
        ("", false) => store::MarkRead { messages: check::refs(request.messages)?, ..Default::default() },
        (_, false) => return Err(Fault::invalid("messages", "give messages or a conversation_id, not both")),
        (id, true) => store::MarkRead {
            conversation_id: check::conversation_id("conversation_id", id)?.0,
            up_to_seq: request.up_to_seq,
            ..Default::default()
        },
    };
    Ok(Write { request_id, verb: Verb::MarkRead(mark) })
}

/// Hides the messages for the caller, or erases them for everyone. Only their author may do that; the state machine
/// decides it.
pub(in crate::server) fn delete_messages(request: chat::DeleteMessagesRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let messages = check::refs(request.messages)?;
    let delete = store::DeleteMessages { messages, for_everyone: request.for_everyone };
    Ok(Write { request_id, verb: Verb::DeleteMessages(delete) })
}

/// Checks the bounds of a listing. The query itself checks what the page token says.
pub(in crate::server) fn listing(request: chat::ListMessagesRequest) -> Result<chat::ListMessagesRequest, Fault> {
    use chat::list_messages_request::Recipient;
    match &request.recipient {
        Some(Recipient::Username(name)) => drop(check::username("username", name)?),
        Some(Recipient::ConversationId(id)) => drop(check::conversation_id("conversation_id", id)?),
        None if request.after_seq > 0 => return Err(without_recipient("after_seq")),
        None if request.before_seq > 0 => return Err(without_recipient("before_seq")),
        None => {}
    }
    check::page(request.page_size, &request.page_token)?;
    if request.after_seq > 0 && request.before_seq > 0 {
        return Err(Fault::invalid("before_seq", "give after_seq or before_seq, not both"));
    }
    if request.unread_only && request.before_seq > 0 {
        return Err(Fault::invalid("before_seq", "unread messages are listed oldest first"));
    }
    Ok(request)
}

/// Sequence numbers count within one conversation, so a position without a recipient means nothing.
fn without_recipient(field: &str) -> Fault {
    Fault::invalid(field, format!("{field} needs a username or a conversation_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    fn field<T: std::fmt::Debug>(checked: Result<T, Fault>) -> Option<String> {
        checked.unwrap_err().field
    }

    #[test]
    fn a_message_needs_a_recipient_and_a_body() {
        use chat::send_message_request::Recipient as Asked;
        let request =
            |recipient, body: &str| chat::SendMessageRequest { request_id: ID.into(), recipient, body: body.into() };
        let bob = Some(Asked::Username("bob".into()));
        assert!(send_message(request(bob.clone(), "hi")).is_ok());
        assert_eq!(field(send_message(request(None, "hi"))).as_deref(), Some("recipient"));
        assert_eq!(field(send_message(request(bob, ""))).as_deref(), Some("body"));
        let nobody = Some(Asked::Username(String::new()));
        assert_eq!(field(send_message(request(nobody, "hi"))).as_deref(), Some("username"));
        let nowhere = Some(Asked::ConversationId("room".into()));
        assert_eq!(field(send_message(request(nowhere, "hi"))).as_deref(), Some("conversation_id"));
    }

    #[test]
    fn a_sent_message_is_shown_as_the_state_has_it() {
        let outcome = store::MessageSent {
            conversation_id: 4,
            seq: 2,
            cursor: 99,
            sender: "alice".into(),
            create_time_ms: 1_500,
        };
        let message = sent(outcome, "hi".into(), true);
        assert!(message.deduplicated);
        let message = message.message.unwrap();
        assert_eq!((message.conversation_id.as_str(), message.seq, message.cursor), ("c4", 2, 99));
        assert_eq!(message.create_time, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
        assert!(message.read && !message.deleted);
    }

    #[test]
    fn reading_is_marked_by_messages_or_by_position() {
        let request = |id: &str, up_to_seq, messages: usize| chat::MarkReadRequest {
            request_id: ID.into(),
            messages: vec![chat::MessageRef { conversation_id: "c1".into(), seq: 1 }; messages],
            conversation_id: id.into(),
            up_to_seq,
        };
        assert!(mark_read(request("c1", 0, 0)).is_ok(), "all of it");
        assert!(mark_read(request("c1", 7, 0)).is_ok());
        assert!(mark_read(request("", 0, 1)).is_ok());
        assert_eq!(field(mark_read(request("", 0, 0))).as_deref(), Some("messages"));
        assert_eq!(field(mark_read(request("c1", 0, 1))).as_deref(), Some("messages"));
        assert_eq!(field(mark_read(request("", 7, 1))).as_deref(), Some("up_to_seq"));
    }

    #[test]
    fn a_listing_goes_one_way_and_positions_need_a_conversation() {
        let listed = |recipient: bool, after_seq, before_seq, unread_only| {
            let recipient = recipient.then(|| chat::list_messages_request::Recipient::ConversationId("c1".into()));
            let request = chat::ListMessagesRequest {
                recipient,
                after_seq,
                before_seq,
                unread_only,
                page_size: 0,
                page_token: String::new(),
            };
            listing(request).map(drop).map_err(|fault| fault.field.unwrap())
        };
        assert_eq!(listed(false, 0, 0, true), Ok(()));
        assert_eq!(listed(true, 5, 0, false), Ok(()));
        assert_eq!(listed(true, 5, 9, false), Err("before_seq".to_owned()));
        assert_eq!(listed(false, 5, 0, false), Err("after_seq".to_owned()));
        assert_eq!(listed(false, 0, 5, false), Err("before_seq".to_owned()));
        assert_eq!(listed(true, 0, 5, true), Err("before_seq".to_owned()));
    }
}
