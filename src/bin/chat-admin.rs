//! The operator's tool: see [`quorate::cli::admin`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use quorate::{
    cli::{Exit, Failure, Output, admin, finish, parse},
    wire::Dialer,
};

fn main() -> ExitCode {
    let args = parse::<admin::Args>();
    let mut output = Output::standard(args.json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(Failure::new(Exit::Failure, format!("cannot start: {error}")))),
    };
    finish(runtime.block_on(admin::run(args, Dialer::tcp(), &mut output)))
}
