//! What reads bytes that others wrote, each as a function that panics if it misbehaves.
//!
//! Shared with `fuzz/`: uses what the crate makes public, and no test framework.

mod consensus;
mod files;
mod fixture;
mod state;
mod wire;

/// One decoder, and what it is fed with.
pub struct Target {
    pub name: &'static str,
    /// Returns, whatever it is given: whether it was taken for what it should be.
    pub run: Run,
    /// Valid inputs.
    #[allow(dead_code, reason = "libFuzzer brings its own")]
    pub seeds: Seeds,
    /// How many of a hundred seeds are taken, at least: what refuses them all is not tried.
    #[allow(dead_code, reason = "libFuzzer brings its own")]
    pub taken: usize,
    /// How many inputs of the short run take a second or two.
    #[allow(dead_code, reason = "libFuzzer runs until it is stopped")]
    pub inputs: u32,
    /// Bytes that it may hold at a time: whatever its input, and for each byte of it.
    #[allow(dead_code, reason = "libFuzzer has a limit of its own")]
    pub bytes: (usize, usize),
}

type Run = fn(&[u8]) -> bool;
type Seeds = fn() -> Vec<Vec<u8>>;

const fn target(name: &'static str, run: Run, seeds: Seeds, inputs: u32) -> Target {
    Target { name, run, seeds, taken: 100, inputs, bytes: (4 << 20, 64) }
}

/// The same for one that opens a redb file in memory.
const fn on_disk(name: &'static str, run: Run, seeds: Seeds, inputs: u32) -> Target {
    Target { bytes: (16 << 20, 64), ..target(name, run, seeds, inputs) }
}

pub const TARGETS: &[Target] = &[
    // Two bytes are a command, and with what became of it a command takes as much as this twice. The node that proposes
    // puts no more than 256 into one entry.
    Target { bytes: (4 << 20, 400), ..target("commands", state::commands, state::batches, 2_000) },
    // One row of fourteen is as it was.
    Target { taken: 7, ..target("records", state::records, state::rows, 500) },
    // Each body is tried as a request of every method.
    Target { taken: 20, ..target("requests", wire::requests, wire::bodies, 5_000) },
    // One is a cursor, which may be any number.
    Target { taken: 95, ..target("tokens", state::tokens, state::page_tokens, 1_000) },
    // Two bytes are a message, whose JSON has every field. Only who asks for JSON pays for it.
    Target { bytes: (4 << 20, 800), ..target("replies", wire::replies, wire::answers, 1_000) },
    target("log_entry", consensus::log_entry, consensus::entries, 2_000),
    on_disk("log_file", consensus::log_file, consensus::values, 500),
    target("peer_rpc", consensus::peer_rpc, consensus::rpcs, 10_000),
    on_disk("witness", consensus::witness, consensus::witnesses, 200),
    on_disk("archive", files::archive, files::archives, 300),
    // Its three files lie side by side in memory. Two of its seeds are of a state that cannot be gone on with.
    Target { taken: 50, bytes: (48 << 20, 64), ..target("restore", files::restore, files::backups, 300) },
    target("identity", files::identity, files::identities, 3_000),
    target("config", files::config, files::configs, 500),
    target("clusters", files::clusters, files::cluster_files, 500),
    target("sessions", files::sessions, files::session_files, 1_500),
    target("outbox", files::outbox, files::outboxes, 1_000),
    target("order", files::order, files::orders, 20_000),
    target("text", wire::text, wire::texts, 300),
];
