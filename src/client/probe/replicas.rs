//! Reads what each replica holds, from that node and at one log index, and its digest.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;

use super::{Run, SETTLE};
use crate::{
    client::{
        Recipient, Session,
        effort::fault_of,
        ledger::{Entry, Timelines},
    },
    types::{Consistency, ConversationId, limits},
    wire::{
        Address, Fault, Reason,
        admin::{GetStateDigestRequest, GetStateDigestResponse, admin_service_client::AdminServiceClient},
        chat::{self, list_messages_request, message_service_client::MessageServiceClient},
    },
};

/// Longest wait for one call to one replica.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Wait between two rounds while the replicas are not at one index yet.
const PAUSE: Duration = Duration::from_millis(100);
/// Most rounds of reading the replicas until they hold the same number of messages.
const ROUNDS: usize = 3;

/// Reads a conversation at the node at `address`, from the message behind `after` to the end.
pub(super) async fn timeline(
    session: &Session,
    address: &Address,
    conversation: ConversationId,
    after: u64,
    timeout: Duration,
) -> Result<Vec<Entry>, Fault> {
    let mut client = MessageServiceClient::new(session.cluster().channel(address));
    let (mut entries, mut page_token): (Vec<Entry>, String) = (Vec::new(), String::new());
    loop {
        let request = chat::ListMessagesRequest {
            recipient: Some(list_messages_request::Recipient::ConversationId(conversation.to_string())),
            after_seq: after,
            page_size: limits::PAGE_SIZE as i32,
            page_token,
            ..Default::default()
        };
        let asked = tokio::time::timeout(timeout, client.list_messages(session.read_request(request, timeout))).await;
        let answered = asked.map_err(|_| Fault::new(Reason::Timeout, format!("{address} gave no answer in time")))?;
        let page = answered.map_err(|status| fault_of(address, &status))?.into_inner();
        entries.extend(page.messages.into_iter().map(Entry::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

/// Reads what every member holds, by name; `None` for a member that could not be read in time.
pub(super) async fn survey(run: &Run) -> BTreeMap<String, Option<Timelines>> {
    // A linearizable read first: it raises the session's index to one that covers all acknowledged messages, and every
    // replica is then read at that index or later.
    let session = &run.accounts.sessions[0];
    let to = Recipient::Conversation(run.accounts.conversations[0].0);
    let newest = chat::ListMessagesRequest { before_seq: u64::MAX, page_size: 1, ..Default::default() };
    // If it fails, the index of the last acknowledgement has to do.
    let _ = session.messages(Some(&to), newest).await;
    let members = run.watched().members();
    let mut found = BTreeMap::new();
    for _ in 0..ROUNDS {
        found = read_all(run, &members).await;
        let lengths = |timelines: &Timelines| timelines.values().map(Vec::len).collect::<Vec<_>>();
        let mut read = found.values().flatten().map(lengths);
        let first = read.next();
        if read.all(|lengths| Some(lengths) == first) {
            break;
        }
        // A late write may have reached some replicas after they were read.
        sleep(PAUSE).await;
    }
    found
}

async fn read_all(run: &Run, members: &[(String, Address)]) -> BTreeMap<String, Option<Timelines>> {
    let session = run.accounts.sessions[0].reading(Consistency::AtLeast(run.accounts.sessions[0].index()));
    let read = |(name, address): &(String, Address)| {
        let (name, address, session) = (name.clone(), address.clone(), session.clone());
        async move { (name, read_replica(run, &session, &address).await) }
    };
    join_all(members.iter().map(read)).await.into_iter().collect()
}

/// Reads what the node at `address` holds. Repeats while the node starts up or lags behind.
async fn read_replica(run: &Run, session: &Session, address: &Address) -> Option<Timelines> {
    let deadline = Instant::now() + SETTLE;
    loop {
        match read_once(run, session, address).await {
            Ok(timelines) => return Some(timelines),
            // The connection is refused: the node is down, not slow.
            Err(fault) if fault.reason == Reason::Unreachable => return None,
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(_) => return None,
        }
    }
}

async fn read_once(run: &Run, session: &Session, address: &Address) -> Result<Timelines, Fault> {
    let mut timelines = Timelines::new();
    for (conversation, base) in run.accounts.conversations {
        timelines.insert(conversation, timeline(session, address, conversation, base, TIMEOUT).await?);
    }
    Ok(timelines)
}

/// The index and digest of each replica that could be read. Repeats until all are at one index, for at most [`SETTLE`].
pub(super) async fn digests(
    run: &Run,
    surveyed: &BTreeMap<String, Option<Timelines>>,
) -> BTreeMap<String, (u64, String)> {
    let deadline = Instant::now() + SETTLE;
    let mut members = run.watched().members();
    members.retain(|(name, _)| surveyed.get(name).is_some_and(Option::is_some));
    let mut at_least = run.accounts.sessions[0].index();
    loop {
        let ask = |(name, address): &(String, Address)| {
            let (name, channel) = (name.clone(), run.cluster.channel(address));
            async move { (name, digest(channel, at_least).await) }
        };
        let answers = join_all(members.iter().map(ask)).await;
        let digests: BTreeMap<String, (u64, String)> =
            answers.into_iter().filter_map(|(name, answer)| Some((name, shown(&answer?)))).collect();
        let newest = digests.values().map(|(index, _)| *index).max().unwrap_or(at_least);
        let level = digests.len() == members.len() && digests.values().all(|(index, _)| *index == newest);
        if level || Instant::now() >= deadline {
            return digests;
        }
        at_least = newest;
        sleep(PAUSE).await;
    }
}

async fn digest(channel: tonic::transport::Channel, at_least_index: u64) -> Option<GetStateDigestResponse> {
    let mut client = AdminServiceClient::new(channel);
    let asked = client.get_state_digest(Request::new(GetStateDigestRequest { at_least_index, exact_index: 0 }));
    timeout(TIMEOUT, asked).await.ok()?.ok().map(tonic::Response::into_inner)
}

fn shown(answer: &GetStateDigestResponse) -> (u64, String) {
    (answer.index, answer.digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
