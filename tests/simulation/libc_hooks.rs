//! Replaces libc's clock and randomness on threads that ask for it.
//!
//! Not everything goes through the product's own seams: openraft's election timeouts, the keys of `HashMap`, tokio's
//! branch order and turmoil's own times all come from libc in the end. A symbol that the program itself defines
//! preempts libc's, so the three functions below answer from the seed on a hooked thread, and call the kernel on every
//! other thread. This is the only unsafe code; the product has none.
//!
//! Clocks of CPU time stay real, because nothing in the product depends on them.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{c_int, c_long, c_uint, c_void},
};

use crate::rng::Rng;

// A thread is hooked if and only if it has a generator. `NOW_NS` has no meaning on other threads.
thread_local! {
    static RANDOM: Cell<Option<Rng>> = const { Cell::new(None) };
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

/// The time at which a hooked thread's clocks start: 2026-01-01, in ns since 1970.
pub const EPOCH_NS: u64 = 1_767_225_600_000_000_000;

/// Hooks this thread for the rest of its life: its randomness follows from `seed`, and its clocks stand still until
/// [`set_elapsed`] moves them.
pub fn hook_thread(seed: u64) {
    NOW_NS.set(EPOCH_NS);
    RANDOM.set(Some(Rng::new(seed)));
}

/// Sets this thread's clocks to `ns` after [`EPOCH_NS`].
pub fn set_elapsed(ns: u64) {
    NOW_NS.set(EPOCH_NS + ns);
}

/// Fills `bytes` from the seed. Returns false on a thread that is not hooked.
fn fill(bytes: &mut [u8]) -> bool {
    let Some(mut rng) = RANDOM.get() else { return false };
    rng.fill(bytes);
    RANDOM.set(Some(rng));
    true
}

/// # Safety
/// As for libc: `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if length == 0 || RANDOM.get().is_none() {
        // SAFETY: the kernel gets the caller's own arguments.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as isize;
    }
    // SAFETY: the caller promises `length` writable bytes, and `length` is not 0.
    fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) });
    length as isize
}

/// # Safety
/// As for libc: `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: usize) -> c_int {
    // SAFETY: `getrandom` asks for no more than this function's own caller promises.
    let got = unsafe { getrandom(buffer, length, 0) };
    if usize::try_from(got) == Ok(length) { 0 } else { -1 }
}

/// # Safety
/// As for libc: `time` must be writable.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let is_world_time = !matches!(clock, libc::CLOCK_PROCESS_CPUTIME_ID | libc::CLOCK_THREAD_CPUTIME_ID);
    if is_world_time && RANDOM.get().is_some() {
        let now = NOW_NS.get();
        let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
        // SAFETY: the caller promises that `time` is writable.
        unsafe { *time = libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: nanos as c_long } };
        return 0;
    }
    // SAFETY: the kernel gets the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, thread, time::Instant};

    use super::*;

    /// What a hooked thread gets: the iteration order of a `HashMap`, random bytes, and the time.
    fn drawn(seed: u64) -> (Vec<u32>, [u8; 16], Instant) {
        let draw = move || {
            hook_thread(seed);
            let map: HashMap<u32, ()> = (0..50).map(|key| (key, ())).collect();
            let mut bytes = [0; 16];
            getrandom_crate(&mut bytes);
            (map.into_keys().collect(), bytes, Instant::now())
        };
        thread::spawn(draw).join().expect("the hooked thread panicked")
    }

    fn getrandom_crate(bytes: &mut [u8]) {
        bytes.copy_from_slice(&quorate::types::Entropy::system().bytes::<16>());
    }

    #[test]
    fn hash_order_entropy_and_clocks_of_a_hooked_thread_follow_from_the_seed() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1).0, drawn(2).0);
        assert_ne!(drawn(1).1, drawn(2).1);
    }

    #[test]
    fn other_threads_keep_the_real_clock_and_randomness() {
        let bytes = || quorate::types::Entropy::system().bytes::<16>();
        assert_ne!(bytes(), bytes());
        let began = Instant::now();
        while began.elapsed().is_zero() {}
    }
}
