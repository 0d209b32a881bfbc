//! Deleting messages, for oneself or for everyone.
//!
//! Deleting for everyone erases the body from the state and leaves a tombstone, because seqs must stay dense. The body
//! may still be in old log entries until the log is purged, and in old snapshots and backups. Deleting for oneself
//! keeps the message and hides it from one account.

use crate::{
    machine::core::{
        actor::Actor,
        context::Context,
        error::{Result, invalid, refuse},
        keys,
        records::{exists, save},
        references::{Referenced, resolve},
        timeline::{self, is_erased},
    },
    wire::{
        Reason,
        store::{self, account_event, event_record::Kind, outcome::Result as Done},
    },
};

/// Deletes the named messages. Returns how many were not deleted before.
pub fn delete(context: &mut Context<'_>, actor: &Actor, verb: &store::DeleteMessages) -> Result<Done> {
    if verb.messages.is_empty() {
        return invalid("messages", "name the messages to delete");
    }
    let referenced = resolve(context, actor, &verb.messages)?;
    let count = if verb.for_everyone {
        erase_for_everyone(context, actor, referenced)?
    } else {
        hide(context, actor, referenced)?
    };
    Ok(Done::MessagesDeleted(store::MessagesDeleted { count }))
}

/// Replaces the caller's own messages by tombstones, and appends to each conversation an event that names them.
fn erase_for_everyone(context: &mut Context<'_>, actor: &Actor, referenced: Vec<Referenced>) -> Result<u32> {
    // All messages are checked before the first is erased: all or nothing.
    let foreign = |event: &store::EventRecord| event.author_id != actor.id.0;
    if referenced.iter().any(|referenced| referenced.messages.values().any(foreign)) {
        return refuse(Reason::NotAllowed, "only its author may delete a message for everyone");
    }
    let mut count = 0;
    for Referenced { mut member, messages } in referenced {
        let mut seqs = Vec::new();
        for (seq, event) in messages {
            if !is_erased(&event) {
                timeline::erase(context, member.id, &mut member.conversation, seq, event)?;
                seqs.push(seq);
            }
        }
        if seqs.is_empty() {
            continue;
        }
        count += u32::try_from(seqs.len()).unwrap_or(u32::MAX);
        member.record.sent_count = member.record.sent_count.saturating_sub(seqs.len() as u64);
        save(context.state, &keys::member(actor.id, member.id), &member.record)?;
        let deletion = Kind::Deletion(store::Seqs { seqs });
        timeline::append(context, member.id, &mut member.conversation, actor.id, deletion)?;
        context.save_conversation(member.id, &member.conversation)?;
    }
    Ok(count)
}

/// Hides messages from the caller alone. Hidden messages count as read.
fn hide(context: &mut Context<'_>, actor: &Actor, referenced: Vec<Referenced>) -> Result<u32> {
    let mut hidden = Vec::new();
    for Referenced { mut member, messages } in referenced {
        let before = member.record.read_seq;
        let hidden_before = hidden.len();
        for seq in messages.into_keys() {
            let key = keys::hidden(actor.id, member.id, seq);
            if !exists(context.state, &key)? {
                save(context.state, &key, &store::Present {})?;
                member.read_one(context, seq)?;
                hidden.push(store::MessageRef { conversation_id: member.id.0, seq });
            }
        }
        if hidden.len() > hidden_before {
            member.advance_mark(context)?;
            member.save(context, before)?;
        }
    }
    let count = u32::try_from(hidden.len()).unwrap_or(u32::MAX);
    if count > 0 {
        // No timeline may show what one account hid: the event is the account's own.
        let event = store::AccountEvent { kind: Some(account_event::Kind::Hidden(store::Hidden { messages: hidden })) };
        let cursor = context.next_cursor();
        save(context.state, &keys::account_event(actor.id, cursor), &event)?;
    }
    Ok(count)
}
