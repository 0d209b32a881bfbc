//! Conversions of ConversationService.

use crate::{
    server::services::check::{self, Write},
    wire::{
        Fault, chat,
        store::{self, command::Verb},
    },
};

pub(in crate::server) fn create_room(request: chat::CreateRoomRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let title = check::title(&request.title)?;
    let members = check::usernames("members", request.members)?;
    let create = store::CreateRoom { title, private: request.private, members };
    Ok(Write { request_id, verb: Verb::CreateRoom(create) })
}

/// A change of the title, of the members, or of both. At least one must be given.
pub(in crate::server) fn update_room(request: chat::UpdateRoomRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let conversation_id = check::conversation_id("conversation_id", &request.conversation_id)?.0;
    let title = request.title.as_deref().map(check::title).transpose()?;
    let add_members = check::usernames("add_members", request.add_members)?;
    let remove_members = check::usernames("remove_members", request.remove_members)?;
    if title.is_none() && add_members.is_empty() && remove_members.is_empty() {
        return Err(Fault::invalid("title", "there is nothing to change: give a title, add_members or remove_members"));
    }
    let update = store::UpdateRoom { conversation_id, title, add_members, remove_members };
    Ok(Write { request_id, verb: Verb::UpdateRoom(update) })
}

pub(in crate::server) fn join_room(request: chat::JoinRoomRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let conversation_id = check::conversation_id("conversation_id", &request.conversation_id)?.0;
    Ok(Write { request_id, verb: Verb::JoinRoom(store::JoinRoom { conversation_id }) })
}

pub(in crate::server) fn leave_room(request: chat::LeaveRoomRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let conversation_id = check::conversation_id("conversation_id", &request.conversation_id)?.0;
    Ok(Write { request_id, verb: Verb::LeaveRoom(store::LeaveRoom { conversation_id }) })
}

/// Checks the bounds of a listing. The query itself checks what the page token says.
pub(in crate::server) fn listing(
    request: chat::ListConversationsRequest,
) -> Result<chat::ListConversationsRequest, Fault> {
    check::page(request.page_size, &request.page_token)?;
    if request.unread_only && request.joinable {
        return Err(Fault::invalid("joinable", "a room that can still be joined has nothing unread"));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    fn update(title: Option<&str>, add: &[&str]) -> chat::UpdateRoomRequest {
        chat::UpdateRoomRequest {
            request_id: ID.into(),
            conversation_id: "c7".into(),
            title: title.map(str::to_owned),
            add_members: add.iter().map(ToString::to_string).collect(),
            remove_members: vec![],
        }
    }

    #[test]
    fn an_update_that_changes_nothing_is_refused() {
        assert!(update_room(update(Some("ops"), &[])).is_ok());
        assert!(update_room(update(None, &["bob"])).is_ok());
        assert_eq!(update_room(update(None, &[])).unwrap_err().field.as_deref(), Some("title"));
        assert_eq!(update_room(update(Some(""), &["bob"])).unwrap_err().field.as_deref(), Some("title"));
    }

    #[test]
    fn a_title_enters_the_log_in_one_form() {
        let create = |title: &str| {
            let request = chat::CreateRoomRequest { request_id: ID.into(), title: title.into(), ..Default::default() };
            create_room(request).unwrap().verb
        };
        assert_eq!(create("cafe\u{301}"), create("caf\u{e9}"));
        assert_eq!(update_room(update(Some("cafe\u{301}"), &[])), update_room(update(Some("caf\u{e9}"), &[])));
    }

    #[test]
    fn a_malformed_conversation_id_is_refused_by_name() {
        for bad in ["", "7", "c0"] {
            let request = chat::JoinRoomRequest { request_id: ID.into(), conversation_id: bad.into() };
            assert_eq!(join_room(request).unwrap_err().field.as_deref(), Some("conversation_id"));
        }
    }

    #[test]
    fn a_listing_is_of_unread_or_of_joinable_conversations_not_both() {
        let request = chat::ListConversationsRequest { unread_only: true, joinable: true, ..Default::default() };
        assert_eq!(listing(request).unwrap_err().field.as_deref(), Some("joinable"));
    }
}
