//! Clients of the simulated cluster: the product's own client library, dialling over the simulated network.

use std::time::Duration;

use quorate::{
    client::{Cluster, Recipient, Session, Settings},
    types::ConversationId,
    wire::{
        Fault,
        chat::{ListMessagesRequest, Message},
    },
};

use crate::world::World;

/// The password of every long-lived user.
pub const PASSWORD: &str = "correct horse battery";
/// Default deadline of one operation.
pub const TIMEOUT: Duration = Duration::from_secs(6);
/// Messages in one page of a conversation.
const PAGE: i32 = 500;

/// Creates a client that knows every machine.
///
/// `name` selects the clock and the random numbers of the client, from which its request ids and its retry delays
/// follow. Two clients of one name draw the same request ids, so each needs a name of its own. A new name also changes
/// what every recorded seed does.
pub fn connect(world: &World, name: &str, timeout: Duration) -> Cluster {
    let settings = Settings { timeout, clock: world.clock(name), entropy: world.entropy(name) };
    Cluster::new(world.addresses(), world.connections.dialer(), settings)
}

/// Reads a conversation from behind `after` to its end, oldest message first.
pub async fn messages_after(session: &Session, id: ConversationId, after: u64) -> Result<Vec<Message>, Fault> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListMessagesRequest { page_size: PAGE, page_token, after_seq: after, ..Default::default() };
        let page = session.messages(Some(&Recipient::Conversation(id)), request).await?;
        all.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// Parses a conversation's id as the API writes it.
pub fn conversation_id(text: &str) -> ConversationId {
    text.parse().expect("the API returned a malformed conversation id")
}
