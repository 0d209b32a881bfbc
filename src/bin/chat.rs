//! The user's client: see [`quorate::cli::chat`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use quorate::cli::{
    Exit, Failure,
    chat::{Chat, Environment, complete, run},
    finish, parse,
};

fn main() -> ExitCode {
    // Before anything else: when the shell asks for completions, the process does only that.
    if complete() {
        return Exit::Ok.into();
    }
    let chat: Chat = parse();
    let environment = Environment::standard(chat.json);
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => finish(runtime.block_on(run(chat, environment))),
        Err(error) => finish(Err(Failure::new(Exit::Failure, format!("cannot start: {error}")))),
    }
}
