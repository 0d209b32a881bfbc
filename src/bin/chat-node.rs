//! The replica and its offline commands: see [`quorate::daemon`].
#![forbid(unsafe_code)]

/// A node runs for months and frees pages of all sizes on many threads. In such a process glibc's allocator keeps
/// several times the memory in use (docs/adr). `.cargo/config.toml` configures how jemalloc is built.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    quorate::daemon::main()
}
