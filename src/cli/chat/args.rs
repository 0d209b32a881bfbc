//! The arguments of `chat`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::{Shell, engine::ArgValueCompleter as Completer};

use super::names::Names;
use crate::{
    cli::{duration, version},
    types::{Cursor, RequestId},
    wire::Address,
};

const EXAMPLES: &str = "\
Examples:
  export CHAT_SERVERS=10.0.0.1:7400,10.0.0.2:7400
  chat register alice
  chat send bob 'lunch at noon?'
  chat send '#ops' - < report.txt
  chat read --limit 10
  chat listen
  chat send --queue bob 'see you'      kept on disk if no node answers; `chat outbox flush` delivers
  chat                                 on a terminal: the full-screen client

TO is a username, a room as '#title' (quote it for the shell), or a conversation's id such as c42.
'@name' is always a username. Times are in UTC.

Exit codes: 0 ok, 1 other failure, 2 usage, 3 not found, 4 conflict, 5 not signed in or not allowed,
6 unavailable (no leader or quorum within the timeout; safe to repeat).";

/// Chat over a cluster that keeps its word while machines fail.
#[derive(Debug, Parser)]
#[command(name = "chat", version = version(), after_help = EXAMPLES, max_term_width = 100)]
pub struct Chat {
    /// Some nodes of the cluster; one that answers is enough. Default: those of the last sign-in.
    #[arg(short, long, global = true, env = "CHAT_SERVERS", value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub servers: Vec<Address>,
    /// Some nodes of the cluster, by the name that `chat context add` gave them; comes before --servers.
    #[arg(long, global = true, value_name = "NAME", add = Completer::from(Names::Contexts))]
    pub context: Option<String>,
    /// Act as this account, when several are signed in here. Default: the last to sign in.
    #[arg(long = "as", global = true, env = "CHAT_AS", value_name = "NAME", add = Completer::from(Names::SignedIn))]
    pub account: Option<String>,
    /// How long a command may take in all, repeats included.
    #[arg(long, global = true, env = "CHAT_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Print data as JSON: one object, or one per line for messages and events.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an account, and sign in with it.
    Register(Register),
    /// Sign in, and stay so on this machine.
    Login(Named),
    /// Sign out.
    Logout {
        /// End every session of the account, on all machines.
        #[arg(long)]
        all: bool,
        /// End this session instead, by its id in `chat sessions`.
        #[arg(long, value_name = "ID", conflicts_with = "all")]
        session: Option<String>,
    },
    /// Show who is signed in.
    Whoami,
    /// Change the password. Every other session of the account ends.
    Passwd(Passwd),
    /// List the account's sessions.
    Sessions,
    /// Delete the account. Its name is never given to anyone again.
    DeleteAccount(DeleteAccount),
    /// Show what the account has set, or set it.
    Settings {
        /// In direct conversations, let either see how far the other has read.
        #[arg(long, value_name = "on|off")]
        receipts: Option<Switch>,
    },
    /// Keep an account from writing to this one and from inviting it. Rooms that both are in stay.
    Block {
        /// The account's name.
        #[arg(add = Completer::from(Names::Accounts))]
        name: String,
    },
    /// Let a blocked account write and invite again.
    Unblock {
        /// The account's name.
        name: String,
    },
    /// List the accounts that this one has blocked.
    Blocked,
    /// List accounts.
    Users {
        /// Which names: `*` stands for anything, `?` for one character.
        pattern: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Send a message.
    Send(Send),
    /// Show or deliver what was sent with --queue or in the full-screen client and has not been acknowledged yet.
    Outbox {
        /// What to do; without it, list.
        #[command(subcommand)]
        verb: Option<OutboxVerb>,
    },
    /// List conversations with their unread counts.
    Inbox {
        /// Only those with something unread.
        #[arg(long)]
        unread: bool,
    },
    /// Show the oldest unread messages and mark just those as read.
    Read(Read),
    /// Show the messages of a conversation, read or not; marks nothing.
    History(History),
    /// Delete messages, for this account or for everyone.
    Delete(Delete),
    /// Show events as they happen, until interrupted; goes on by itself when nodes fail.
    Listen {
        /// Begin after this cursor, as an earlier event bore it (0: with all there is). Default: from now on.
        #[arg(long, value_name = "CURSOR", value_parser = cursor)]
        after: Option<Cursor>,
    },
    /// List rooms: those joined, and the public ones that may be.
    Rooms,
    /// Create, join, leave or change a room.
    #[command(subcommand)]
    Room(Room),
    /// Name the clusters that this person uses.
    #[command(subcommand)]
    Context(ContextVerb),
    /// Measure how fast the cluster acknowledges messages. Makes accounts of its own and deletes them.
    Bench(Bench),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        directory: PathBuf,
    },
}

/// The verbs on the outbox.
#[derive(Debug, Subcommand)]
pub enum OutboxVerb {
    /// List what waits, was refused, or is too old to repeat.
    List,
    /// Deliver what waits, in order.
    Flush,
    /// Send a message that was refused, or is too old to repeat, as a new one. One too old may then arrive twice.
    Resend {
        /// Which one, by its request id.
        id: RequestId,
    },
    /// Give a message up. It may have been delivered all the same, if it was ever tried.
    Drop {
        /// Which one, by its request id.
        id: RequestId,
    },
}

/// The verbs on contexts.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// List them; the one in use bears a star.
    List,
    /// Name a cluster.
    Add {
        /// What to call it.
        name: String,
        /// Some of its nodes.
        #[arg(required = true, value_name = "HOST:PORT,…", value_delimiter = ',')]
        servers: Vec<Address>,
    },
    /// Use a cluster from now on, unless --context or --servers says otherwise.
    Use {
        /// Which one.
        #[arg(add = Completer::from(Names::Contexts))]
        name: String,
    },
    /// Forget a name. Sessions and messages stay.
    Remove {
        /// Which one.
        #[arg(add = Completer::from(Names::Contexts))]
        name: String,
    },
}

/// A setting's two positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It holds.
    On,
    /// It does not.
    Off,
}

/// Where a password comes from, if not from a prompt.
#[derive(Debug, Args)]
pub struct PasswordSource {
    /// Read the password from this file (its first line). CHAT_PASSWORD is another way.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// The account.
    #[command(flatten)]
    pub account: Named,
    /// Only create the account: whoever is signed in here stays so.
    #[arg(long)]
    pub no_login: bool,
}

/// `login`, and most of `register`.
#[derive(Debug, Args)]
pub struct Named {
    /// The account's name.
    pub name: String,
    /// What `chat sessions` calls this machine. Default: its name.
    #[arg(long, env = "CHAT_DEVICE", value_name = "LABEL")]
    pub device: Option<String>,
    /// The password.
    #[command(flatten)]
    pub password: PasswordSource,
}

/// `passwd`.
#[derive(Debug, Args)]
pub struct Passwd {
    /// The present password.
    #[command(flatten)]
    pub password: PasswordSource,
    /// Read the new password from this file (its first line). CHAT_NEW_PASSWORD is another way.
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// `delete-account`.
#[derive(Debug, Args)]
pub struct DeleteAccount {
    /// Erase the messages it sent, too, for everyone. Otherwise they stay, without its name.
    #[arg(long)]
    pub erase_messages: bool,
    /// The password.
    #[command(flatten)]
    pub password: PasswordSource,
}

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Whom: a username, '#room' or a conversation's id. With --json, `-` alone reads messages, one
    /// {"to","body"[,"requestId"]} per line of standard input, and writes what became of each.
    #[arg(add = Completer::from(Names::Recipients))]
    pub to: String,
    /// The message; `-` reads it from standard input.
    pub message: Vec<String>,
    /// Keep the message on disk until it is acknowledged, even if no node answers now.
    #[arg(long)]
    pub queue: bool,
    /// Repeat an earlier send whose outcome is unknown: it takes effect once, whatever became of it.
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<RequestId>,
}

/// `read`.
#[derive(Debug, Args)]
pub struct Read {
    /// Only this conversation: a username, '#room' or a conversation's id.
    #[arg(add = Completer::from(Names::Recipients))]
    pub to: Option<String>,
    /// Only what is unread. This is what it does anyway; scripts may say so.
    #[arg(long)]
    pub unread: bool,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Do not mark them as read.
    #[arg(long)]
    pub peek: bool,
}

/// `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Whose: a username, '#room' or a conversation's id.
    #[arg(add = Completer::from(Names::Recipients))]
    pub to: String,
    /// Only what came before this message.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub before: Option<u64>,
    /// At most so many, the latest ones.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// In which conversation: a username, '#room' or a conversation's id.
    #[arg(add = Completer::from(Names::Recipients))]
    pub to: String,
    /// Which messages, by their numbers.
    #[arg(required = true, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub seqs: Vec<u64>,
    /// For everyone: only one's own messages.
    #[arg(long)]
    pub for_everyone: bool,
}

/// The verbs on rooms.
#[derive(Debug, Subcommand)]
pub enum Room {
    /// Create a room.
    Create {
        /// What it is called.
        title: String,
        /// Joined by invitation only, and not listed to others.
        #[arg(long)]
        private: bool,
        /// Whom to invite at once.
        #[arg(add = Completer::from(Names::Accounts))]
        users: Vec<String>,
    },
    /// Join a public room.
    Join {
        /// '#room' or its id.
        #[arg(add = Completer::from(Names::Joinable))]
        room: String,
    },
    /// Leave a room.
    Leave {
        /// '#room' or its id.
        #[arg(add = Completer::from(Names::Rooms))]
        room: String,
    },
    /// Give a room another title.
    Rename {
        /// '#room' or its id.
        #[arg(add = Completer::from(Names::Rooms))]
        room: String,
        /// What it is called from now on.
        title: String,
    },
    /// Make accounts members of a room.
    Invite {
        /// '#room' or its id.
        #[arg(add = Completer::from(Names::Rooms))]
        room: String,
        /// Whom.
        #[arg(required = true, add = Completer::from(Names::Accounts))]
        users: Vec<String>,
    },
    /// Remove members from a room.
    Kick {
        /// '#room' or its id.
        #[arg(add = Completer::from(Names::Rooms))]
        room: String,
        /// Whom.
        #[arg(required = true, add = Completer::from(Names::Accounts))]
        users: Vec<String>,
    },
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// How many send at the same time, each waiting for its acknowledgement.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// For how long, unless ctrl-c ends it sooner.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How many accounts they share. Default: one for each client, 16 at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub accounts: Option<u32>,
    /// How many connections to each node they share.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Bytes in each message.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub bytes: u32,
    /// Leave the accounts and their messages in place, to fill a cluster.
    #[arg(long)]
    pub keep: bool,
}

fn cursor(text: &str) -> Result<Cursor, String> {
    text.parse().map(Cursor).map_err(|_| "a cursor is a number, as an earlier event bore it".to_owned())
}
