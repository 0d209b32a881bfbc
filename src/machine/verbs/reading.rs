//! Marking messages as read.

use std::collections::BTreeMap;

use crate::{
    machine::core::{
        actor::Actor,
        context::Context,
        error::{Result, invalid},
        member::Member,
        references::{Referenced, resolve},
    },
    types::ConversationId,
    wire::store::{self, outcome::Result as Done},
};

/// Marks messages as read: single ones, or all of one conversation up to a position, or both. Returns how many of them
/// were unread.
pub fn mark_read(context: &mut Context<'_>, actor: &Actor, verb: &store::MarkRead) -> Result<Done> {
    if verb.messages.is_empty() && verb.conversation_id == 0 {
        return invalid("messages", "name the messages, or the conversation, to mark as read");
    }
    let mut referenced = resolve(context, actor, &verb.messages)?;
    let up_to_in = ConversationId(verb.conversation_id);
    if up_to_in.0 != 0 && referenced.iter().all(|referenced| referenced.member.id != up_to_in) {
        let member = Member::of(context.state, actor.id, up_to_in)?;
        referenced.push(Referenced { member, messages: BTreeMap::new() });
    }
    let mut count = 0;
    for Referenced { mut member, messages } in referenced {
        // The difference of two derived counts, so that a message named twice, or below the position, counts once.
        let unread = member.unread(context.state)?;
        let before = member.record.read_seq;
        if member.id == up_to_in {
            let last_seq = member.conversation.last_seq;
            let up_to = if verb.up_to_seq == 0 { last_seq } else { verb.up_to_seq.min(last_seq) };
            member.move_mark(context, up_to)?;
        }
        for (seq, event) in &messages {
            // What counts as read already, such as an erased message, needs no row.
            if !member.has_read(context.state, *seq, event)? {
                member.read_one(context, *seq)?;
            }
        }
        member.advance_mark(context)?;
        let newly_read = unread.saturating_sub(member.unread(context.state)?);
        count += newly_read;
        if newly_read > 0 || member.record.read_seq > before {
            member.save(context, before)?;
        }
    }
    Ok(Done::MarkedRead(store::MarkedRead { count }))
}
