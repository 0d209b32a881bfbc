//! Exactly once (P4): every write has a request id, and every request id has one outcome.
//!
//! A command whose id is known gets the first outcome again and has no second effect. Ids are UUIDv7 (RFC 9562), which
//! sort by the time at which clients minted them, so the table of outcomes is ordered by time and is pruned from its
//! front once log time has passed [`REQUEST_WINDOW`]. An older id is refused with a reason of its own: its outcome may
//! have been pruned, and a late retry must not send a message twice.
//!
//! A known id counts as the same request only if the command matches:
//! - It has the same verb and the same fields, apart from those that a retry may change: password hash, password
//!   version and the key of a new session.
//! - It comes from the same session, or from the same account, as a client may have logged in again between attempts.
//!
//! Refusals are remembered like other outcomes, with three exceptions: refusals of the request id itself,
//! SESSION_INVALID and OVERLOADED. These had no effect, so the same id may be sent again: a message in an outbox goes
//! out under its first id after the user has logged in again.
//!
//! Log time can be set back once, by an operator, after a wrong clock carried it ahead. Outcomes were then pruned too
//! early, and [`accepts_from_ms`] says from when on new ids are certainly new.
//!
//! Not covered: a client that mints a new id for a retry. To the machine that is a new request.

use super::{
    actor::Actor,
    context::Context,
    error::{Result, refuse},
    keys,
    records::{exists, keys_in, load, save},
};
use crate::{
    fault_injection::{self, Bug},
    storage::{self, kv::Read},
    types::{RequestId, limits::REQUEST_AHEAD, limits::REQUEST_WINDOW},
    wire::{
        Reason,
        store::{self, command::Verb},
    },
};

/// Reads a command's request id. Refuses one that is malformed, too old, or too far ahead of log time.
pub fn request_id(context: &Context<'_>, command: &store::Command) -> Result<RequestId> {
    let Ok(id) = RequestId::from_bytes(&command.request_id) else {
        return refuse(Reason::RequestIdInvalid, "request_id must be a UUIDv7");
    };
    if is_too_old(id, context.now_ms()) {
        let message = format!(
            "{}: if the clock of this computer shows that now, set it; else the outcome is not remembered for so long, so \
             it may have happened: look before sending it again under a new request_id",
            clocks_apart(id, context.now_ms())
        );
        return refuse(Reason::RequestTooOld, message);
    }
    let accepts_from_ms = context.meta.accepts_from_ms;
    if id.time_ms() < accepts_from_ms && !exists(context.state, &keys::request(id))? {
        let minutes = (accepts_from_ms - id.time_ms()).div_ceil(60_000);
        let message = format!(
            "request_id was minted before the cluster's time was corrected, and its outcome may be forgotten, so it may \
             have happened; look before sending it again under a new request_id, minted {minutes} min later or more"
        );
        return refuse(Reason::RequestTooOld, message);
    }
    let ahead_ms = u64::try_from(REQUEST_AHEAD.as_millis()).unwrap_or(u64::MAX);
    if id.time_ms() > context.now_ms().saturating_add(ahead_ms) {
        let message = format!("{}: set the clock of this computer", clocks_apart(id, context.now_ms()));
        return refuse(Reason::RequestIdInvalid, message);
    }
    Ok(id)
}

/// When the id was minted, the cluster's time, and how far they are apart: the reader must see both clocks.
fn clocks_apart(id: RequestId, now_ms: u64) -> String {
    let shown = |ms: u64| {
        // 9999-12-31T23:59:59Z, the end of the range of the type.
        let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX).min(253_402_300_799);
        prost_types::Timestamp { seconds, nanos: 0 }
    };
    let minutes = id.time_ms().abs_diff(now_ms) / 60_000;
    let side = if id.time_ms() < now_ms { "before" } else { "after" };
    let (minted, now) = (shown(id.time_ms()), shown(now_ms));
    format!(
        "request_id was minted at {minted}, {} h {} min {side} the cluster's time {now}",
        minutes / 60,
        minutes % 60
    )
}

/// Whether the outcome of this request may have been pruned. Pruning asks the same, so nothing younger is ever pruned.
fn is_too_old(id: RequestId, now_ms: u64) -> bool {
    let window_ms = u64::try_from(REQUEST_WINDOW.as_millis()).unwrap_or(u64::MAX);
    id.time_ms().saturating_add(window_ms) < now_ms
}

/// From which minting time on an id without a remembered outcome is certainly new, once log time is `time_ms` instead of
/// `meta.time_ms`. Every id whose outcome was ever pruned lies before it. Three bounds, the least of which counts:
///
/// - The window's own: pruning has never gone beyond log time less [`REQUEST_WINDOW`].
/// - The first remembered outcome. Pruning goes from the front, and an id is accepted only within the window, so no
///   outcome was ever pruned behind one that is still there. (The same millisecond may be pruned in part.)
/// - The operator's word that no accepted id was minted more than `clients_ahead_ms` ahead of the right time.
///
/// The first two say nothing about what was pruned before an earlier correction, so that one's bound stays.
pub fn accepts_from_ms(
    state: &dyn Read,
    meta: &store::Meta,
    time_ms: u64,
    clients_ahead_ms: Option<u64>,
) -> storage::Result<u64> {
    let mut from_ms = meta.accepts_from_ms;
    if time_ms < meta.time_ms {
        let window_ms = u64::try_from(REQUEST_WINDOW.as_millis()).unwrap_or(u64::MAX);
        let window_ms = meta.time_ms.saturating_sub(window_ms);
        let first = keys_in(state, &keys::all(keys::REQUEST), 1)?;
        let first_ms = first.first().and_then(|row| RequestId::from_bytes(&row[1..]).ok()).map(RequestId::time_ms);
        let pruned_ms = first_ms.map_or(window_ms, |first_ms| first_ms.min(window_ms));
        from_ms = from_ms.max(pruned_ms.saturating_add(1));
    }
    let word_ms = clients_ahead_ms.map(|ahead_ms| time_ms.saturating_add(ahead_ms).saturating_add(1));
    Ok(word_ms.map_or(from_ms, |word_ms| word_ms.min(from_ms)))
}

/// The remembered outcome of this request, if there is one. Refuses an id that belongs to another request.
pub fn recall(
    context: &Context<'_>,
    id: RequestId,
    command: &store::Command,
    actor: Option<&Actor>,
) -> Result<Option<store::Outcome>> {
    let known: Option<store::RequestRecord> = load(context.state, &keys::request(id))?;
    let Some(known) = known.filter(|_| !fault_injection::enabled(Bug::SkipDedup)) else { return Ok(None) };
    let same_session = known.session[..] == *session_part(&command.session_key);
    let same_account = actor.is_some_and(|actor| actor.id.0 == known.account_id);
    if known.fingerprint != fingerprint(command)[..] || !(same_session || same_account) {
        return refuse(Reason::RequestIdReused, "request_id was used for another request; mint a new one");
    }
    Ok(known.outcome)
}

/// Remembers the outcome of a request.
pub fn remember(
    context: &mut Context<'_>,
    id: RequestId,
    command: &store::Command,
    actor: Option<&Actor>,
    outcome: &store::Outcome,
) -> storage::Result<()> {
    let record = store::RequestRecord {
        fingerprint: fingerprint(command).to_vec().into(),
        session: session_part(&command.session_key).to_vec().into(),
        account_id: actor.map_or(0, |actor| actor.id.0),
        outcome: Some(outcome.clone()),
    };
    save(context.state, &keys::request(id), &record)
}

/// Forgets up to `limit` requests that are too old to be sent again.
pub fn prune(context: &mut Context<'_>, limit: usize) -> storage::Result<()> {
    for row in keys_in(context.state, &keys::all(keys::REQUEST), limit)? {
        let old = RequestId::from_bytes(&row[1..]).is_ok_and(|id| is_too_old(id, context.now_ms()));
        if !old {
            break;
        }
        context.state.delete(&row)?;
    }
    Ok(())
}

/// The first half of a session key: enough to recognize the session, useless for acting in it.
pub fn session_part(key: &[u8]) -> &[u8] {
    &key[..key.len().min(16)]
}

/// 16 bytes of BLAKE3 over the verb, without the fields that two attempts at one request may fill differently.
fn fingerprint(command: &store::Command) -> [u8; 16] {
    let mut bytes = Vec::new();
    match &command.verb {
        None => {}
        Some(Verb::CreateAccount(verb)) => {
            Verb::CreateAccount(store::CreateAccount { password_hash: String::new(), username: verb.username.clone() })
                .encode(&mut bytes)
        }
        Some(Verb::DeleteAccount(verb)) => {
            Verb::DeleteAccount(store::DeleteAccount { password_version: 0, ..*verb }).encode(&mut bytes);
        }
        Some(Verb::ChangePassword(_)) => Verb::ChangePassword(store::ChangePassword::default()).encode(&mut bytes),
        Some(Verb::CreateSession(verb)) => Verb::CreateSession(store::CreateSession {
            password_version: 0,
            new_session_key: Default::default(),
            ..verb.clone()
        })
        .encode(&mut bytes),
        Some(verb) => verb.encode(&mut bytes),
    }
    let hash = blake3::hash(&bytes);
    hash.as_bytes().first_chunk().copied().expect("a BLAKE3 hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(verb: Verb) -> [u8; 16] {
        fingerprint(&store::Command { verb: Some(verb), ..Default::default() })
    }

    #[test]
    fn a_fingerprint_sees_every_field_but_the_secrets() {
        let send =
            |body: &str| print(Verb::SendMessage(store::SendMessage { body: body.into(), ..Default::default() }));
        assert_ne!(send("one"), send("two"));
        let create = |username: &str, password_hash: &str| {
            print(Verb::CreateAccount(store::CreateAccount {
                username: username.into(),
                password_hash: password_hash.into(),
            }))
        };
        assert_eq!(create("alice", "$1"), create("alice", "$2"));
        assert_ne!(create("alice", "$1"), create("bob", "$1"));
        let login = |device: &str, password_version| {
            print(Verb::CreateSession(store::CreateSession {
                device: device.into(),
                password_version,
                ..Default::default()
            }))
        };
        assert_eq!(login("laptop", 1), login("laptop", 2));
        assert_ne!(login("laptop", 1), login("phone", 1));
        let join = print(Verb::JoinRoom(store::JoinRoom { conversation_id: 1 }));
        let leave = print(Verb::LeaveRoom(store::LeaveRoom { conversation_id: 1 }));
        assert_ne!(join, leave);
    }
}
