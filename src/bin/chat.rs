//! The user's client.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use quorate::cli::{
    Exit, Failure,
    chat::{Chat, Environment, complete, run},
    finish, parse,
};

fn main() -> ExitCode {
    // Before anything else: a shell that asks for completions must get nothing else.
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
