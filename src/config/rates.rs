//! Rate limits of one node.

use std::time::Duration;

use super::{ConfigError, error::check_number, layer::Layer};

/// A token bucket: `burst` at once, then one more each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The interval; more than zero.
    pub interval: Duration,
    /// How many at once after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    const fn per_second(count: u32, burst: u32) -> Self {
        Self { interval: Duration::from_nanos(1_000_000_000 / count as u64), burst }
    }

    const fn per_minute(count: u32) -> Self {
        Self { interval: Duration::from_nanos(60_000_000_000 / count as u64), burst: count }
    }
}

/// The rate limits that a node enforces on its own clients. They protect the node, so they are not replicated: an
/// account that writes to three nodes has three limits. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Writes of one account, retries among them.
    pub writes: Option<Rate>,
    /// Requests of users from one address. Operators and peers are not limited.
    pub requests: Option<Rate>,
    /// Wrong passwords given for one account.
    pub wrong_passwords: Option<Rate>,
    /// Wrong passwords given from one address.
    pub wrong_passwords_from: Option<Rate>,
}

impl Rates {
    /// More than people and ordinary bots need, even behind one shared address.
    pub const DEFAULT: Self = Self {
        writes: Some(Rate::per_second(100, 1_000)),
        requests: Some(Rate::per_second(2_000, 10_000)),
        wrong_passwords: Some(Rate::per_minute(10)),
        wrong_passwords_from: Some(Rate::per_minute(60)),
    };

    /// No limits: for benchmarks, and for tests that are not about them.
    pub const UNLIMITED: Self =
        Self { writes: None, requests: None, wrong_passwords: None, wrong_passwords_from: None };

    /// Reads the rates of a layer. A rate without a burst gets a burst of one second's worth; a rate of 0 is no limit.
    pub(super) fn from_layer(layer: &Layer) -> Result<Self, ConfigError> {
        let per_second = |keys: [&str; 2], default: Option<Rate>, count: Option<u32>, burst: Option<u32>| {
            check_number(keys[0], u64::from(count.unwrap_or(0)), 0, 1_000_000)?;
            check_number(keys[1], u64::from(burst.unwrap_or(1)), 1, 1_000_000)?;
            let rate = count.map_or(default, |count| (count > 0).then(|| Rate::per_second(count, count)));
            Ok(rate.map(|rate| Rate { burst: burst.unwrap_or(rate.burst), ..rate }))
        };
        let per_minute = |key: &str, default: Option<Rate>, count: Option<u32>| {
            check_number(key, u64::from(count.unwrap_or(0)), 0, 10_000)?;
            Ok(count.map_or(default, |count| (count > 0).then(|| Rate::per_minute(count))))
        };
        Ok(Self {
            writes: per_second(
                ["account_writes_per_second", "account_write_burst"],
                Self::DEFAULT.writes,
                layer.account_writes_per_second,
                layer.account_write_burst,
            )?,
            requests: per_second(
                ["address_requests_per_second", "address_request_burst"],
                Self::DEFAULT.requests,
                layer.address_requests_per_second,
                layer.address_request_burst,
            )?,
            wrong_passwords: per_minute(
                "account_wrong_passwords_per_minute",
                Self::DEFAULT.wrong_passwords,
                layer.account_wrong_passwords_per_minute,
            )?,
            wrong_passwords_from: per_minute(
                "address_wrong_passwords_per_minute",
                Self::DEFAULT.wrong_passwords_from,
                layer.address_wrong_passwords_per_minute,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(toml: &str) -> Rates {
        Rates::from_layer(&Layer::from_toml("test", toml).unwrap()).unwrap()
    }

    #[test]
    fn a_rate_of_zero_is_no_limit_and_a_burst_is_a_second_s_worth_unless_told() {
        assert_eq!(rates(""), Rates::DEFAULT);
        assert_eq!(rates("account_writes_per_second = 0").writes, None);
        let rate = |interval, burst| Some(Rate { interval: Duration::from_millis(interval), burst });
        assert_eq!(rates("account_writes_per_second = 10").writes, rate(100, 10));
        assert_eq!(rates("account_write_burst = 7").writes, rate(10, 7));
        assert_eq!(rates("address_wrong_passwords_per_minute = 6").wrong_passwords_from, rate(10_000, 6));
        let none = "account_writes_per_second = 0\naddress_requests_per_second = 0\n\
                    account_wrong_passwords_per_minute = 0\naddress_wrong_passwords_per_minute = 0";
        assert_eq!(rates(none), Rates::UNLIMITED);
    }
}
