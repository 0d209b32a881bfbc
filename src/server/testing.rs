//! Entry points for the fuzzers: how the server parses a request's bytes and metadata. For tests only.

use prost::Message;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use super::services::{
    accounts::convert as accounts, admin::convert as admin, call::Call, check::Write,
    conversations::convert as conversations, events::convert as events, messages::convert as messages,
};
use crate::{
    node::{checked_adoption, checked_inspection},
    wire::{Fault, admin as admin_pb, chat, metadata, raft, store::command::Verb},
};

/// Number of methods that [`judge`] knows.
pub const METHODS: u8 = 31;

/// The result of checking a request.
pub enum Judged {
    /// It was refused, or its bytes are no such request.
    Refused,
    /// It was accepted and is not a write.
    Taken,
    /// It was accepted and became this command.
    Write(Verb),
}

/// Decodes `body` as a request of method number `method` and checks it as that method does. A request whose fields the
/// method uses unchecked is only decoded.
pub fn judge(method: u8, body: &[u8]) -> Judged {
    let write = match method % METHODS {
        0 => checked(body, messages::send_message).map(|(write, _)| write),
        1 => checked(body, messages::mark_read),
        2 => checked(body, messages::delete_messages),
        3 => checked(body, conversations::create_room),
        4 => checked(body, conversations::update_room),
        5 => checked(body, conversations::join_room),
        6 => checked(body, conversations::leave_room),
        7 => checked(body, accounts::delete_session),
        8 => checked(body, accounts::settings),
        9 => checked(body, accounts::block),
        10 => checked(body, accounts::unblock),
        11 => checked(body, accounts::new_account).map(|account| account.write("$hash".to_owned())),
        12 => checked(body, accounts::deletion).map(|deletion| deletion.write(1)),
        13 => checked(body, accounts::password_change).map(|change| change.write(1, "$hash".to_owned())),
        14 => return read(body, accounts::login),
        15 => return read(body, accounts::listing),
        16 => return read(body, conversations::listing),
        17 => return read(body, messages::listing),
        18 => return read(body, |request: chat::SubscribeRequest| events::start(&request)),
        19 => return read(body, admin::add_node),
        20 => return read(body, admin::replace_node),
        21 => return read(body, admin::set_role),
        22 => return read(body, admin::remove_node),
        23 => return read(body, admin::set_address),
        24 => return read(body, admin::transfer_leadership),
        25 => return read(body, Ok::<admin_pb::TriggerSnapshotRequest, _>),
        26 => return read(body, Ok::<admin_pb::GetStateDigestRequest, _>),
        27 => return read(body, Ok::<admin_pb::CreateBackupRequest, _>),
        28 => return read(body, checked_inspection),
        29 => return read(body, checked_adoption),
        _ => return read(body, Ok::<raft::CheckMemberRequest, _>),
    };
    write.map_or(Judged::Refused, |Write { verb, .. }| Judged::Write(verb))
}

fn checked<Q: Message + Default, T>(body: &[u8], check: impl FnOnce(Q) -> Result<T, Fault>) -> Option<T> {
    check(Q::decode(body).ok()?).ok()
}

fn read<Q: Message + Default, T>(body: &[u8], check: impl FnOnce(Q) -> Result<T, Fault>) -> Judged {
    match checked(body, check) {
        Some(_) => Judged::Taken,
        None => Judged::Refused,
    }
}

/// Whether a call with these values of our metadata keys is accepted and has any of them.
pub fn is_call(values: [Option<&[u8]>; 4]) -> bool {
    let keys = [metadata::AUTHORIZATION, metadata::CONSISTENCY, metadata::MIN_INDEX, "grpc-timeout"];
    let mut map = MetadataMap::new();
    for (key, value) in keys.into_iter().zip(values) {
        if let Some(Ok(value)) = value.map(AsciiMetadataValue::try_from) {
            map.insert(AsciiMetadataKey::from_static(key), value);
        }
    }
    Call::of(&map).is_ok() && !map.is_empty()
}
