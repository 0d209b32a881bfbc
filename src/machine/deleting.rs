//! Deleting messages: for oneself, or for everyone.

use super::{
    context::Context,
    error::{Result, invalid, refuse},
    keys,
    reading::{Referred, refer},
    records::{exists, is_erased, save},
    sessions::Actor,
};
use crate::{
    storage,
    types::ConversationId,
    wire::{
        Reason,
        store::{self, account_event, event_record::Kind, outcome::Result as Done},
    },
};

pub(super) fn delete(context: &mut Context<'_>, actor: &Actor, verb: &store::DeleteMessages) -> Result<Done> {
    if verb.messages.is_empty() {
        return invalid("name the messages to delete");
    }
    let referred = refer(context, actor, &verb.messages)?;
    let count =
        if verb.for_everyone { erase_for_everyone(context, actor, referred)? } else { hide(context, actor, referred)? };
    Ok(Done::MessagesDeleted(store::MessagesDeleted { count }))
}

/// Takes the bodies out of the state, and appends an event that says so.
fn erase_for_everyone(context: &mut Context<'_>, actor: &Actor, referred: Vec<Referred>) -> Result<u32> {
    let foreign = |event: &store::EventRecord| event.author_id != actor.id.0;
    if referred.iter().any(|referred| referred.messages.values().any(foreign)) {
        return refuse(Reason::NotAllowed, "only its author may delete a message for everyone");
    }
    let mut count = 0;
    for Referred { mut place, messages } in referred {
        let mut seqs = Vec::new();
        for (seq, event) in messages {
            if !is_erased(&event) {
                erase(context, place.id, &mut place.conversation, seq, event)?;
                seqs.push(seq);
            }
        }
        if seqs.is_empty() {
            continue;
        }
        count += u32::try_from(seqs.len()).unwrap_or(u32::MAX);
        place.member.sent_count = place.member.sent_count.saturating_sub(seqs.len() as u64);
        save(context.state, &keys::member(actor.id, place.id), &place.member)?;
        context.append(place.id, &mut place.conversation, actor.id, Kind::Deletion(store::Seqs { seqs }))?;
        context.save_conversation(place.id, &place.conversation)?;
    }
    Ok(count)
}

/// Leaves of a message its place in the timeline only. The caller saves the conversation.
pub(super) fn erase(
    context: &mut Context<'_>,
    id: ConversationId,
    conversation: &mut store::ConversationRecord,
    seq: u64,
    event: store::EventRecord,
) -> storage::Result<()> {
    let tombstone = store::EventRecord { kind: Some(Kind::Erased(store::Present {})), ..event };
    save(context.state, &keys::event(id, seq), &tombstone)?;
    save(context.state, &keys::erased(id, seq), &store::Present {})?;
    conversation.last_erased_seq = conversation.last_erased_seq.max(seq);
    Ok(())
}

/// Hides messages from one account; they count as read.
fn hide(context: &mut Context<'_>, actor: &Actor, referred: Vec<Referred>) -> Result<u32> {
    let mut hidden = Vec::new();
    for Referred { mut place, messages } in referred {
        let before = place.member.read_seq;
        let hidden_before = hidden.len();
        for seq in messages.into_keys() {
            let key = keys::hidden(actor.id, place.id, seq);
            if !exists(context.state, &key)? {
                save(context.state, &key, &store::Present {})?;
                place.read_one(context, seq)?;
                hidden.push(store::MessageRef { conversation_id: place.id.0, seq });
            }
        }
        if hidden.len() > hidden_before {
            place.settle(context)?;
            place.save(context, before)?;
        }
    }
    let count = u32::try_from(hidden.len()).unwrap_or(u32::MAX);
    if count > 0 {
        let event = store::AccountEvent { kind: Some(account_event::Kind::Hidden(store::Hidden { messages: hidden })) };
        let cursor = context.next_cursor();
        save(context.state, &keys::account_event(actor.id, cursor), &event)?;
    }
    Ok(count)
}
