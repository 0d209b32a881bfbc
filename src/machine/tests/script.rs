//! Golden scripts: commands and their outcomes, one file for each kind of verb.
//!
//! After an intended change, `UPDATE_GOLDENFILES=1 cargo test --lib machine` rewrites them; read the difference.

use std::{error::Error, fmt::Write as _};

use goldenscript::{ArgumentConsumer, Command, Context, Runner};

use super::fixture::{Fixture, START_MS, command, create_room, create_session, send};
use crate::{
    machine::{
        Applied, Effect, QueryError,
        core::{keys, records, timeline::event_at},
        query,
    },
    types::{AccountId, ConversationId, Cursor, SessionKey},
    wire::{
        chat,
        store::{self, command::Verb, event_record::Kind, outcome::Result as Done},
    },
};

type Outcome<T> = Result<T, Box<dyn Error>>;

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/machine/testscripts/", stringify!($name));
            goldenscript::run(&mut Script { fixture: Fixture::new() }, path).unwrap();
        })*
    };
}

scripts! { accounts sessions messages reading receipts blocking deleting rooms requests clock subscriptions listings }

struct Script {
    fixture: Fixture,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        let mut args = command.consume_args();
        let text = match self.query(&command.name, &mut args)? {
            Some(text) => text,
            None => self.command(&command.name, &mut args)?,
        };
        args.reject_next()?;
        Ok(text)
    }
}

fn number<T: std::str::FromStr>(args: &mut ArgumentConsumer<'_>, key: &str, default: T) -> Outcome<T>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(key).map(str::parse).transpose()?.unwrap_or(default))
}

fn text(args: &mut ArgumentConsumer<'_>, key: &str) -> String {
    args.take_key(key).unwrap_or_default().to_owned()
}

fn names(args: &mut ArgumentConsumer<'_>, key: &str) -> Vec<String> {
    args.take_key(key).into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect()
}

/// `x@5` stands for text of five bytes.
fn long(text: &str) -> String {
    text.strip_prefix("x@").and_then(|count| count.parse().ok()).map_or(text.to_owned(), |count| "x".repeat(count))
}

fn reference(text: &str) -> Outcome<store::MessageRef> {
    let (conversation, seq) = text.split_once('/').ok_or("a message is written as c1/2")?;
    Ok(store::MessageRef { conversation_id: conversation.parse::<ConversationId>()?.0, seq: seq.parse()? })
}

fn is_reference(text: &str) -> bool {
    text.contains('/')
}

impl Script {
    /// Runs a command that goes through the log.
    fn command(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        let actor = match name {
            "account" | "login" | "node" | "tend" | "correct-time" => String::new(),
            _ => args.next_pos().ok_or("who?")?.to_owned(),
        };
        let (label, ago_s, ahead_s) = (text(args, "id"), number(args, "ago", 0)?, number(args, "ahead", 0)?);
        let repeat = number(args, "repeat", 1)?;
        let verb = verb(name, args)?;
        let mut report = String::new();
        for _ in 0..repeat {
            let minted_ms = self.fixture.time_ms + ahead_s * 1_000 - ago_s * 1_000;
            let id = match label.as_str() {
                "" => self.fixture.mint(minted_ms),
                label => self.fixture.request(label, minted_ms),
            };
            let mut command = command(id, &actor, verb.clone().unwrap_or_else(|| send("", "")));
            command.verb.clone_from(&verb);
            if label == "garbage" {
                command.request_id = vec![7; 16].into();
            }
            let applied = self.fixture.apply(vec![command]);
            report = self.show_applied(&applied)?;
        }
        Ok(report)
    }

    fn show_applied(&self, applied: &Applied) -> Outcome<String> {
        let mut out = String::new();
        for decided in &applied.outcomes {
            let again = if decided.deduplicated { " (again)" } else { "" };
            writeln!(out, "{}{again}", show_outcome(&decided.outcome))?;
        }
        let effects: Vec<String> = applied.effects.iter().map(|effect| self.show_effect(*effect)).collect();
        if !effects.is_empty() {
            writeln!(out, "  look: {}", effects.join(" "))?;
        }
        Ok(out)
    }

    fn show_effect(&self, effect: Effect) -> String {
        match effect {
            Effect::Conversation(id) => id.to_string(),
            Effect::Account(id) => self.name(id.0),
        }
    }

    fn name(&self, id: u64) -> String {
        query::account(&self.fixture.kv, AccountId(id)).unwrap().map_or(format!("account {id}"), |found| found.username)
    }

    /// Runs a command that only reads, or one that sets the script up; `None` if it is neither.
    fn query(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<Option<String>> {
        let state = self.fixture.kv.clone();
        let mut who = || -> Outcome<AccountId> { Ok(self.fixture.account(args.next_pos().ok_or("who?")?)) };
        let text = match name {
            "people" => {
                while let Some(name) = args.next_pos() {
                    self.fixture.run("", super::fixture::create_account(name));
                    self.fixture.run("", create_session(name, name));
                }
                String::new()
            }
            "wait" => {
                self.fixture.time_ms += args.next_pos().ok_or("seconds?")?.parse::<u64>()? * 1_000;
                String::new()
            }
            "clock-back" => {
                self.fixture.time_ms -= args.next_pos().ok_or("seconds?")?.parse::<u64>()? * 1_000;
                String::new()
            }
            "idle" => {
                let applied = self.fixture.apply(Vec::new());
                self.show_applied(&applied)?
            }
            "rows" => {
                let table = u8::from_str_radix(args.next_pos().ok_or("table?")?, 16)?;
                format!("{} rows", records::count_in(&state, &keys::all(table), u64::MAX)?)
            }
            "timeline" => self.timeline(args.next_pos().ok_or("which?")?.parse()?)?,
            "settings" => format!("{:?}", query::settings(&state, who()?)?),
            "blocked" => show_accounts(chat::ListAccountsResponse {
                accounts: query::list_blocked(&state, who()?)?.accounts,
                ..Default::default()
            }),
            "unread" => query::unread_total(&state, who()?)?.to_string(),
            "sessions" => show_sessions(&query::list_sessions(&state, who()?)?),
            "users" => {
                let pattern = args.next_pos().unwrap_or_default().to_owned();
                let (page_size, page_token) = (number(args, "size", 0)?, text(args, "token"));
                let request = chat::ListAccountsRequest { pattern: long(&pattern), page_size, page_token };
                shown(query::list_accounts(&state, &request), show_accounts)?
            }
            "conversation" => {
                let (who, id) = (who()?, args.next_pos().ok_or("which?")?.parse()?);
                shown(query::conversation(&state, who, id), show_conversation)?
            }
            "inbox" => {
                let who = who()?;
                let request = chat::ListConversationsRequest {
                    unread_only: number(args, "unread", false)?,
                    joinable: number(args, "joinable", false)?,
                    page_size: number(args, "size", 0)?,
                    page_token: text(args, "token"),
                };
                shown(query::list_conversations(&state, who, &request), show_conversations)?
            }
            "history" => {
                let who = who()?;
                let recipient = args.next_pos().map(|name| match name.parse::<ConversationId>() {
                    Ok(_) => chat::list_messages_request::Recipient::ConversationId(name.to_owned()),
                    Err(_) => chat::list_messages_request::Recipient::Username(name.to_owned()),
                });
                let request = chat::ListMessagesRequest {
                    recipient,
                    after_seq: number(args, "after", 0)?,
                    before_seq: number(args, "before", 0)?,
                    unread_only: number(args, "unread", false)?,
                    page_size: number(args, "size", 0)?,
                    page_token: text(args, "token"),
                };
                shown(query::list_messages(&state, who, &request), show_messages)?
            }
            "events" => {
                let (who, after) = (who()?, cursor(args.take_key("after"))?);
                let only: Option<Vec<ConversationId>> =
                    args.take_key("only").map(|id| id.parse().map(|id| vec![id])).transpose()?;
                let limit = number(args, "limit", 100)?;
                let (events, next) = query::events_after(&state, who, after, only.as_deref(), limit)?;
                let lines: Vec<String> = events.into_iter().map(show_event).collect();
                format!("{}\nnext {}", lines.join("\n"), place(next.0)).trim_start().to_owned()
            }
            _ => return Ok(None),
        };
        Ok(Some(text))
    }

    fn timeline(&self, id: ConversationId) -> Outcome<String> {
        let mut out = String::new();
        let record: store::ConversationRecord = records::require(&self.fixture.kv, &keys::conversation(id))?;
        for seq in 1..=record.last_seq {
            let event = event_at(&self.fixture.kv, id, seq)?;
            let list = |ids: store::AccountIds| {
                ids.account_ids.into_iter().map(|id| self.name(id)).collect::<Vec<_>>().join(" ")
            };
            let what = match event.kind.ok_or("an event has a kind")? {
                Kind::Body(body) => format!(": {body}"),
                Kind::Erased(_) => "erased".to_owned(),
                Kind::Deletion(store::Seqs { seqs }) => format!("deletes {seqs:?}"),
                Kind::Joined(ids) => format!("joins {}", list(ids)),
                Kind::Left(ids) => format!("takes leave of {}", list(ids)),
                Kind::Renamed(title) => format!("renames to {title}"),
            };
            writeln!(out, "{seq} @{} {} {what}", place(event.cursor), self.name(event.author_id))?;
        }
        Ok(out)
    }
}

fn verb(name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<Option<Verb>> {
    let mut next = || long(args.next_pos().unwrap_or_default());
    Ok(Some(match name {
        "account" => {
            let username = next();
            let password_hash = args.take_key("hash").map_or(format!("$hash of {username}"), long);
            Verb::CreateAccount(store::CreateAccount { username, password_hash })
        }
        "login" => {
            let username = next();
            let label = args.take_key("as").unwrap_or(&username).to_owned();
            let key = SessionKey::of_token(&label).0.to_vec();
            Verb::CreateSession(store::CreateSession {
                username,
                password_version: number(args, "version", 1)?,
                new_session_key: if label == "short" { vec![1] } else { key }.into(),
                device: long(&text(args, "device")),
                ttl_ms: number(args, "ttl", 0)? * 1_000,
            })
        }
        "logout" => {
            let session_id =
                args.take_key("session").map_or(String::new(), |label| SessionKey::of_token(label).session_id());
            Verb::DeleteSession(store::DeleteSession { session_id, all: number(args, "all", false)? })
        }
        "passwd" => Verb::ChangePassword(store::ChangePassword {
            password_version: number(args, "version", 1)?,
            password_hash: args.take_key("hash").unwrap_or("$new").to_owned(),
        }),
        "delete-account" => Verb::DeleteAccount(store::DeleteAccount {
            password_version: number(args, "version", 1)?,
            erase_messages: number(args, "erase", false)?,
        }),
        "set" => Verb::UpdateSettings(store::UpdateSettings {
            read_receipts: args.take_key("receipts").map(|word| word == "on"),
        }),
        "block" => Verb::BlockAccount(store::BlockAccount { username: next() }),
        "unblock" => Verb::UnblockAccount(store::UnblockAccount { username: next() }),
        "tend" => Verb::Tend(store::Tend {}),
        "correct-time" => Verb::CorrectTime(store::CorrectTime {
            time_ms: START_MS + next().parse::<u64>()? * 1_000,
            clients_ahead_ms: args.take_key("word").map(|s| s.parse::<u64>().map(|s| s * 1_000)).transpose()?,
        }),
        "room" => {
            let title = next();
            let members = names(args, "with");
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            create_room(&title, number(args, "private", false)?, &members)
        }
        "update" => Verb::UpdateRoom(store::UpdateRoom {
            conversation_id: next().parse::<ConversationId>()?.0,
            title: args.take_key("title").map(long),
            add_members: names(args, "add"),
            remove_members: names(args, "remove"),
        }),
        "join" => Verb::JoinRoom(store::JoinRoom { conversation_id: next().parse::<ConversationId>()?.0 }),
        "leave" => Verb::LeaveRoom(store::LeaveRoom { conversation_id: next().parse::<ConversationId>()?.0 }),
        "send" => send(&next(), &next()),
        "send-nowhere" => Verb::SendMessage(store::SendMessage { recipient: None, body: "x".into() }),
        "read" => {
            let mut verb = store::MarkRead { up_to_seq: number(args, "to", 0)?, ..Default::default() };
            for target in std::iter::from_fn(|| args.next_pos()) {
                if is_reference(target) {
                    verb.messages.push(reference(target)?);
                } else {
                    verb.conversation_id = target.parse::<ConversationId>()?.0;
                }
            }
            Verb::MarkRead(verb)
        }
        "delete" => {
            let messages = std::iter::from_fn(|| args.next_pos()).map(reference).collect::<Outcome<_>>()?;
            Verb::DeleteMessages(store::DeleteMessages { messages, for_everyone: number(args, "everyone", false)? })
        }
        "node" => Verb::AllocateNode(store::AllocateNode { name: next() }),
        "nothing" => return Ok(None),
        _ => return Err(format!("unknown command {name}").into()),
    }))
}

/// A cursor as index.place.
fn place(cursor: u64) -> String {
    format!("{}.{}", Cursor(cursor).index(), cursor % Cursor::EVENTS_PER_ENTRY)
}

fn cursor(text: Option<&str>) -> Outcome<Cursor> {
    let Some((index, place)) = text.and_then(|text| text.split_once('.')) else { return Ok(Cursor::default()) };
    Ok(Cursor::new(index.parse()?, place.parse()?))
}

fn show_outcome(outcome: &store::Outcome) -> String {
    match outcome.result.as_ref() {
        None => "no outcome".to_owned(),
        Some(Done::Refusal(refusal)) => format!("{}: {}", refusal.reason, refusal.message),
        Some(Done::AccountCreated(done)) => format!("account {} {}", done.account_id, done.username),
        Some(Done::AccountDeleted(done)) => format!("account deleted, {} messages erased", done.messages_erased),
        Some(Done::PasswordChanged(_)) => "password changed".to_owned(),
        Some(Done::SessionCreated(done)) => {
            let lasts = (done.expire_time_ms - done.create_time_ms) / 1_000;
            format!("session {} {:?} for {lasts} s", done.session_id, done.device)
        }
        Some(Done::SessionsDeleted(done)) => format!("{} sessions ended", done.count),
        Some(Done::RoomChanged(done)) => format!("room {}", ConversationId(done.conversation_id)),
        Some(Done::MessageSent(done)) => {
            let id = ConversationId(done.conversation_id);
            format!("sent {id}/{} @{} by {}", done.seq, place(done.cursor), done.sender)
        }
        Some(Done::MarkedRead(done)) => format!("{} marked as read", done.count),
        Some(Done::MessagesDeleted(done)) => format!("{} deleted", done.count),
        Some(Done::SettingsUpdated(done)) => format!("read receipts {}", if done.read_receipts { "on" } else { "off" }),
        Some(Done::BlocksChanged(_)) => "done".to_owned(),
        Some(Done::Tended(done)) => format!("{} chores left", done.chores),
        Some(Done::TimeCorrected(done)) => {
            let second = |ms: u64| (ms as f64 - START_MS as f64) / 1_000.0;
            let [from, to, accepts] = [done.from_ms, done.to_ms, done.accepts_from_ms].map(second);
            format!("from second {from} to {to}, new requests minted from second {accepts}")
        }
        Some(Done::NodeAllocated(done)) => format!("node {}", done.node_id),
    }
}

fn shown<T>(result: Result<T, QueryError>, show: impl FnOnce(T) -> String) -> Outcome<String> {
    match QueryError::part(result)? {
        Ok(answer) => Ok(show(answer)),
        Err(refusal) => Ok(format!("{}: {refusal}", refusal.reason.as_str())),
    }
}

fn show_token(token: &str) -> String {
    if token.is_empty() { String::new() } else { format!("\nmore: {token}") }
}

fn lines<T>(rows: Vec<T>, show: impl FnMut(T) -> String, token: &str) -> String {
    let lines = rows.into_iter().map(show).collect::<Vec<_>>().join("\n");
    let lines = if lines.is_empty() { "none".to_owned() } else { lines };
    lines + &show_token(token)
}

fn show_accounts(response: chat::ListAccountsResponse) -> String {
    let show = |account: chat::Account| account.username + if account.deleted { " (deleted)" } else { "" };
    lines(response.accounts, show, &response.next_page_token)
}

fn show_sessions(response: &chat::ListSessionsResponse) -> String {
    lines(response.sessions.clone(), |session| format!("{} {:?}", session.session_id, session.device), "")
}

fn show_conversation(conversation: chat::Conversation) -> String {
    let kind = if conversation.direct { "direct".to_owned() } else { conversation.title };
    let private = if conversation.private { " private" } else { "" };
    let peer =
        if conversation.peer_read_seq > 0 { format!(", peer {}", conversation.peer_read_seq) } else { String::new() };
    format!(
        "{} {kind}{private} [{}] of {}, last {}, read {}, unread {}{peer}",
        conversation.conversation_id,
        conversation.members.join(" "),
        conversation.member_count,
        conversation.last_seq,
        conversation.read_seq,
        conversation.unread_count
    )
}

fn show_conversations(response: chat::ListConversationsResponse) -> String {
    lines(response.conversations, show_conversation, &response.next_page_token)
}

fn show_message(message: chat::Message) -> String {
    let what = if message.deleted { "(deleted)".to_owned() } else { format!(": {}", message.body) };
    let gone = if message.sender_deleted { " (gone)" } else { "" };
    let unread = if message.read { "" } else { " *" };
    format!("{}/{} {}{gone} {what}{unread}", message.conversation_id, message.seq, message.sender)
}

fn show_messages(response: chat::ListMessagesResponse) -> String {
    lines(response.messages, show_message, &response.next_page_token)
}

fn show_event(event: chat::SubscribeResponse) -> String {
    use chat::subscribe_response::Event;
    let what = match event.event {
        Some(Event::Message(message)) => show_message(message),
        Some(Event::Deleted(deleted)) => {
            let refs: Vec<String> =
                deleted.messages.into_iter().map(|found| format!("{}/{}", found.conversation_id, found.seq)).collect();
            let place = format!("{}/{}", deleted.conversation_id, deleted.seq);
            format!("deleted {} by {}, at {place}", refs.join(" "), deleted.by)
        }
        Some(Event::Read(read)) => format!("{} {} read to {}", read.conversation_id, read.username, read.read_seq),
        Some(Event::Conversation(conversation)) => show_conversation(conversation),
        other => format!("{other:?}"),
    };
    format!("@{} {what}", place(event.cursor))
}
