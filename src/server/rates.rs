//! What is limited by rate, and by what it is counted.
//!
//! Each node counts for itself. Writes end at the leader, so there an account has one rate whatever its connections;
//! requests are counted where they arrive, by address. An IPv6 network of 64 bits counts as one address, since whoever
//! has one address of it has them all. A password is an attempt that is given back unless it was wrong: so guessing is
//! slowed down, many guesses at once too, and signing in rightly is never counted.
//!
//! Connections without an address, as tests make them, are not counted by address.

use std::{future::Future, net::IpAddr, time::Duration};

use super::buckets::Buckets;
use crate::{
    config,
    types::{AccountId, limits},
    wire::{Fault, Reason},
};

/// An address as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(IpAddr::V6((address.to_bits() >> 64 << 64).into())),
            address => Self(address),
        }
    }
}

/// The node's counts.
pub(super) struct Rates {
    writes: Buckets<AccountId>,
    requests: Buckets<Origin>,
    wrong_passwords: Buckets<String>,
    wrong_passwords_from: Buckets<Origin>,
}

impl Rates {
    pub fn new(rates: &config::Rates) -> Self {
        Self {
            writes: Buckets::new(rates.writes, limits::RATE_KEYS),
            requests: Buckets::new(rates.requests, limits::RATE_KEYS),
            wrong_passwords: Buckets::new(rates.wrong_passwords, limits::RATE_KEYS),
            wrong_passwords_from: Buckets::new(rates.wrong_passwords_from, limits::RATE_KEYS),
        }
    }

    /// Counts a write of `account`.
    pub fn write(&self, account: AccountId) -> Result<(), Fault> {
        self.writes.take(&account).map_err(|wait| limited("too many writes by this account", wait))
    }

    /// Counts a request from `origin`.
    pub fn request(&self, origin: Option<Origin>) -> Result<(), Fault> {
        let Some(origin) = origin else { return Ok(()) };
        self.requests.take(&origin).map_err(|wait| limited("too many requests from this address", wait))
    }

    /// Lets `checking` check a password for the account of this name, if neither it nor `origin` has had too many
    /// wrong ones lately. A check that is abandoned counts as wrong.
    pub async fn guess<T>(
        &self,
        username: &str,
        origin: Option<Origin>,
        checking: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        const WHAT: &str = "too many wrong passwords lately";
        let username = username.to_ascii_lowercase();
        self.wrong_passwords.take(&username).map_err(|wait| limited(WHAT, wait))?;
        if let Some(Err(wait)) = origin.map(|origin| self.wrong_passwords_from.take(&origin)) {
            self.wrong_passwords.give_back(&username);
            return Err(limited(WHAT, wait));
        }
        let checked = checking.await;
        if checked.as_ref().err().is_none_or(|fault| fault.reason != Reason::BadCredentials) {
            self.wrong_passwords.give_back(&username);
            if let Some(origin) = origin {
                self.wrong_passwords_from.give_back(&origin);
            }
        }
        checked
    }
}

fn limited(what: &str, wait: Duration) -> Fault {
    Fault::new(Reason::RateLimited, what).next("wait as long as told, then repeat the call").retry_after(wait)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn origin(address: &str) -> Option<Origin> {
        Some(Origin::of(address.parse().unwrap()))
    }

    fn wrong() -> impl Future<Output = Result<(), Fault>> {
        ready(Err(Fault::new(Reason::BadCredentials, "wrong")))
    }

    #[test]
    fn a_network_of_64_bits_is_one_origin() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:0:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_are_slowed_down_for_the_account_from_anywhere_and_in_any_case() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        for round in 0..10 {
            let from = origin(&format!("10.0.0.{round}"));
            assert_eq!(rates.guess("Alice", from, wrong()).await.unwrap_err().reason, Reason::BadCredentials);
        }
        let refused = rates.guess("alice", origin("10.0.1.1"), ready(Ok(()))).await.unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::RateLimited, Some(Duration::from_secs(6))));
        assert!(rates.guess("bob", origin("10.0.1.1"), ready(Ok(()))).await.is_ok());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(rates.guess("alice", origin("10.0.1.1"), ready(Ok(()))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_are_slowed_down_for_the_address_whatever_the_account() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        for round in 0..60 {
            let _ = rates.guess(&format!("user{round}"), origin("10.0.0.1"), wrong()).await;
        }
        let refused = rates.guess("alice", origin("10.0.0.1"), ready(Ok(()))).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RateLimited);
        assert!(rates.guess("alice", origin("10.0.0.2"), ready(Ok(()))).await.is_ok());
        assert!(rates.guess("alice", None, ready(Ok(()))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_and_other_faults_are_never_counted() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        for _ in 0..1_000 {
            assert!(rates.guess("alice", origin("10.0.0.1"), ready(Ok(()))).await.is_ok());
            let busy = ready(Err::<(), _>(Fault::new(Reason::Overloaded, "busy")));
            assert_eq!(rates.guess("alice", origin("10.0.0.1"), busy).await.unwrap_err().reason, Reason::Overloaded);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_writes_no_faster_than_it_may_and_another_is_not_concerned() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        let (alice, bob) = (AccountId(1), AccountId(2));
        assert_eq!((0..2_000).filter(|_| rates.write(alice).is_ok()).count(), 1_000);
        let refused = rates.write(alice).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::RateLimited, Some(Duration::from_millis(10))));
        assert!(rates.write(bob).is_ok());
    }
}
