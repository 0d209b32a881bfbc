//! Settings that cannot be used, and the checks that find them.

use std::{fmt::Display, time::Duration};

/// A setting that cannot be used: which one, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The setting, and where it was given if that is known.
    pub place: String,
    /// Why it cannot be used.
    pub problem: String,
    /// What to do about it.
    pub next: String,
}

impl ConfigError {
    pub(super) fn new(place: impl Into<String>, problem: impl Into<String>, next: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), next: next.into() }
    }
}

/// Refuses a number outside `least..=most`.
pub(super) fn check_number(key: &str, given: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("{given} is out of range"), format!("set it between {least} and {most}")))
}

/// Refuses a duration outside `least..=most`.
pub(super) fn check_duration(key: &str, given: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let next = format!("set it between {} and {}", human(least), human(most));
    Err(ConfigError::new(key, format!("{} is out of range", human(given)), next))
}

/// A duration as people write it: `100ms`, `1s`, `30d`.
pub(super) fn human(duration: Duration) -> impl Display {
    humantime::format_duration(duration)
}
