//! The user's client: see [`quorate::cli::chat`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    quorate::cli::chat::main()
}
