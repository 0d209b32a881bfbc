//! Sending.

use super::{
    accounts::live_account,
    blocking::check_direct,
    context::Context,
    conversations::{admit, check_capacity, next_id},
    error::{Result, invalid, refuse},
    keys,
    reading::Place,
    records::{load, require, save},
    sessions::Actor,
};
use crate::{
    types::{AccountId, ConversationId, limits},
    wire::{
        Reason,
        store::{self, event_record::Kind, outcome::Result as Done, send_message::Recipient},
    },
};

pub(super) fn send(context: &mut Context<'_>, actor: &Actor, verb: &store::SendMessage) -> Result<Done> {
    if verb.body.is_empty() || verb.body.len() > limits::BODY_BYTES {
        return invalid(format!("body must be 1 to {} bytes, this one has {}", limits::BODY_BYTES, verb.body.len()));
    }
    let mut place = match &verb.recipient {
        None => return invalid("name a username or a conversation_id to send to"),
        Some(Recipient::Username(name)) => place_with(context, actor, name)?,
        Some(Recipient::ConversationId(number)) => place_in(context, actor, ConversationId(*number))?,
    };
    let had_read_all = place.unread(context.state)? == 0;
    let event = context.append(place.id, &mut place.conversation, actor.id, Kind::Body(verb.body.clone()))?;
    let seq = place.conversation.last_seq;
    if had_read_all {
        place.move_mark(context, seq)?;
    } else {
        place.read_one(context, seq)?;
    }
    place.member.sent_count += 1;
    place.member.last_sent_seq = seq;
    if place.member.first_sent_seq == 0 {
        place.member.first_sent_seq = seq;
    }
    // The mark moved with the message itself, which tells as much: no event of its own.
    save(context.state, &keys::member(actor.id, place.id), &place.member)?;
    context.save_conversation(place.id, &place.conversation)?;
    Ok(Done::MessageSent(store::MessageSent {
        conversation_id: place.id.0,
        seq,
        cursor: event.cursor,
        sender: actor.account.username.clone(),
        create_time_ms: event.time_ms,
    }))
}

/// The sender's place in a conversation that it named.
fn place_in(context: &Context<'_>, actor: &Actor, id: ConversationId) -> Result<Place> {
    let place = Place::of(context.state, actor.id, id)?;
    if place.conversation.direct {
        let peer_id = peer_of(&place.conversation, actor.id);
        let peer = context.account(peer_id)?;
        check_direct(context, actor, (peer_id, &peer))?;
        if peer.deleted {
            return refuse(Reason::AccountNotFound, format!("the account {} was deleted", peer.username));
        }
    }
    Ok(place)
}

/// The other one of a direct conversation; oneself, in notes to oneself.
pub(super) fn peer_of(conversation: &store::ConversationRecord, account: AccountId) -> AccountId {
    let other = conversation.low_account_id ^ conversation.high_account_id ^ account.0;
    AccountId(other)
}

/// The sender's place in the direct conversation with `name`, which the first message creates.
fn place_with(context: &mut Context<'_>, actor: &Actor, name: &str) -> Result<Place> {
    let (peer, peer_account) = live_account(context, name)?;
    check_direct(context, actor, (peer, &peer_account))?;
    let pair: Option<store::ConversationRef> = load(context.state, &keys::direct(actor.id, peer))?;
    if let Some(pair) = pair {
        return Place::of(context.state, actor.id, ConversationId(pair.conversation_id));
    }
    check_capacity(&actor.account)?;
    check_capacity(&peer_account)?;
    let id = next_id(context);
    let mut conversation = store::ConversationRecord {
        direct: true,
        low_account_id: actor.id.0.min(peer.0),
        high_account_id: actor.id.0.max(peer.0),
        create_time_ms: context.now_ms(),
        ..Default::default()
    };
    save(context.state, &keys::direct(actor.id, peer), &store::ConversationRef { conversation_id: id.0 })?;
    let member = store::MemberRecord { joined_seq: 1, ..Default::default() };
    admit(context, id, &mut conversation, actor.id, &member)?;
    if peer != actor.id {
        admit(context, id, &mut conversation, peer, &member)?;
    }
    let member = require(context.state, &keys::member(actor.id, id))?;
    Ok(Place { account: actor.id, id, conversation, member })
}
