//! The inputs of the state ([`Event`]) and its outputs ([`Effect`]).

use ratatui::crossterm::event::KeyEvent;

use crate::{
    client::{Delivery, Kept, Recipient, Update},
    types::{ConversationId, RequestId},
    wire::{
        Fault,
        chat::{Conversation, ListMessagesResponse},
    },
};

/// Something that happened: a key, news of the subscription, or the answer to an effect.
#[derive(Debug)]
pub(super) enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// News of the subscription.
    Update(Update),
    /// The subscription has ended for good.
    Ended(Fault),
    /// Answer to [`Effect::List`].
    Listed(Result<Vec<Conversation>, Fault>),
    /// Answer to [`Effect::Load`].
    Loaded { of: Recipient, before: Option<u64>, page: Result<ListMessagesResponse, Fault> },
    /// The outbox at the start: what earlier runs left.
    OutboxRead(Vec<Kept>),
    /// A message could not be written to the outbox, so it is not sent.
    NotKept { id: RequestId, why: String },
    /// An attempt to send a message ended.
    Delivered { id: RequestId, delivery: Delivery },
    /// Answer to [`Effect::Mark`] or [`Effect::MarkSeen`].
    Marked { conversation: ConversationId, result: Result<(), Fault> },
    /// Answer to [`Effect::Complete`].
    Completed { prefix: String, names: Vec<String> },
    /// Answer to [`Effect::AwaitLeader`]: an election would be over by now.
    LeaderOverdue { election: u64 },
    /// An error that the person should know of.
    Notice(String),
}

/// Something that the [worker](super::worker) must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// List all conversations.
    List,
    /// Load a page of messages before `before`, or the latest page.
    Load { of: Recipient, before: Option<u64> },
    /// Write a message to the outbox and send it.
    Send { id: RequestId, to: Recipient, body: String },
    /// Send a message of the outbox again under the new id `fresh`.
    Renew { id: RequestId, fresh: RequestId },
    /// Remove a message from the outbox.
    Drop { id: RequestId },
    /// Mark a conversation as read up to this number.
    Mark { conversation: ConversationId, up_to: u64 },
    /// Mark these messages of a conversation as read, and no others.
    MarkSeen { conversation: ConversationId, seqs: Vec<u64> },
    /// Find accounts whose names begin with `prefix`.
    Complete { prefix: String },
    /// Retry waiting messages now instead of after the usual pause.
    RetryNow,
    /// Tell when an election would be over.
    AwaitLeader { election: u64 },
    /// Leave the screen.
    Quit,
}
