//! The operator's tool: see [`quorate::cli::admin`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    quorate::cli::admin::main()
}
