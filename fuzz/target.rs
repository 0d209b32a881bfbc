//! The targets of `tests/fuzz` for libFuzzer: `cargo fuzz run NAME --sanitizer none` builds and runs one of them.
#![no_main]

#[path = "../tests/fuzz/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == env!("CARGO_BIN_NAME"));
    (target.expect("the program has the name of a target").run)(data);
});
