//! The arguments of `chat`: names, flags, defaults and help texts, and nothing else.
//!
//! Names and flags are part of the contract with scripts. What the shell offers for an argument is added from outside
//! (`completion.rs`), which goes by the argument's id: `to`, `room`, `users` and so on.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

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

/// Chat over a replicated cluster that goes on while machines fail.
#[derive(Debug, Parser)]
#[command(name = "chat", version = version(), after_help = EXAMPLES, max_term_width = 100)]
pub struct Chat {
    /// Addresses of nodes; one that answers is enough. Default: the context in use, or else those of the last sign-in.
    #[arg(short, long, global = true, env = "CHAT_SERVERS", value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub servers: Vec<Address>,
    /// Name of a cluster, as given by `chat context add`. Takes precedence over --servers.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Account to act as, if several are signed in on this machine. Default: the last to sign in.
    #[arg(long = "as", global = true, env = "CHAT_AS", value_name = "NAME")]
    pub account: Option<String>,
    /// Time limit, retries included; after it the command fails with exit code 6.
    #[arg(long, global = true, env = "CHAT_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Print data as JSON: one object, or one per line for messages and events.
    #[arg(long, global = true)]
    pub json: bool,
    /// The verb; without one, the full-screen client.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs of `chat`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an account and sign in.
    Register(Register),
    /// Sign in and save the session on this machine.
    Login(Named),
    /// Sign out and forget the session.
    Logout {
        /// End every session of the account, on all machines.
        #[arg(long)]
        all: bool,
        /// End another session instead, by its id from `chat sessions`.
        #[arg(long, value_name = "ID", conflicts_with = "all")]
        session: Option<String>,
    },
    /// Print the name of the signed-in account.
    Whoami,
    /// Change the password and end every other session of the account.
    Passwd(Passwd),
    /// List the account's sessions.
    Sessions,
    /// Delete the account for good. Nobody can register its name again.
    DeleteAccount(DeleteAccount),
    /// Show or change the settings of the account.
    Settings {
        /// Read receipts: in direct conversations, both sides see how far the other has read.
        #[arg(long, value_name = "on|off")]
        receipts: Option<Switch>,
    },
    /// Stop an account from writing to this one and from inviting it. Shared rooms stay.
    Block {
        /// Name of the account.
        name: String,
    },
    /// Lift a block.
    Unblock {
        /// Name of the account.
        name: String,
    },
    /// List blocked accounts.
    Blocked,
    /// List accounts.
    Users {
        /// Pattern of names: `*` stands for any characters, `?` for one. Default: all.
        pattern: Option<String>,
        /// Maximum number of accounts.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Send a message.
    Send(Send),
    /// List or deliver messages that are kept on disk because no node has acknowledged them yet.
    ///
    /// They come from `chat send --queue` and from the full-screen client. Each keeps its request id in all attempts, so
    /// it takes effect once.
    Outbox {
        /// The verb; without one, `list`.
        #[command(subcommand)]
        verb: Option<OutboxVerb>,
    },
    /// List conversations with their unread counts.
    Inbox {
        /// Only conversations with unread messages.
        #[arg(long)]
        unread: bool,
    },
    /// Show the oldest unread messages and mark them as read.
    Read(Read),
    /// Show the latest messages of a conversation, without marking them as read.
    History(History),
    /// Delete messages for this account, or for everyone.
    Delete(Delete),
    /// Print events as they happen, until interrupted. Reconnects by itself when a node fails.
    Listen {
        /// Resume after the event with this cursor; 0 starts with the oldest event. Default: only new events.
        #[arg(long, value_name = "CURSOR", value_parser = cursor)]
        after: Option<Cursor>,
    },
    /// List joined rooms, and public rooms to join.
    Rooms,
    /// Create, join, leave or change a room.
    #[command(subcommand)]
    Room(Room),
    /// Give names to clusters, and choose the one in use.
    #[command(subcommand)]
    Context(ContextVerb),
    /// Measure write throughput and latency. Creates its own accounts and deletes them.
    Bench(Bench),
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, which is created if it is missing.
        directory: PathBuf,
    },
}

/// The verbs of `chat outbox`.
#[derive(Debug, Subcommand)]
pub enum OutboxVerb {
    /// List the messages and why each is still there: waiting, refused, or too old to repeat.
    List,
    /// Deliver waiting messages in order.
    Flush,
    /// Send a refused or too old message again, under a new request id. One that is too old may arrive twice.
    Resend {
        /// Request id of the message.
        id: RequestId,
    },
    /// Remove a message. If it was ever tried, it may have been delivered.
    Drop {
        /// Request id of the message.
        id: RequestId,
    },
}

/// The verbs of `chat context`.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// List contexts. A star marks the one in use.
    List,
    /// Name a cluster. The first context is in use at once.
    Add {
        /// Name of the context.
        name: String,
        /// Addresses of some of its nodes.
        #[arg(required = true, value_name = "HOST:PORT,…", value_delimiter = ',')]
        servers: Vec<Address>,
    },
    /// Use a cluster from now on, unless --context or --servers is given.
    Use {
        /// Name of the context.
        name: String,
    },
    /// Remove a context. Sessions and unsent messages stay.
    Remove {
        /// Name of the context.
        name: String,
    },
}

/// A setting that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Switched on.
    On,
    /// Switched off.
    Off,
}

/// Where a password comes from, if not from a prompt. Never from the arguments: other users can list those.
#[derive(Debug, Args)]
pub struct PasswordSource {
    /// File whose first line is the password. Default: CHAT_PASSWORD, or else a prompt.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// The account.
    #[command(flatten)]
    pub account: Named,
    /// Create the account without signing in. The session in use stays.
    #[arg(long)]
    pub no_login: bool,
}

/// `login`, and most of `register`.
#[derive(Debug, Args)]
pub struct Named {
    /// Name of the account.
    pub name: String,
    /// Label of this machine in `chat sessions`. Default: its host name.
    #[arg(long, env = "CHAT_DEVICE", value_name = "LABEL")]
    pub device: Option<String>,
    /// The password.
    #[command(flatten)]
    pub password: PasswordSource,
}

/// `passwd`.
#[derive(Debug, Args)]
pub struct Passwd {
    /// The current password.
    #[command(flatten)]
    pub password: PasswordSource,
    /// File whose first line is the new password. Default: CHAT_NEW_PASSWORD, or else a prompt.
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// `delete-account`.
#[derive(Debug, Args)]
pub struct DeleteAccount {
    /// Also erase the messages that it sent, for everyone. Default: they stay, marked as from a deleted account.
    #[arg(long)]
    pub erase_messages: bool,
    /// The password.
    #[command(flatten)]
    pub password: PasswordSource,
}

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Recipient: a username, '#room' or a conversation's id. With --json, `-` alone reads one message
    /// {"to","body"[,"requestId"]} per line of standard input and prints one result per line.
    pub to: String,
    /// Text of the message; `-` reads it from standard input.
    pub message: Vec<String>,
    /// Keep the message on disk until a node acknowledges it, even if none answers now.
    #[arg(long)]
    pub queue: bool,
    /// Request id of an earlier send whose outcome is unknown. The message is sent once, however often it is repeated.
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<RequestId>,
}

/// `read`.
#[derive(Debug, Args)]
pub struct Read {
    /// Only this conversation: a username, '#room' or a conversation's id. Default: all.
    pub to: Option<String>,
    /// Only unread messages. This is always so; the flag has no effect.
    #[arg(long)]
    pub unread: bool,
    /// Maximum number of messages.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Do not mark the messages as read.
    #[arg(long)]
    pub peek: bool,
}

/// `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Conversation: a username, '#room' or a conversation's id.
    pub to: String,
    /// Only messages before this number.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub before: Option<u64>,
    /// Maximum number of messages.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Conversation: a username, '#room' or a conversation's id.
    pub to: String,
    /// Numbers of the messages.
    #[arg(required = true, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub seqs: Vec<u64>,
    /// Delete for everyone. Only the author of a message may do so.
    #[arg(long)]
    pub for_everyone: bool,
}

/// The verbs of `chat room`.
#[derive(Debug, Subcommand)]
pub enum Room {
    /// Create a room.
    Create {
        /// Title of the room.
        title: String,
        /// Private: joined by invitation only, and listed to members only.
        #[arg(long)]
        private: bool,
        /// Accounts to invite.
        users: Vec<String>,
    },
    /// Join a public room.
    Join {
        /// Room: '#title' or its id.
        room: String,
    },
    /// Leave a room.
    Leave {
        /// Room: '#title' or its id.
        room: String,
    },
    /// Change the title of a room.
    Rename {
        /// Room: '#title' or its id.
        room: String,
        /// New title.
        title: String,
    },
    /// Add accounts to a room.
    Invite {
        /// Room: '#title' or its id.
        room: String,
        /// Names of the accounts.
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Remove members from a room.
    Kick {
        /// Room: '#title' or its id.
        room: String,
        /// Names of the accounts.
        #[arg(required = true)]
        users: Vec<String>,
    },
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Number of concurrent senders. Each waits for an acknowledgement before it sends the next message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Length of the measurement. Ctrl-C ends it sooner.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,
    /// Number of accounts that the senders share. Default: one for each sender, at most 16.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub accounts: Option<u32>,
    /// Number of connections to each node that the senders share.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Size of each message in bytes.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub bytes: u32,
    /// Keep the accounts and their messages, for example to fill a cluster.
    #[arg(long)]
    pub keep: bool,
}

fn cursor(text: &str) -> Result<Cursor, String> {
    text.parse().map(Cursor).map_err(|_| {
        "a cursor is a number, such as the `cursor` of an event printed by `chat listen --json`".to_owned()
    })
}
