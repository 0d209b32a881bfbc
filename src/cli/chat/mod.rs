//! `chat`, the user's client: its arguments, and each verb in a file of its kind.
//!
//! A verb calls [`client`](crate::client) and shows the answer; it decides nothing. The signed-in sessions of the
//! person at this machine are kept in one file ([`contexts`]).

mod account;
mod args;
mod bench;
mod clusters;
mod contexts;
mod histogram;
mod listen;
mod messages;
mod names;
mod outbox;
mod password;
mod pipe;
mod recipient;
mod rooms;
mod settings;
mod show;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use clap::CommandFactory;

pub use args::Chat;
pub use names::complete;

use args::Verb;
use contexts::{Context, Contexts};

use clusters::Clusters;

use super::{Exit, Failure, Output, Result, man, screen};
use crate::{
    client::{Cluster, Outbox, Session, Settings, outcome_is_unknown},
    wire::{Address, Dialer, Fault},
};

/// What a command finds around it; tests give their own.
pub struct Surroundings {
    /// Where answers go.
    pub output: Output,
    /// Where `send TO -` reads the message.
    pub input: Box<dyn io::Read + Send>,
    /// Where sessions are kept; `None` when the system names no place.
    pub state: Option<PathBuf>,
    /// Where the names of clusters are kept; `None` when the system names no place.
    pub config: Option<PathBuf>,
    /// The password from the environment.
    pub password: Option<String>,
    /// The new password for `passwd`, from the environment.
    pub new_password: Option<String>,
    /// How nodes are dialled.
    pub dialer: Dialer,
}

impl Surroundings {
    /// The process's own.
    pub fn standard(json: bool) -> Self {
        Self {
            output: Output::standard(json),
            input: Box::new(io::stdin()),
            state: contexts::directory(),
            config: clusters::directory(),
            password: std::env::var("CHAT_PASSWORD").ok(),
            new_password: std::env::var("CHAT_NEW_PASSWORD").ok(),
            dialer: Dialer::tcp(),
        }
    }
}

/// Runs one command.
pub async fn run(chat: Chat, around: Surroundings) -> Result<()> {
    let desk = Desk::new(chat.servers, chat.context, chat.account, chat.timeout, around)?;
    match chat.verb {
        Some(verb) => desk.run(verb).await,
        None if desk.around.output.is_terminal() && io::stdin().is_terminal() => desk.screen().await,
        None => Chat::command().print_long_help().map_err(Failure::from),
    }
}

/// Where a verb works: the flags common to all, and what is around.
struct Desk {
    servers: Vec<Address>,
    account: Option<String>,
    timeout: Duration,
    contexts: Contexts,
    clusters: Clusters,
    around: Surroundings,
}

impl Desk {
    /// At the servers of `context` if that is named, else at `servers`.
    fn new(
        servers: Vec<Address>,
        context: Option<String>,
        account: Option<String>,
        timeout: Duration,
        around: Surroundings,
    ) -> Result<Self> {
        let contexts = Contexts::at(around.state.clone());
        let clusters = Clusters::at(around.config.clone());
        let servers = match context {
            Some(name) => clusters.named(&name)?,
            None => servers,
        };
        Ok(Self { servers, account, timeout, contexts, clusters, around })
    }

    async fn run(mut self, verb: Verb) -> Result<()> {
        match verb {
            Verb::Context(verb) => return clusters::run(self, verb),
            Verb::Man { directory } => return man(Chat::command(), &directory),
            Verb::Completions { shell } => return names::script(shell, &mut self.around.output),
            _ => {}
        }
        self.use_context()?;
        match verb {
            Verb::Register(args) => account::register(self, args).await,
            Verb::Login(args) => account::login(self, args).await,
            Verb::Logout { all, session } => account::logout(self, all, session).await,
            Verb::Whoami => account::whoami(self).await,
            Verb::Passwd(args) => account::passwd(self, args).await,
            Verb::Sessions => account::sessions(self).await,
            Verb::DeleteAccount(args) => account::delete(self, args).await,
            Verb::Settings { receipts } => settings::settings(self, receipts).await,
            Verb::Block { name } => settings::block(self, &name).await,
            Verb::Unblock { name } => settings::unblock(self, &name).await,
            Verb::Blocked => settings::blocked(self).await,
            Verb::Users { pattern, limit } => account::users(self, &pattern.unwrap_or_default(), limit).await,
            Verb::Send(args) => messages::send(self, args).await,
            Verb::Inbox { unread } => messages::inbox(self, unread).await,
            Verb::Read(args) => messages::read(self, args).await,
            Verb::History(args) => messages::history(self, args).await,
            Verb::Delete(args) => messages::delete(self, args).await,
            Verb::Listen { after } => listen::listen(self, after).await,
            Verb::Rooms => rooms::list(self).await,
            Verb::Room(verb) => rooms::run(self, verb).await,
            Verb::Bench(args) => bench::run(self, args).await,
            Verb::Outbox { verb } => outbox::run(self, verb).await,
            Verb::Context(_) | Verb::Man { .. } | Verb::Completions { .. } => Ok(()),
        }
    }

    /// The full-screen client.
    async fn screen(mut self) -> Result<()> {
        self.use_context()?;
        let (session, context) = self.session()?;
        let outbox = self.outbox(&context)?;
        let waiting = screen::run(session, &context.account, outbox).await?;
        if waiting > 0 {
            let plural = if waiting == 1 { "message is" } else { "messages are" };
            self.output().talk(format!("{waiting} {plural} kept until it can be sent; `chat outbox` lists what is"));
        }
        Ok(())
    }

    /// Without servers named, those of the context in use.
    fn use_context(&mut self) -> Result<()> {
        if self.servers.is_empty() {
            self.servers = self.clusters.in_use()?;
        }
        Ok(())
    }

    /// Where this account's messages wait.
    fn outbox(&self, context: &Context) -> Result<Outbox> {
        let Some(state) = &self.around.state else {
            return Err(Failure::new(Exit::Failure, "there is no place to keep messages")
                .next("set HOME or XDG_STATE_HOME to an absolute path"));
        };
        Ok(Outbox::at(state.join("outbox").join(context.file_name() + ".log")))
    }

    fn output(&mut self) -> &mut Output {
        &mut self.around.output
    }

    /// The cluster at the servers given, or else at those of the last sign-in.
    fn cluster(&self) -> Result<Cluster> {
        let mut servers = self.servers.clone();
        if servers.is_empty() {
            servers = self.contexts.select(&[], None)?.map(|context| context.servers).unwrap_or_default();
        }
        self.cluster_at(servers)
    }

    fn cluster_at(&self, servers: Vec<Address>) -> Result<Cluster> {
        if servers.is_empty() {
            return Err(Failure::new(Exit::Usage, "no server is known").next(
                "name some nodes with --servers HOST:PORT,…, in CHAT_SERVERS, or for good with `chat context add`",
            ));
        }
        Ok(Cluster::new(servers, self.around.dialer.clone(), Settings::new(self.timeout)))
    }

    /// The session to act as.
    fn session(&self) -> Result<(Session, Context)> {
        let Some(context) = self.contexts.select(&self.servers, self.account.as_deref())? else {
            let who = self.account.as_deref().map(|name| format!(" as {name}")).unwrap_or_default();
            let at = if self.servers.is_empty() { "" } else { " at these servers" };
            return Err(Failure::new(Exit::NotAllowed, format!("not signed in{who}{at}"))
                .next("sign in with `chat login NAME`, or create an account with `chat register NAME`"));
        };
        let mut servers = self.servers.clone();
        servers.extend(context.servers.iter().filter(|server| !self.servers.contains(server)).cloned());
        let session = Session::resume(&self.cluster_at(servers)?, &context.token)?;
        Ok((session, context))
    }
}

/// A write's fault; where the outcome is unknown, `look` says how to find out.
fn write_failed(fault: Fault, look: impl Into<String>) -> Failure {
    let unknown = outcome_is_unknown(&fault);
    let failure = Failure::from(fault);
    if unknown { failure.next(look) } else { failure }
}
