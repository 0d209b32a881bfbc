//! `chat`, the user's client: the arguments, the state files, and one file for each group of verbs.
//!
//! A verb calls [`client`](crate::client) and prints the answer. It takes no decision about chat or about the cluster.
//!
//! Two files outlive a command: the sessions of the people at this machine ([`saved_sessions`]) and the names they gave
//! to clusters ([`cluster_contexts`]). The outbox of each account is a third kind, owned by the client library.

mod account;
mod args;
mod bench;
mod cluster_contexts;
mod command_context;
mod completion;
mod context;
mod directories;
mod histogram;
mod listen;
mod messages;
mod outbox;
mod password;
mod pipe;
mod recipient;
mod rooms;
mod saved_sessions;
mod settings;
mod show;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::CommandFactory;

pub use args::Chat;
pub use command_context::Environment;

use args::Verb;
use command_context::CommandContext;
use completion::complete;

use super::{Exit, Failure, Result, man, parse, run_to_end, screen};
use crate::telemetry::terminal_has_escapes;

/// The whole program: parses the arguments, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    // Before anything else: when the shell asks for completions, the process does only that.
    if complete() {
        return Exit::Ok.into();
    }
    let chat: Chat = parse();
    let environment = Environment::standard(chat.json);
    run_to_end(tokio::runtime::Runtime::new(), run(chat, environment))
}

/// Runs one command. Without a verb it opens the full-screen client on a terminal, and prints the help elsewhere.
///
/// # Errors
/// With the exit code and the text for the person who typed the command.
pub async fn run(chat: Chat, environment: Environment) -> Result<()> {
    let context = CommandContext::new(chat.servers, chat.context, chat.account, chat.timeout, environment)?;
    match chat.verb {
        Some(verb) => run_verb(context, verb).await,
        None if context.environment.output.is_terminal() && io::stdin().is_terminal() => run_screen(context).await,
        None => Chat::command().print_long_help().map_err(Failure::from),
    }
}

async fn run_verb(mut context: CommandContext, verb: Verb) -> Result<()> {
    // These need no cluster, and must work even if the context in use is broken.
    match verb {
        Verb::Context(verb) => return context::run(context, verb),
        Verb::Man { directory } => return man(Chat::command(), &directory),
        Verb::Completions { shell } => return completion::script(shell, &mut context.environment.output),
        _ => {}
    }
    context.default_to_context_in_use()?;
    match verb {
        Verb::Register(args) => account::register(context, args).await,
        Verb::Login(args) => account::login(context, args).await,
        Verb::Logout { all, session } => account::logout(context, all, session).await,
        Verb::Whoami => account::whoami(context).await,
        Verb::Passwd(args) => account::passwd(context, args).await,
        Verb::Sessions => account::sessions(context).await,
        Verb::DeleteAccount(args) => account::delete(context, args).await,
        Verb::Settings { receipts } => settings::settings(context, receipts).await,
        Verb::Block { name } => settings::block(context, &name).await,
        Verb::Unblock { name } => settings::unblock(context, &name).await,
        Verb::Blocked => settings::blocked(context).await,
        Verb::Users { pattern, limit } => account::users(context, &pattern.unwrap_or_default(), limit).await,
        Verb::Send(args) => messages::send(context, args).await,
        Verb::Inbox { unread } => messages::inbox(context, unread).await,
        Verb::Read(args) => messages::read(context, args).await,
        Verb::History(args) => messages::history(context, args).await,
        Verb::Delete(args) => messages::delete(context, args).await,
        Verb::Listen { after } => listen::listen(context, after).await,
        Verb::Rooms => rooms::list(context).await,
        Verb::Room(verb) => rooms::run(context, verb).await,
        Verb::Bench(args) => bench::run(context, args).await,
        Verb::Outbox { verb } => outbox::run(context, verb).await,
        Verb::Context(_) | Verb::Man { .. } | Verb::Completions { .. } => Ok(()),
    }
}

async fn run_screen(mut context: CommandContext) -> Result<()> {
    if !terminal_has_escapes() {
        let what = "this terminal cannot show the full-screen client: TERM is not set, or it is `dumb`";
        return Err(Failure::new(Exit::Usage, what).next(
            "use the line commands `chat inbox`, `chat read`, `chat send TO MESSAGE` and `chat listen`, or set TERM",
        ));
    }
    context.default_to_context_in_use()?;
    let (session, saved) = context.session()?;
    let outbox = context.outbox(&saved)?;
    let unsent = screen::run(session, &saved.account, outbox).await?;
    if unsent > 0 {
        context.output().talk(match unsent {
            1 => "1 unsent message is kept on disk; `chat outbox` lists it".to_owned(),
            _ => format!("{unsent} unsent messages are kept on disk; `chat outbox` lists them"),
        });
    }
    Ok(())
}
