//! The messages that a request names.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    actor::Actor,
    context::Context,
    error::{Result, invalid, refuse},
    member::Member,
    timeline::{event_at, is_message},
};
use crate::{
    types::{ConversationId, limits},
    wire::{Reason, store},
};

/// The messages of one conversation that a request names, by seq, and the caller as a member of it.
pub struct Referenced {
    /// The caller.
    pub member: Member,
    /// The messages; tombstones too.
    pub messages: BTreeMap<u64, store::EventRecord>,
}

/// Looks up everything that `refs` names, by ascending conversation. Refuses unless all of it are messages that the
/// caller may see.
pub fn resolve(context: &Context<'_>, actor: &Actor, refs: &[store::MessageRef]) -> Result<Vec<Referenced>> {
    if refs.len() > limits::MESSAGE_REFS {
        return invalid("messages", format!("one request may refer to at most {} messages", limits::MESSAGE_REFS));
    }
    // Sorted, so that the messages of one conversation follow each other; a message named twice counts once.
    let wanted: BTreeSet<(u64, u64)> = refs.iter().map(|wanted| (wanted.conversation_id, wanted.seq)).collect();
    let mut found: Vec<Referenced> = Vec::new();
    for (conversation, seq) in wanted {
        let id = ConversationId(conversation);
        if found.last().is_none_or(|last| last.member.id != id) {
            let member = Member::of(context.state, actor.id, id)?;
            found.push(Referenced { member, messages: BTreeMap::new() });
        }
        let Some(Referenced { member, messages }) = found.last_mut() else { continue };
        let visible = member.record.joined_seq <= seq && seq <= member.conversation.last_seq;
        let event = if visible { Some(event_at(context.state, id, seq)?) } else { None };
        let Some(event) = event.filter(is_message) else {
            return refuse(Reason::MessageNotFound, format!("there is no message {seq} in conversation {id}"));
        };
        messages.insert(seq, event);
    }
    Ok(found)
}
