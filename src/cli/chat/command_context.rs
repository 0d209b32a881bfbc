//! What every verb of `chat` works with: the common flags, the state files, and how to get from them to a session.

use std::{
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use super::{
    cluster_contexts::ClusterContexts,
    directories,
    saved_sessions::{SavedSession, SavedSessions},
};
use crate::{
    cli::{Exit, Failure, Output, Result},
    client::{Cluster, Outbox, Session, Settings},
    wire::{Address, Dialer},
};

/// Everything that a command takes from its process. Tests pass their own.
pub struct Environment {
    /// Where answers go.
    pub output: Output,
    /// Where `send TO -` and `send -` read from.
    pub input: Box<dyn Read + Send>,
    /// The folder of sessions and outboxes; `None` if the system names none.
    pub state: Option<PathBuf>,
    /// The folder of the file of contexts; `None` if the system names none.
    pub config: Option<PathBuf>,
    /// `CHAT_PASSWORD`.
    pub password: Option<String>,
    /// `CHAT_NEW_PASSWORD`, for `passwd`.
    pub new_password: Option<String>,
    /// How nodes are dialled.
    pub dialer: Dialer,
}

impl Environment {
    /// That of this process.
    pub fn standard(json: bool) -> Self {
        Self {
            output: Output::standard(json),
            input: Box::new(io::stdin()),
            state: directories::state(),
            config: directories::config(),
            password: std::env::var("CHAT_PASSWORD").ok(),
            new_password: std::env::var("CHAT_NEW_PASSWORD").ok(),
            dialer: Dialer::tcp(),
        }
    }
}

/// The common flags of one command, and its environment.
///
/// `servers` follows one order of precedence: `--context`, then `--servers` (or its variable), then the context in use
/// ([`Self::default_to_context_in_use`]), then the servers of the last sign-in ([`Self::cluster`], [`Self::session`]).
/// Empty means that no flag and no context has named any.
pub(super) struct CommandContext {
    pub(super) servers: Vec<Address>,
    /// `--as`.
    account: Option<String>,
    timeout: Duration,
    pub(super) saved_sessions: SavedSessions,
    pub(super) cluster_contexts: ClusterContexts,
    pub(super) environment: Environment,
}

impl CommandContext {
    /// Resolves `--context`, which is `cluster_context`, to servers.
    ///
    /// # Errors
    /// If the file of contexts has no usable context of the name `cluster_context`.
    pub(super) fn new(
        servers: Vec<Address>,
        cluster_context: Option<String>,
        account: Option<String>,
        timeout: Duration,
        environment: Environment,
    ) -> Result<Self> {
        let saved_sessions = SavedSessions::in_directory(environment.state.clone());
        let cluster_contexts = ClusterContexts::in_directory(environment.config.clone());
        let servers = match cluster_context {
            Some(name) => cluster_contexts.servers_of(&name)?,
            None => servers,
        };
        Ok(Self { servers, account, timeout, saved_sessions, cluster_contexts, environment })
    }

    /// Takes the servers of the context in use, unless a flag has named some.
    pub(super) fn default_to_context_in_use(&mut self) -> Result<()> {
        if self.servers.is_empty() {
            self.servers = self.cluster_contexts.servers_in_use()?;
        }
        Ok(())
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.environment.output
    }

    /// The outbox of the account of `saved` at its cluster.
    pub(super) fn outbox(&self, saved: &SavedSession) -> Result<Outbox> {
        let Some(state) = &self.environment.state else {
            return Err(Failure::new(Exit::Failure, "there is no folder to keep messages in")
                .next("set HOME or XDG_STATE_HOME to an absolute path"));
        };
        Ok(Outbox::at(state.join("outbox").join(saved.file_name() + ".log")))
    }

    /// The cluster at `servers`, or else at those of the last sign-in.
    pub(super) fn cluster(&self) -> Result<Cluster> {
        let mut servers = self.servers.clone();
        if servers.is_empty() {
            servers = self.saved_sessions.select(&[], None)?.map(|saved| saved.servers).unwrap_or_default();
        }
        self.cluster_at(servers)
    }

    fn cluster_at(&self, servers: Vec<Address>) -> Result<Cluster> {
        if servers.is_empty() {
            return Err(Failure::new(Exit::Usage, "no server is known").next(
                "name some nodes with --servers HOST:PORT,…, in CHAT_SERVERS, or for good with `chat context add`",
            ));
        }
        Ok(Cluster::new(servers, self.environment.dialer.clone(), Settings::new(self.timeout)))
    }

    /// The session to act as, and its entry in the file of sessions.
    pub(super) fn session(&self) -> Result<(Session, SavedSession)> {
        let Some(saved) = self.saved_sessions.select(&self.servers, self.account.as_deref())? else {
            let who = self.account.as_deref().map(|name| format!(" as {name}")).unwrap_or_default();
            let at = if self.servers.is_empty() { "" } else { " at these servers" };
            return Err(Failure::new(Exit::NotAllowed, format!("not signed in{who}{at}"))
                .next("sign in with `chat login NAME`, or create an account with `chat register NAME`"));
        };
        let mut servers = self.servers.clone();
        servers.extend(saved.servers.iter().filter(|server| !self.servers.contains(server)).cloned());
        let session = Session::resume(&self.cluster_at(servers)?, &saved.token)?;
        Ok((session, saved))
    }
}
