//! The two accounts of a run and the two conversations between them.

use super::Options;
use crate::{
    client::{Cluster, Recipient, Session},
    types::ConversationId,
    wire::Fault,
};

/// The first message of the direct conversation. The ledger begins after it.
const OPENING: &str = "hello";

/// Two signed-in accounts, the conversation between them, and their room.
pub(super) struct Accounts {
    pub sessions: [Session; 2],
    /// The direct conversation and the room, each with its last sequence number before the load.
    pub conversations: [(ConversationId, u64); 2],
}

impl Accounts {
    /// Creates the accounts, signs in, and opens both conversations.
    pub async fn make(cluster: &Cluster, options: &Options) -> Result<Self, Fault> {
        let [one, other] = &options.names;
        let sessions =
            [sign_up(cluster, one, &options.password).await?, sign_up(cluster, other, &options.password).await?];
        let opened = sessions[0].send(&Recipient::Username(other.clone()), OPENING).await?.message.unwrap_or_default();
        let room = sessions[0].create_room(&options.room, true, vec![other.clone()]).await?;
        let conversations = [(id(&opened.conversation_id)?, opened.seq), (id(&room.conversation_id)?, room.last_seq)];
        Ok(Self { sessions, conversations })
    }

    /// Deletes the accounts and their messages. Logs a warning for an account that it cannot delete.
    pub async fn remove(&self, password: &str) {
        for session in &self.sessions {
            if let Err(fault) = session.delete_account(password, true).await {
                tracing::warn!(%fault, "an account of the probe is left behind");
            }
        }
    }
}

async fn sign_up(cluster: &Cluster, name: &str, password: &str) -> Result<Session, Fault> {
    Session::register(cluster, name, password).await?;
    let (session, _) = Session::login(cluster, name, password, "probe").await?;
    Ok(session)
}

fn id(text: &str) -> Result<ConversationId, Fault> {
    text.parse().map_err(|error: crate::types::InvalidId| Fault::invalid("conversation_id", error.to_string()))
}
