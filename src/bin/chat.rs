//! The user's client.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use quorate::cli::{
    Exit, Failure,
    chat::{Chat, Surroundings, complete, run},
    finish, parse,
};

fn main() -> ExitCode {
    // First of all: it wants the process for itself.
    if complete() {
        return Exit::Ok.into();
    }
    let chat: Chat = parse();
    let around = Surroundings::standard(chat.json);
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => finish(runtime.block_on(run(chat, around))),
        Err(error) => finish(Err(Failure::new(Exit::Failure, format!("cannot start: {error}")))),
    }
}
