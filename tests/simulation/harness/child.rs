//! Child processes that run one seed each, and what they print.

use std::{
    env,
    process::{Command, Output, Stdio},
};

use super::settings::{IN_CHILD, RESULT};

/// How much of a failed run's output goes into the report, in characters.
const REPORTED_CHARS: usize = 4_000;

/// Runs `test` of this test program in a child process with these environment variables, and waits for its end.
pub fn run_in_child(test: &str, settings: &[(&str, String)]) -> Output {
    let program = env::current_exe().expect("the path of this test program");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--include-ignored", "--nocapture"]).env(IN_CHILD, "1").stdin(Stdio::null());
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command.output().expect("cannot start this test program as a child")
}

/// The command that replays `seed`, with logs.
pub fn replay_command(seed: u64, options: &str) -> String {
    format!("scripts/simulate --replay {seed} {options}")
}

/// Returns a report if the run failed. A process that printed no result failed, whatever its exit code was.
pub fn failure_of(output: &Output, replay: &str) -> Option<String> {
    if output.status.success() && result_line(output).is_some() {
        return None;
    }
    let printed = output_of(output);
    let from = printed.find("\nseed ").map_or(0, |at| at + 1);
    let why: String = printed[from..].chars().take(REPORTED_CHARS).collect();
    Some(format!("{why}\nreplay with: {replay}"))
}

/// All that the process printed: standard output, then standard error.
pub fn output_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The line with the figures of a run, if it came that far.
pub fn result_line(output: &Output) -> Option<String> {
    output_of(output).lines().find(|line| line.starts_with(RESULT)).map(str::to_owned)
}

/// One figure of a run.
pub fn result_field(output: &Output, name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    result_line(output)?.split(' ').find_map(|word| word.strip_prefix(&prefix)).map(str::to_owned)
}
