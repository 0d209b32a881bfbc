//! The targets of `tests/fuzz`, each a program of its own that libFuzzer feeds: `cargo fuzz run NAME --sanitizer none`.
#![no_main]

#[path = "../tests/fuzz/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == env!("CARGO_BIN_NAME"));
    (target.expect("a target of this program's name").run)(data);
});
