//! Fuzz tests: whatever the input, no decoder panics, hangs, or takes memory out of proportion.
//!
//! The targets are functions over bytes, in `targets/`. These tests feed each of them with valid encodings and with
//! mutations of these by a deterministic mutator. `fuzz/` feeds the same functions from libFuzzer. A failure prints the
//! input.

mod memory;
mod mutate;
mod targets;

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

use mutate::Mutator;
use targets::{TARGETS, Target};

/// The longest time that one input may take on a busy machine.
const LONGEST: Duration = Duration::from_secs(10);

/// Feeds a target with its seeds and then with mutations of them.
///
/// - `FUZZ_INPUTS` multiplies the number of mutations.
/// - `FUZZ_SEED` chooses other mutations.
/// - `FUZZ_CORPUS` names a folder for the seeds, from which libFuzzer can start.
fn feed(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let number = |variable: &str| env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let mut mutator = Mutator::new(number("FUZZ_SEED").unwrap_or(1), (target.seeds)());
    let seeds = (target.seeds)();
    if let Ok(corpus) = env::var("FUZZ_CORPUS") {
        write(&Path::new(&corpus).join(name), &seeds);
    }
    let sound = seeds.iter().filter(|seed| try_one(target, seed)).count();
    let inputs = u64::from(target.inputs) * number("FUZZ_INPUTS").unwrap_or(1);
    let begun = Instant::now();
    let taken = (0..inputs).filter(|_| try_one(target, &mutator.next())).count();
    println!("{name}: {sound} of {} seeds and {taken} of {inputs} inputs taken, in {:?}", seeds.len(), begun.elapsed());
    assert!(100 * sound >= target.taken * seeds.len(), "{sound} of {} seeds are taken", seeds.len());
    // If all inputs were refused at once, the code behind the first check would not be tested.
    assert!(taken > 0 && (taken as u64) < inputs || name == "text", "{taken} of {inputs} inputs are taken");
}

/// Writes each seed to its own file.
fn write(folder: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(folder).expect("the folder of a corpus");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed's file");
    }
}

/// Runs the target on one input, within its limits. Returns whether it accepted the input.
fn try_one(target: &Target, input: &[u8]) -> bool {
    let begun = Instant::now();
    let (ended, peak) = memory::peak(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let shown = || format!("{}: {} bytes: {}", target.name, input.len(), hex(input));
    let taken = ended.unwrap_or_else(|panic| {
        eprintln!("panicked at {}", shown());
        resume_unwind(panic);
    });
    let bound = target.bytes.0 + target.bytes.1 * input.len();
    assert!(peak <= bound, "held {peak} bytes, {bound} allowed, at {}", shown());
    assert!(begun.elapsed() < LONGEST, "took {:?} at {}", begun.elapsed(), shown());
    taken
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! fed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            feed(stringify!($name));
        })*

        #[test]
        fn every_target_is_fed_here_and_known_to_cargo_fuzz() {
            let fed: Vec<&str> = [$(stringify!($name)),*].into();
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(fed, known);
            let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).unwrap();
            let named: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
            let quoted: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            assert_eq!(named[1..], quoted, "the package, then every target");
        }
    };
}

fed! {
    commands records requests tokens replies
    log_entry log_file peer_rpc witness archive restore identity
    config clusters sessions outbox order text
}

/// Checks the meter itself: limits that are not measured are worth nothing.
#[test]
fn what_a_target_holds_is_counted_and_what_it_returns_is_not() {
    let ((), peak) = memory::peak(|| {
        for size in [10_000, 1_000_000, 10] {
            drop(std::hint::black_box(vec![0_u8; size]));
        }
    });
    assert!((1_000_000..1_010_000).contains(&peak), "{peak}");
}

/// Each body is tried as a request of every method, and most do not fit. Every method must accept one of them.
#[test]
fn every_method_takes_one_of_the_requests_that_it_is_tried_with() {
    let requests = TARGETS.iter().find(|target| target.name == "requests").expect("a target of this name");
    let taken: BTreeSet<u8> =
        (requests.seeds)().iter().filter(|seed| (requests.run)(seed)).map(|seed| seed[0]).collect();
    let refused: Vec<u8> = (0..quorate::server::testing::METHODS).filter(|method| !taken.contains(method)).collect();
    assert!(refused.is_empty(), "methods {refused:?} were never seen to take anything");
}

/// A request of the largest size, filled with empty elements of two bytes each: the decoder allocates a structure for
/// each before anything can be checked.
#[test]
fn the_most_wasteful_request_of_every_method_is_held_in_proportion() {
    let requests = TARGETS.iter().find(|target| target.name == "requests").expect("a target of this name");
    let mut worst = (0, 0, 0);
    for method in 0..quorate::server::testing::METHODS {
        for field in 1..=15_u8 {
            let mut input = vec![method];
            input.extend([8 * field + 2, 0].repeat(quorate::types::limits::REQUEST_BYTES / 2));
            let (_, peak) = memory::peak(|| (requests.run)(&input));
            worst = worst.max((peak, method, field));
        }
    }
    println!("{} bytes at most, by method {} in field {}", worst.0, worst.1, worst.2);
    assert!(worst.0 < 32 << 20, "method {} holds {} bytes for field {}", worst.1, worst.0, worst.2);
}
