//! What happens to the screen, and what it asks to be done.

use ratatui::crossterm::event::KeyEvent;

use crate::{
    client::{Delivery, Kept, Recipient, Update},
    types::{ConversationId, RequestId},
    wire::{
        Fault,
        chat::{Conversation, ListMessagesResponse},
    },
};

/// Something happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The subscription has news.
    Update(Update),
    /// The subscription has ended for good.
    Ended(Fault),
    /// The account's conversations.
    Listed(Result<Vec<Conversation>, Fault>),
    /// Messages of a conversation before `before`, or the latest (`None`).
    Loaded { of: Recipient, before: Option<u64>, page: Result<ListMessagesResponse, Fault> },
    /// What the outbox holds from before.
    Found(Vec<Kept>),
    /// A message could not be kept, so it is not sent.
    NotKept { id: RequestId, why: String },
    /// An attempt to send ended.
    Delivered { id: RequestId, delivery: Delivery },
    /// A read mark was set, or not.
    Marked { conversation: ConversationId, result: Result<(), Fault> },
    /// Accounts whose names begin with `prefix`.
    Completed { prefix: String, names: Vec<String> },
    /// Something went wrong that the person should know.
    Notice(String),
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// List the conversations.
    List,
    /// Load messages of a conversation before `before`, or the latest.
    Load { of: Recipient, before: Option<u64> },
    /// Keep a message and send it.
    Send { id: RequestId, to: Recipient, body: String },
    /// Send a message after all, as a new one.
    Renew { id: RequestId, fresh: RequestId },
    /// Give a message up.
    Drop { id: RequestId },
    /// Mark a conversation as read up to here.
    Mark { conversation: ConversationId, up_to: u64 },
    /// Find accounts by the beginning of their names.
    Complete { prefix: String },
    /// The connection is good again: what waits may be tried at once.
    Hurry,
    /// Leave.
    Quit,
}
