//! stub until merged
use crate::{
    storage::{self, kv},
    types::{AccountId, ConversationId},
    wire::store,
};
#[derive(Debug)]
pub struct Applied {
    pub outcomes: Vec<Decided>,
    pub effects: Vec<Effect>,
}
#[derive(Debug, Clone)]
pub struct Decided {
    pub outcome: store::Outcome,
    pub deduplicated: bool,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Conversation(ConversationId),
    Account(AccountId),
}
pub fn apply(_state: &mut dyn kv::Write, _index: u64, batch: &store::CommandBatch) -> storage::Result<Applied> {
    Ok(Applied {
        outcomes: batch.commands.iter().map(|_| Decided { outcome: Default::default(), deduplicated: false }).collect(),
        effects: vec![],
    })
}
