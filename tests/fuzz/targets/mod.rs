//! Fuzz targets: code that reads bytes from others, each as a function that panics if the code misbehaves.
//!
//! Shared with `fuzz/`. So targets use the public API of the crate only, and no test framework.

mod consensus;
mod files;
mod fixture;
mod state;
mod wire;

/// One decoder, its valid inputs, and its limits.
pub struct Target {
    pub name: &'static str,
    /// Decodes any bytes. Returns whether it accepted them, and panics if the code misbehaves.
    pub run: Run,
    /// Valid inputs.
    #[allow(dead_code, reason = "libFuzzer makes its own inputs")]
    pub seeds: Seeds,
    /// The least percentage of seeds that must be accepted. A target that refuses all of them tests nothing.
    #[allow(dead_code, reason = "libFuzzer makes its own inputs")]
    pub taken: usize,
    /// The number of inputs in a short run, which takes a second or two.
    #[allow(dead_code, reason = "libFuzzer decides how long it runs")]
    pub inputs: u32,
    /// The most bytes that it may hold at once: a constant, plus a number for each byte of input.
    #[allow(dead_code, reason = "libFuzzer has its own limit")]
    pub bytes: (usize, usize),
}

type Run = fn(&[u8]) -> bool;
type Seeds = fn() -> Vec<Vec<u8>>;

const fn target(name: &'static str, run: Run, seeds: Seeds, inputs: u32) -> Target {
    Target { name, run, seeds, taken: 100, inputs, bytes: (4 << 20, 64) }
}

/// A target that opens a redb file in memory, which needs more.
const fn on_disk(name: &'static str, run: Run, seeds: Seeds, inputs: u32) -> Target {
    Target { bytes: (16 << 20, 64), ..target(name, run, seeds, inputs) }
}

pub const TARGETS: &[Target] = &[
    // Two bytes can be a whole command, which takes up to 800 bytes with its outcome. A real entry holds at most 256
    // commands.
    Target { bytes: (4 << 20, 400), ..target("commands", state::commands, state::batches, 2_000) },
    // One of fourteen seeds is an unchanged row; the others have one field at its largest.
    Target { taken: 7, ..target("records", state::records, state::rows, 500) },
    // Each body is tried as a request of every method, and fits few of them.
    Target { taken: 20, ..target("requests", wire::requests, wire::bodies, 5_000) },
    // One seed is a cursor in binary, which is no text that anything accepts.
    Target { taken: 95, ..target("tokens", state::tokens, state::page_tokens, 1_000) },
    // Two bytes can be a message, whose JSON has every field. Only clients that ask for JSON pay for it.
    Target { bytes: (4 << 20, 800), ..target("replies", wire::replies, wire::answers, 1_000) },
    target("log_entry", consensus::log_entry, consensus::entries, 2_000),
    on_disk("log_file", consensus::log_file, consensus::values, 500),
    target("peer_rpc", consensus::peer_rpc, consensus::rpcs, 10_000),
    on_disk("witness", consensus::witness, consensus::witnesses, 200),
    on_disk("archive", files::archive, files::archives, 300),
    // Needs three files in memory. Two of its seeds are states at the end of all numbers, which must be refused.
    Target { taken: 50, bytes: (48 << 20, 64), ..target("restore", files::restore, files::backups, 300) },
    target("identity", files::identity, files::identities, 3_000),
    target("config", files::config, files::configs, 500),
    target("clusters", files::clusters, files::cluster_files, 500),
    target("sessions", files::sessions, files::session_files, 1_500),
    target("outbox", files::outbox, files::outboxes, 1_000),
    target("order", files::order, files::orders, 20_000),
    target("text", wire::text, wire::texts, 300),
];
