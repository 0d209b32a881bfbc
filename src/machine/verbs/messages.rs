//! Sending a message.
//!
//! The recipient is a username or a conversation id. A username stands for the direct conversation with that account,
//! which the first message creates. A message is stored once, however many members its conversation has.

use crate::{
    machine::core::{
        actor::Actor,
        blocks::check_may_write_to,
        context::Context,
        error::{Result, invalid, refuse},
        keys,
        lookup::{live_account, peer_of},
        member::Member,
        records::{load, require, save},
        roster::{check_capacity, insert_member},
        timeline,
    },
    types::{ConversationId, limits},
    wire::{
        Reason,
        store::{self, event_record::Kind, outcome::Result as Done, send_message::Recipient},
    },
};

/// Sends a message. The sender has read it: if everything before it was read, the read mark moves over it.
pub fn send(context: &mut Context<'_>, actor: &Actor, verb: &store::SendMessage) -> Result<Done> {
    if verb.body.is_empty() || verb.body.len() > limits::BODY_BYTES {
        let message = format!("body must be 1 to {} bytes, this one has {}", limits::BODY_BYTES, verb.body.len());
        return invalid("body", message);
    }
    let mut member = match &verb.recipient {
        None => return invalid("recipient", "name a username or a conversation_id to send to"),
        Some(Recipient::Username(name)) => member_of_pair(context, actor, name)?,
        Some(Recipient::ConversationId(number)) => member_of(context, actor, ConversationId(*number))?,
    };
    // Asked before the append, which adds a message that counts as unread until the sender's mark or set says
    // otherwise.
    let had_read_all = member.unread(context.state)? == 0;
    let body = Kind::Body(verb.body.clone());
    let event = timeline::append(context, member.id, &mut member.conversation, actor.id, body)?;
    let seq = member.conversation.last_seq;
    if had_read_all {
        member.move_mark(context, seq)?;
    } else {
        member.read_one(context, seq)?;
    }
    member.record.sent_count += 1;
    member.record.last_sent_seq = seq;
    // The range of own messages, in which a later erasure looks for them.
    if member.record.first_sent_seq == 0 {
        member.record.first_sent_seq = seq;
    }
    // Not `Member::save`: the message event already implies the new read mark, so no separate event is emitted.
    save(context.state, &keys::member(actor.id, member.id), &member.record)?;
    context.save_conversation(member.id, &member.conversation)?;
    Ok(Done::MessageSent(store::MessageSent {
        conversation_id: member.id.0,
        seq,
        cursor: event.cursor,
        sender: actor.account.username.clone(),
        create_time_ms: event.time_ms,
    }))
}

/// The sender in the conversation that it named by id. In a direct one, the peer must be reachable.
fn member_of(context: &Context<'_>, actor: &Actor, id: ConversationId) -> Result<Member> {
    let member = Member::of(context.state, actor.id, id)?;
    if member.conversation.direct {
        let peer_id = peer_of(&member.conversation, actor.id);
        let peer = context.account(peer_id)?;
        check_may_write_to(context, actor, (peer_id, &peer))?;
        if peer.deleted {
            return refuse(Reason::AccountNotFound, format!("the account {} was deleted", peer.username));
        }
    }
    Ok(member)
}

/// The sender in the direct conversation with `name`. The first message creates it; there is one for each pair.
fn member_of_pair(context: &mut Context<'_>, actor: &Actor, name: &str) -> Result<Member> {
    let (peer, peer_account) = live_account(context.state, name)?;
    check_may_write_to(context, actor, (peer, &peer_account))?;
    let pair: Option<store::ConversationRef> = load(context.state, &keys::direct(actor.id, peer))?;
    if let Some(pair) = pair {
        return Member::of(context.state, actor.id, ConversationId(pair.conversation_id));
    }
    // From here on the conversation is new, and counts for both accounts.
    check_capacity(&actor.account)?;
    check_capacity(&peer_account)?;
    let id = context.next_conversation_id();
    let mut conversation = store::ConversationRecord {
        direct: true,
        low_account_id: actor.id.0.min(peer.0),
        high_account_id: actor.id.0.max(peer.0),
        create_time_ms: context.now_ms(),
        ..Default::default()
    };
    save(context.state, &keys::direct(actor.id, peer), &store::ConversationRef { conversation_id: id.0 })?;
    let record = store::MemberRecord { joined_seq: 1, ..Default::default() };
    insert_member(context, id, &mut conversation, actor.id, &record)?;
    if peer != actor.id {
        insert_member(context, id, &mut conversation, peer, &record)?;
    }
    let record = require(context.state, &keys::member(actor.id, id))?;
    Ok(Member { account: actor.id, id, conversation, record })
}
