//! A replica's state with accounts in it, and short ways to give it commands.

use std::collections::BTreeMap;

use crate::{
    machine::{Applied, apply, query},
    storage::kv::MemoryKv,
    types::{AccountId, ConversationId, RequestId, SessionKey},
    wire::store::{self, command::Verb},
};

/// 2026-01-01, in Unix milliseconds.
pub(super) const START_MS: u64 = 1_767_225_600_000;

/// One replica's state and its position in the log. Every command gets its own log entry and request id.
#[derive(Clone)]
pub(super) struct Fixture {
    pub(super) kv: MemoryKv,
    pub(super) index: u64,
    pub(super) time_ms: u64,
    requests: BTreeMap<String, RequestId>,
    minted: u32,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self { kv: MemoryKv::default(), index: 0, time_ms: START_MS, requests: BTreeMap::new(), minted: 0 }
    }

    /// A state with these accounts, each logged in under a session of its own name.
    pub(super) fn with(names: &[&str]) -> Self {
        let mut fixture = Self::new();
        for name in names {
            let (account, login) = (create_account(name), create_session(name, name));
            fixture.run("", account);
            fixture.run("", login);
        }
        fixture
    }

    /// A fresh request id, minted at `time_ms`.
    pub(super) fn mint(&mut self, time_ms: u64) -> RequestId {
        self.minted += 1;
        let mut random = [0; 10];
        random[..4].copy_from_slice(&self.minted.to_be_bytes());
        RequestId::new(time_ms, random)
    }

    /// The request id of this label, minted when the label is first used.
    pub(super) fn request(&mut self, label: &str, time_ms: u64) -> RequestId {
        if let Some(id) = self.requests.get(label) {
            return *id;
        }
        let id = self.mint(time_ms);
        self.requests.insert(label.to_owned(), id);
        id
    }

    /// Applies one command in its own entry.
    pub(super) fn run(&mut self, session: &str, verb: Verb) -> Applied {
        let id = self.mint(self.time_ms);
        self.apply(vec![command(id, session, verb)])
    }

    /// Applies one entry.
    pub(super) fn apply(&mut self, commands: Vec<store::Command>) -> Applied {
        self.index += 1;
        let batch = store::CommandBatch { time_ms: self.time_ms, commands };
        apply(&mut self.kv, self.index, &batch).expect("a state in memory is not damaged")
    }

    pub(super) fn account(&self, name: &str) -> AccountId {
        query::account_by_name(&self.kv, name).unwrap().map_or(AccountId(0), |account| account.id)
    }
}

pub(super) fn command(id: RequestId, session: &str, verb: Verb) -> store::Command {
    let session_key = if session.is_empty() { Vec::new() } else { SessionKey::of_token(session).0.to_vec() };
    store::Command { request_id: id.as_bytes().to_vec().into(), session_key: session_key.into(), verb: Some(verb) }
}

pub(super) fn create_account(name: &str) -> Verb {
    Verb::CreateAccount(store::CreateAccount { username: name.into(), password_hash: format!("$hash of {name}") })
}

pub(super) fn create_session(name: &str, label: &str) -> Verb {
    Verb::CreateSession(store::CreateSession {
        username: name.into(),
        password_version: 1,
        new_session_key: SessionKey::of_token(label).0.to_vec().into(),
        ..Default::default()
    })
}

pub(super) fn send(to: &str, body: &str) -> Verb {
    use store::send_message::Recipient;
    let recipient = match to.parse::<ConversationId>() {
        Ok(id) => Recipient::ConversationId(id.0),
        Err(_) => Recipient::Username(to.into()),
    };
    Verb::SendMessage(store::SendMessage { recipient: Some(recipient), body: body.into() })
}

pub(super) fn create_room(title: &str, private: bool, members: &[&str]) -> Verb {
    let members = members.iter().map(|name| (*name).to_owned()).collect();
    Verb::CreateRoom(store::CreateRoom { title: title.into(), private, members })
}
