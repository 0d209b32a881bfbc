//! The user's client.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use quorate::cli::{
    chat::{Chat, Surroundings, run},
    finish,
};

#[tokio::main]
async fn main() -> ExitCode {
    let chat = Chat::parse();
    let around = Surroundings::standard(chat.json);
    finish(run(chat, around).await)
}
