//! How a program ends: its command runs on a runtime, and the result becomes the exit code.
//!
//! The `main` functions of the programs are in this library and not in `src/bin`: an async function is compiled where it
//! is awaited, so a program that awaited its own command would compile most of the library a second time.

use std::{future::Future, io, process::ExitCode};

use tokio::runtime::Runtime;

use super::{
    exit::Exit,
    failure::{Failure, Result, finish},
};

/// Runs `command` on `runtime` and returns the exit code of the process. A failure is printed to standard error.
pub fn run_to_end(runtime: io::Result<Runtime>, command: impl Future<Output = Result<()>>) -> ExitCode {
    match runtime {
        Ok(runtime) => finish(runtime.block_on(command)),
        Err(error) => finish(Err(Failure::new(Exit::Failure, format!("cannot start: {error}")))),
    }
}
