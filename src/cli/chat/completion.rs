//! Shell completion: verbs and flags, and the names that the cluster and the state files know right now.
//!
//! The shell runs this program each time a person presses Tab, and inserts what it prints into the command line as it
//! is. Three rules follow:
//!
//! - A person waits, so the cluster gets [`TIMEOUT`] and may answer with a stale read.
//! - Every error means that nothing is offered. Nothing is printed on stderr, which would garble the prompt.
//! - A room whose title has spaces or shell characters is offered by its id only.

use std::{env, ffi::OsStr, time::Duration};

use clap::{Arg, Command, CommandFactory};
use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use tokio::time::timeout;

use super::{
    args::Chat,
    cluster_contexts::ClusterContexts,
    command_context::{CommandContext, Environment},
    directories,
    saved_sessions::SavedSessions,
    show,
};
use crate::{
    cli::{Exit, Failure, Output, Result, text},
    client::Session,
    types::{Consistency, Username, limits},
    wire::{Address, Fault, chat::ListConversationsRequest},
};

/// Time limit for all calls to the cluster.
const TIMEOUT: Duration = Duration::from_millis(300);
/// The environment variable by which the completion script asks, with the name of its shell.
const VARIABLE: &str = "COMPLETE";
/// Accounts asked for at most.
const ACCOUNTS: i32 = 50;

/// The kind of name that an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameKind {
    /// An account or a conversation.
    Recipient,
    /// A room that the account is in.
    JoinedRoom,
    /// A public room that the account is not in.
    JoinableRoom,
    /// An account of the cluster.
    Account,
    /// An account that is signed in on this machine.
    SignedIn,
    /// A named cluster.
    Context,
}

/// A name, and a description where the name alone says too little.
type Offer = (String, String);

/// Answers if a shell asks for completions by [`VARIABLE`]; returns whether one did.
pub fn complete() -> bool {
    let engine = CompleteEnv::with_factory(command).var(VARIABLE);
    engine.try_complete(env::args_os(), env::current_dir().ok().as_deref()).unwrap_or(true)
}

/// Prints the script by which a shell asks [`complete`].
pub(super) fn script(shell: Shell, output: &mut Output) -> Result<()> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    if let Some(shell) = shells.completer(&shell.to_string()) {
        shell.write_registration(VARIABLE, "chat", "chat", "chat", &mut script)?;
    }
    output.raw(script)
}

/// The command line of `chat`, with a completer on every argument that takes a name.
fn command() -> Command {
    with_completers(Chat::command())
}

fn with_completers(command: Command) -> Command {
    let verb = command.get_name().to_owned();
    command.mut_args(|arg| with_completer(&verb, arg)).mut_subcommands(with_completers)
}

fn with_completer(verb: &str, arg: Arg) -> Arg {
    match NameKind::of(verb, arg.get_id().as_str()) {
        Some(kind) => arg.add(ArgValueCompleter::new(move |typed: &OsStr| kind.candidates(typed))),
        None => arg,
    }
}

impl NameKind {
    /// What the argument `id` of `verb` takes, if it takes a name that can be looked up.
    fn of(verb: &str, id: &str) -> Option<Self> {
        match (verb, id) {
            (_, "to") => Some(Self::Recipient),
            ("join", "room") => Some(Self::JoinableRoom),
            (_, "room") => Some(Self::JoinedRoom),
            (_, "users") | ("block", "name") => Some(Self::Account),
            (_, "account") => Some(Self::SignedIn),
            (_, "context") | ("use" | "remove", "name") => Some(Self::Context),
            _ => None,
        }
    }

    /// The names that begin with `typed`.
    fn candidates(self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        let mut found = self.look_up(typed).unwrap_or_default();
        found.retain(|(name, _)| name.starts_with(typed));
        found.sort();
        found.dedup();
        let candidate = |(name, description): Offer| {
            CompletionCandidate::new(name).help((!description.is_empty()).then(|| description.into()))
        };
        found.into_iter().map(candidate).collect()
    }

    fn look_up(self, typed: &str) -> Result<Vec<Offer>> {
        let plain = |names: Vec<String>| Ok(names.into_iter().map(|name| (name, String::new())).collect());
        match self {
            Self::SignedIn => return plain(SavedSessions::in_directory(directories::state()).accounts()?),
            Self::Context => return plain(ClusterContexts::in_directory(directories::config()).names()?),
            _ => {}
        }
        let (session, saved) = context_of_command_line()?.session()?;
        let session = session.reading(Consistency::Stale);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask = async { timeout(TIMEOUT, self.ask(&session, &saved.account, typed)).await };
        Ok(runtime.block_on(ask).unwrap_or(Ok(Vec::new()))?)
    }

    async fn ask(self, session: &Session, me: &str, typed: &str) -> std::result::Result<Vec<Offer>, Fault> {
        let mut found = Vec::new();
        if matches!(self, Self::Recipient | Self::Account) && Username::new(typed).is_ok() {
            let accounts = session.users(&format!("{typed}*"), ACCOUNTS, "").await?.accounts;
            let live = accounts.into_iter().filter(|account| !account.deleted);
            found.extend(live.map(|account| (account.username, String::new())));
        }
        let page_size = i32::try_from(limits::PAGE_SIZE).unwrap_or(i32::MAX);
        let joinable = self == Self::JoinableRoom;
        let request = ListConversationsRequest { joinable, page_size, ..Default::default() };
        for conversation in session.conversations(request).await?.conversations {
            match (self, conversation.direct) {
                (Self::Recipient | Self::Account, true) => {
                    found.push((show::conversation_name(&conversation, me), String::new()));
                }
                (Self::Recipient | Self::JoinedRoom | Self::JoinableRoom, false) => {
                    let title = text::title(&conversation.title);
                    let is_word = !title.starts_with("#\"");
                    // Only if a `#` was typed, and so quoted: a bare one would begin a comment.
                    found.extend((is_word && typed.starts_with('#')).then(|| (title.clone(), String::new())));
                    found.push((conversation.conversation_id, title));
                }
                _ => {}
            }
        }
        // `(deleted account)` is no name.
        found.retain(|(name, _)| !name.contains(' '));
        Ok(found)
    }
}

/// The context of the command line that is being typed, which follows `--` in our arguments. It may be incomplete.
fn context_of_command_line() -> Result<CommandContext> {
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    let failed = |error: clap::Error| Failure::new(Exit::Usage, error.to_string());
    let matches = Chat::command().ignore_errors(true).try_get_matches_from(words).map_err(failed)?;
    let one = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let servers = matches.try_get_many::<Address>("servers").ok().flatten();
    let servers = servers.map(|servers| servers.cloned().collect()).unwrap_or_default();
    let environment = Environment::standard(false);
    let mut context = CommandContext::new(servers, one("context"), one("account"), TIMEOUT, environment)?;
    context.default_to_context_in_use()?;
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments that have a completer, as `verb.argument`.
    fn completed(command: &Command, found: &mut Vec<String>) {
        let has = |arg: &&Arg| arg.get::<ArgValueCompleter>().is_some();
        found.extend(command.get_arguments().filter(has).map(|arg| format!("{}.{}", command.get_name(), arg.get_id())));
        command.get_subcommands().for_each(|verb| completed(verb, found));
    }

    #[test]
    fn every_argument_that_takes_a_name_has_a_completer() {
        let mut found = Vec::new();
        completed(&command(), &mut found);
        found.sort();
        let expected = "block.name chat.account chat.context create.users delete.to history.to invite.room invite.users \
                        join.room kick.room kick.users leave.room read.to remove.name rename.room send.to use.name";
        assert_eq!(found.join(" "), expected);
    }
}
