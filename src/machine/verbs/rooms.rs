//! Rooms: create, rename, invite, remove, join, leave.
//!
//! - Any member may invite and rename. Only the owner may remove others. The owner is the account that created the
//!   room; when it leaves, the member who joined first becomes the owner.
//! - Anyone may find and join a public room. A private room is joined by invitation only, and nobody outside learns
//!   that it exists.
//! - An account cannot invite another that has blocked it.
//! - A room that loses its last member keeps its timeline, because subscriptions of former members may still ask for
//!   its last events. It is no longer listed, and nobody can join it.

use std::collections::BTreeSet;

use crate::{
    machine::core::{
        actor::Actor,
        blocks::check_not_blocked_by,
        context::Context,
        error::{Result, invalid, refuse},
        keys,
        lookup::{known_account, live_account, no_conversation},
        member::Member,
        records::{exists, load, save},
        roster::{add_to_room, check_capacity, remove_from_room},
        timeline,
    },
    types::{AccountId, ConversationId, RoomTitle, limits},
    wire::{
        Reason,
        store::{self, event_record::Kind, outcome::Result as Done},
    },
};

/// Creates a room with the caller as its owner and first member.
pub fn create(context: &mut Context<'_>, actor: &Actor, verb: &store::CreateRoom) -> Result<Done> {
    let title = checked_title(&verb.title)?;
    check_capacity(&actor.account)?;
    let mut members = accounts_named(context, "members", &verb.members)?;
    members.retain(|member| *member != actor.id);
    for member in &members {
        check_invitable(context, actor, *member)?;
    }
    members.insert(0, actor.id);
    check_size(members.len())?;
    let id = context.next_conversation_id();
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
    add_to_room(context, id, &mut room, actor.id, &members)?;
    finish(context, id, &room)
}

/// Renames a room, adds and removes members; whatever of that the command names.
pub fn update(context: &mut Context<'_>, actor: &Actor, verb: &store::UpdateRoom) -> Result<Done> {
    let id = ConversationId(verb.conversation_id);
    let mut room = room_of(context, actor.id, id)?;
    let title = verb.title.as_deref().map(checked_title).transpose()?;
    let named = accounts_named(context, "add_members", &verb.add_members)?;
    // Everything is checked before the first change: all or nothing.
    let leaving = members_to_remove(context, actor, id, &room, &verb.remove_members)?;
    if named.iter().any(|account| leaving.contains(account)) {
        let message = "add_members and remove_members name the same account; decide for one of them";
        return invalid("add_members", message);
    }
    let joining = members_to_add(context, actor, id, &named)?;
    check_size(room.members as usize + joining.len())?;
    if let Some(title) = title.filter(|title| *title != room.title) {
        room.title.clone_from(&title);
        timeline::append(context, id, &mut room, actor.id, Kind::Renamed(title))?;
    }
    if !joining.is_empty() {
        add_to_room(context, id, &mut room, actor.id, &joining)?;
    }
    if !leaving.is_empty() {
        remove_from_room(context, id, &mut room, actor.id, &leaving)?;
    }
    finish(context, id, &room)
}

/// Makes the caller a member of a public room. A member stays one.
pub fn join(context: &mut Context<'_>, actor: &Actor, verb: &store::JoinRoom) -> Result<Done> {
    let id = ConversationId(verb.conversation_id);
    let room: Option<store::ConversationRecord> = load(context.state, &keys::conversation(id))?;
    let Some(mut room) = room else { return Err(no_conversation(id).into()) };
    // Before the check for public rooms: a member of a private room may repeat the call too.
    if exists(context.state, &keys::member(actor.id, id))? {
        return Ok(changed(id));
    }
    if !exists(context.state, &keys::public(id))? {
        return Err(no_conversation(id).into());
    }
    check_capacity(&actor.account)?;
    check_size(room.members as usize + 1)?;
    add_to_room(context, id, &mut room, actor.id, &[actor.id])?;
    finish(context, id, &room)
}

/// Ends the caller's membership.
pub fn leave(context: &mut Context<'_>, actor: &Actor, verb: &store::LeaveRoom) -> Result<Done> {
    let id = ConversationId(verb.conversation_id);
    let mut room = room_of(context, actor.id, id)?;
    remove_from_room(context, id, &mut room, actor.id, &[actor.id])?;
    finish(context, id, &room)
}

/// The room, or a refusal if the caller is not in it or it is a direct conversation.
fn room_of(context: &Context<'_>, account: AccountId, id: ConversationId) -> Result<store::ConversationRecord> {
    let room = Member::of(context.state, account, id)?.conversation;
    if room.direct {
        return refuse(
            Reason::NotAllowed,
            format!("{id} is a direct conversation: it has no title and nobody leaves it"),
        );
    }
    Ok(room)
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
        Err(error) => invalid("title", error.to_string()),
    }
}

fn check_names(field: &'static str, names: &[String]) -> Result<()> {
    if names.len() > limits::NAMES_PER_REQUEST {
        return invalid(field, format!("one request may name at most {} accounts", limits::NAMES_PER_REQUEST));
    }
    Ok(())
}

fn check_size(members: usize) -> Result<()> {
    if members > limits::ROOM_MEMBERS {
        return refuse(Reason::LimitExceeded, format!("a room has at most {} members", limits::ROOM_MEMBERS));
    }
    Ok(())
}

/// The accounts that `field` names, each once, by ascending id. All must exist.
fn accounts_named(context: &Context<'_>, field: &'static str, names: &[String]) -> Result<Vec<AccountId>> {
    check_names(field, names)?;
    let mut accounts = BTreeSet::new();
    for name in names {
        accounts.insert(live_account(context.state, name)?.0);
    }
    Ok(accounts.into_iter().collect())
}

/// Those of `accounts` that are not members yet. Refuses if one of them cannot become a member.
fn members_to_add(
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

/// Refuses to invite an account that has blocked the caller, or that is in too many conversations.
fn check_invitable(context: &Context<'_>, actor: &Actor, account: AccountId) -> Result<()> {
    let record = context.account(account)?;
    check_not_blocked_by(context, actor, (account, &record))?;
    check_capacity(&record)
}

/// The members that `remove_members` names, each once. Names of other accounts are passed over, so that a repeated
/// request has the same outcome.
fn members_to_remove(
    context: &Context<'_>,
    actor: &Actor,
    id: ConversationId,
    room: &store::ConversationRecord,
    names: &[String],
) -> Result<Vec<AccountId>> {
    check_names("remove_members", names)?;
    let mut accounts = Vec::new();
    for name in names {
        let (account, _) = known_account(context.state, name)?;
        if account != actor.id && room.owner_account_id != actor.id.0 {
            return refuse(Reason::NotAllowed, "only the owner of a room may remove others from it");
        }
        if !accounts.contains(&account) && exists(context.state, &keys::member(account, id))? {
            accounts.push(account);
        }
    }
    Ok(accounts)
}
