//! What the edge makes of a request's bytes and metadata. For tests only.

use prost::Message;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use super::{
    call::Call,
    translate::{Write, accounts, admin, conversations, events, messages},
};
use crate::wire::{Fault, admin as admin_pb, chat, metadata, store::command::Verb};

/// The methods that [`judge`] knows.
pub const METHODS: u8 = 22;

/// Reads `body` as a request of one of the methods and checks it as that method does. Answers with the command that a
/// write became; none for a read, for what was refused, and for what is no such request at all.
pub fn judge(method: u8, body: &[u8]) -> Option<Verb> {
    let write = match method % METHODS {
        0 => checked(body, messages::send_message),
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
        _ => return read(body, |request: admin_pb::SetRoleRequest| admin::set_role(request)),
    };
    write.map(|Write { verb, .. }| verb)
}

fn checked<Q: Message + Default, T>(body: &[u8], check: impl FnOnce(Q) -> Result<T, Fault>) -> Option<T> {
    check(Q::decode(body).ok()?).ok()
}

fn read<Q: Message + Default, T>(body: &[u8], check: impl FnOnce(Q) -> Result<T, Fault>) -> Option<Verb> {
    let _ = checked(body, check);
    None
}

/// Whether a call with these values of our own metadata is taken for one.
pub fn is_call(values: [&[u8]; 4]) -> bool {
    let keys = [metadata::AUTHORIZATION, metadata::CONSISTENCY, metadata::MIN_INDEX, "grpc-timeout"];
    let mut map = MetadataMap::new();
    for (key, value) in keys.into_iter().zip(values) {
        if let Ok(value) = AsciiMetadataValue::try_from(value) {
            map.insert(AsciiMetadataKey::from_static(key), value);
        }
    }
    Call::of(&map).is_ok()
}
