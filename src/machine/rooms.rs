//! Rooms: create, rename, invite, remove, join, leave.
//!
//! Any member may invite and rename; removing somebody else is the owner's. The owner is who created the room, and
//! after them whoever has been there longest. A public room can be found and joined by anyone, a private one only
//! by invitation, and does not tell others that it exists. Who has blocked an account is not invited by it.
//!
//! A room that loses its last member keeps its timeline, for the subscriptions of those who left may still come back
//! for its last events; but it is listed nowhere, and nobody can join it again.

use std::collections::BTreeSet;

use super::{
    accounts::live_account,
    blocking::check_welcome,
    context::Context,
    conversations::{admit, as_member, check_capacity, dismiss, longest_standing, next_id, not_found},
    error::{Result, invalid, refuse},
    keys,
    records::{account_named, exists, load, save},
    sessions::Actor,
};
use crate::{
    storage,
    types::{AccountId, ConversationId, Cursor, RoomTitle, limits},
    wire::{
        Reason,
        store::{self, event_record::Kind, outcome::Result as Done},
    },
};

pub(super) fn create(context: &mut Context<'_>, actor: &Actor, verb: &store::CreateRoom) -> Result<Done> {
    let title = checked_title(&verb.title)?;
    check_capacity(&actor.account)?;
    let mut members = newcomers(context, &verb.members)?;
    members.retain(|member| *member != actor.id);
    for member in &members {
        check_invitable(context, actor, *member)?;
    }
    members.insert(0, actor.id);
    check_size(members.len())?;
    let id = next_id(context);
    let mut room = store::ConversationRecord {
        title,
        private: verb.private,
        owner_account_id: actor.id.0,
        create_time_ms: context.now_ms(),
        ..Default::default()
    };
    if !room.private {
        save(context.state, &keys::public(id), &store::Present {})?;
    }
    welcome(context, id, &mut room, actor.id, &members)?;
    finish(context, id, &room)
}

pub(super) fn update(context: &mut Context<'_>, actor: &Actor, verb: &store::UpdateRoom) -> Result<Done> {
    let id = ConversationId(verb.conversation_id);
    let mut room = as_room(context, actor.id, id)?;
    let title = verb.title.as_deref().map(checked_title).transpose()?;
    let mut joining = newcomers(context, &verb.add_members)?;
    let leaving = leavers(context, actor, id, &room, &verb.remove_members)?;
    if joining.iter().any(|account| leaving.contains(account)) {
        return invalid("add_members and remove_members name the same account; decide for one of them");
    }
    joining = strangers(context, actor, id, &joining)?;
    check_size(room.members as usize + joining.len())?;
    if let Some(title) = title.filter(|title| *title != room.title) {
        room.title.clone_from(&title);
        context.append(id, &mut room, actor.id, Kind::Renamed(title))?;
    }
    if !joining.is_empty() {
        welcome(context, id, &mut room, actor.id, &joining)?;
    }
    if !leaving.is_empty() {
        see_off(context, id, &mut room, actor.id, &leaving)?;
    }
    finish(context, id, &room)
}

pub(super) fn join(context: &mut Context<'_>, actor: &Actor, verb: &store::JoinRoom) -> Result<Done> {
    let id = ConversationId(verb.conversation_id);
    let room: Option<store::ConversationRecord> = load(context.state, &keys::conversation(id))?;
    let Some(mut room) = room else { return not_found(id) };
    if exists(context.state, &keys::member(actor.id, id))? {
        return Ok(changed(id));
    }
    if !exists(context.state, &keys::public(id))? {
        return not_found(id);
    }
    check_capacity(&actor.account)?;
    check_size(room.members as usize + 1)?;
    welcome(context, id, &mut room, actor.id, &[actor.id])?;
    finish(context, id, &room)
}

pub(super) fn leave(context: &mut Context<'_>, actor: &Actor, verb: &store::LeaveRoom) -> Result<Done> {
    let id = ConversationId(verb.conversation_id);
    let mut room = as_room(context, actor.id, id)?;
    see_off(context, id, &mut room, actor.id, &[actor.id])?;
    finish(context, id, &room)
}

fn as_room(context: &Context<'_>, account: AccountId, id: ConversationId) -> Result<store::ConversationRecord> {
    let (room, _) = as_member(context.state, account, id)?;
    if room.direct {
        return refuse(
            Reason::NotAllowed,
            format!("{id} is a direct conversation: it has no title and nobody leaves it"),
        );
    }
    Ok(room)
}

/// Appends the event that these accounts joined, and makes them members.
fn welcome(
    context: &mut Context<'_>,
    id: ConversationId,
    room: &mut store::ConversationRecord,
    by: AccountId,
    accounts: &[AccountId],
) -> storage::Result<()> {
    let account_ids = accounts.iter().map(|account| account.0).collect();
    context.append(id, room, by, Kind::Joined(store::AccountIds { account_ids }))?;
    let member = store::MemberRecord {
        joined_seq: room.last_seq,
        read_seq: room.last_seq,
        read_no: room.message_count,
        ..Default::default()
    };
    for account in accounts {
        admit(context, id, room, *account, &member)?;
    }
    Ok(())
}

/// Appends the event that these members left, ends their membership, and sees to it that the room has an owner or,
/// without members, is no longer offered.
pub(super) fn see_off(
    context: &mut Context<'_>,
    id: ConversationId,
    room: &mut store::ConversationRecord,
    by: AccountId,
    accounts: &[AccountId],
) -> storage::Result<()> {
    let account_ids = accounts.iter().map(|account| account.0).collect();
    let event = context.append(id, room, by, Kind::Left(store::AccountIds { account_ids }))?;
    for account in accounts {
        dismiss(context, id, room, *account, Cursor(event.cursor))?;
    }
    if room.members == 0 {
        context.state.delete(&keys::public(id))?;
    }
    if accounts.contains(&AccountId(room.owner_account_id)) {
        room.owner_account_id = longest_standing(context.state, id)?.map_or(0, |account| account.0);
    }
    Ok(())
}

fn finish(context: &mut Context<'_>, id: ConversationId, room: &store::ConversationRecord) -> Result<Done> {
    context.save_conversation(id, room)?;
    Ok(changed(id))
}

fn changed(id: ConversationId) -> Done {
    Done::RoomChanged(store::RoomChanged { conversation_id: id.0 })
}

fn checked_title(title: &str) -> Result<String> {
    match RoomTitle::new(title) {
        Ok(title) => Ok(title.as_str().to_owned()),
        Err(error) => invalid(error.to_string()),
    }
}

fn check_names(names: &[String]) -> Result<()> {
    if names.len() > limits::NAMES_PER_REQUEST {
        return invalid(format!("one request may name at most {} accounts", limits::NAMES_PER_REQUEST));
    }
    Ok(())
}

fn check_size(members: usize) -> Result<()> {
    if members > limits::ROOM_MEMBERS {
        return refuse(Reason::LimitExceeded, format!("a room has at most {} members", limits::ROOM_MEMBERS));
    }
    Ok(())
}

/// The accounts to admit, each once, in the order of their ids. All exist.
fn newcomers(context: &Context<'_>, names: &[String]) -> Result<Vec<AccountId>> {
    check_names(names)?;
    let mut accounts = BTreeSet::new();
    for name in names {
        accounts.insert(live_account(context, name)?.0);
    }
    Ok(accounts.into_iter().collect())
}

/// Those of `accounts` who are not members yet, and may become members.
fn strangers(
    context: &Context<'_>,
    actor: &Actor,
    id: ConversationId,
    accounts: &[AccountId],
) -> Result<Vec<AccountId>> {
    let mut found = Vec::new();
    for account in accounts {
        if !exists(context.state, &keys::member(*account, id))? {
            check_invitable(context, actor, *account)?;
            found.push(*account);
        }
    }
    Ok(found)
}

/// Refuses to invite one who wants no invitations of the caller, or has no room for another one.
fn check_invitable(context: &Context<'_>, actor: &Actor, account: AccountId) -> Result<()> {
    let record = context.account(account)?;
    check_welcome(context, actor, (account, &record))?;
    check_capacity(&record)
}

/// The members to remove, each once. Who is not a member is not missed.
fn leavers(
    context: &Context<'_>,
    actor: &Actor,
    id: ConversationId,
    room: &store::ConversationRecord,
    names: &[String],
) -> Result<Vec<AccountId>> {
    check_names(names)?;
    let mut accounts = Vec::new();
    for name in names {
        let Some((account, _)) = account_named(context.state, &name.to_ascii_lowercase())? else {
            live_account(context, name)?;
            continue;
        };
        if account != actor.id && room.owner_account_id != actor.id.0 {
            return refuse(Reason::NotAllowed, "only the owner of a room may remove others from it");
        }
        if !accounts.contains(&account) && exists(context.state, &keys::member(account, id))? {
            accounts.push(account);
        }
    }
    Ok(accounts)
}
