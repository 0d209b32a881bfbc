//! Names for the shell's completion, as the cluster knows them now.
//!
//! The shell runs this program while the person waits with a finger on the Tab key, and puts what it prints on the
//! command line as it is. So there is little time ([`TIMEOUT`]), whatever goes wrong offers nothing, and no room is
//! offered by a title that a shell could take for more than a word: those are offered by their ids.

use std::{env, ffi::OsStr, time::Duration};

use clap::CommandFactory;
use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use tokio::time::timeout;

use super::{Chat, Clusters, Contexts, Desk, Surroundings, clusters, contexts, messages};
use crate::{
    cli::{Failure, Output, Result, text},
    client::Session,
    types::{Consistency, Username, limits},
    wire::{Address, Fault, chat::ListConversationsRequest},
};

/// How long the cluster has to answer.
const TIMEOUT: Duration = Duration::from_millis(300);
/// The variable in which the script of [`script`] names the shell that asks.
const VARIABLE: &str = "COMPLETE";
/// Accounts asked for.
const ACCOUNTS: i32 = 50;

/// What stands in an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Somebody's name, or a conversation.
    Recipients,
    /// A room that the account is in.
    Rooms,
    /// A room that it may join.
    Joinable,
    /// Somebody's name.
    Accounts,
    /// Somebody who is signed in here.
    SignedIn,
    /// A cluster's name.
    Contexts,
}

impl From<Names> for ArgValueCompleter {
    fn from(names: Names) -> Self {
        Self::new(move |typed: &OsStr| typed.to_str().map(|typed| names.beginning_with(typed)).unwrap_or_default())
    }
}

/// Answers a shell that asks for completions; says whether one did.
pub fn complete() -> bool {
    let asked = CompleteEnv::with_factory(Chat::command).var(VARIABLE);
    // The shell has no use for words about what went wrong.
    asked.try_complete(env::args_os(), env::current_dir().ok().as_deref()).unwrap_or(true)
}

/// Prints the script that has a shell ask.
pub(super) fn script(shell: Shell, output: &mut Output) -> Result<()> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    if let Some(shell) = shells.completer(&shell.to_string()) {
        shell.write_registration(VARIABLE, "chat", "chat", "chat", &mut script)?;
    }
    output.raw(script)
}

impl Names {
    fn beginning_with(self, typed: &str) -> Vec<CompletionCandidate> {
        let mut found = self.look(typed).unwrap_or_default();
        found.retain(|(name, _)| name.starts_with(typed));
        found.sort();
        found.dedup();
        let candidate = |(name, what): (String, String)| {
            CompletionCandidate::new(name).help((!what.is_empty()).then(|| what.into()))
        };
        found.into_iter().map(candidate).collect()
    }

    /// Names, each with what it stands for if it does not say so itself.
    fn look(self, typed: &str) -> Result<Vec<(String, String)>> {
        let plain = |names: Vec<String>| Ok(names.into_iter().map(|name| (name, String::new())).collect());
        match self {
            Self::SignedIn => return plain(Contexts::at(contexts::directory()).accounts()?),
            Self::Contexts => return plain(Clusters::at(clusters::directory()).names()?),
            _ => {}
        }
        let (session, context) = desk()?.session()?;
        let session = session.reading(Consistency::Stale);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask = async { timeout(TIMEOUT, self.ask(&session, &context.account, typed)).await };
        Ok(runtime.block_on(ask).unwrap_or(Ok(Vec::new()))?)
    }

    async fn ask(self, session: &Session, me: &str, typed: &str) -> std::result::Result<Vec<(String, String)>, Fault> {
        let mut found = Vec::new();
        if matches!(self, Self::Recipients | Self::Accounts) && Username::new(typed).is_ok() {
            let accounts = session.users(&format!("{typed}*"), ACCOUNTS, "").await?.accounts;
            let live = accounts.into_iter().filter(|account| !account.deleted);
            found.extend(live.map(|account| (account.username, String::new())));
        }
        let page_size = i32::try_from(limits::PAGE_SIZE).unwrap_or(i32::MAX);
        let joinable = self == Self::Joinable;
        let request = ListConversationsRequest { joinable, page_size, ..Default::default() };
        for conversation in session.conversations(request).await?.conversations {
            match (self, conversation.direct) {
                (Self::Recipients | Self::Accounts, true) => {
                    found.push((messages::name(&conversation, me), String::new()));
                }
                (Self::Recipients | Self::Rooms | Self::Joinable, false) => {
                    let title = text::title(&conversation.title);
                    let is_word = !title.starts_with("#\"");
                    // Offered unasked, it would begin a comment.
                    found.extend((is_word && typed.starts_with('#')).then(|| (title.clone(), String::new())));
                    found.push((conversation.conversation_id, title));
                }
                _ => {}
            }
        }
        // No name, but what stands for one that is gone.
        found.retain(|(name, _)| !name.contains(' '));
        Ok(found)
    }
}

/// As the command line that is being written would have it.
fn desk() -> Result<Desk> {
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    let failed = |error: clap::Error| Failure::new(crate::cli::Exit::Usage, error.to_string());
    let matches = Chat::command().ignore_errors(true).try_get_matches_from(words).map_err(failed)?;
    let one = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let servers = matches.try_get_many::<Address>("servers").ok().flatten();
    let servers = servers.map(|servers| servers.cloned().collect()).unwrap_or_default();
    let mut desk = Desk::new(servers, one("context"), one("account"), TIMEOUT, Surroundings::standard(false))?;
    desk.use_context()?;
    Ok(desk)
}
