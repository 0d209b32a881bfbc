//! Rate limits on requests, writes and wrong passwords.
//!
//! Each node counts for itself. Requests are counted by address where they arrive. Writes are counted by account; since
//! all writes end at the leader, an account has one rate however many connections it uses. A retry in a session that is
//! over has no account and is counted by address.
//!
//! A password attempt is counted before the check and taken back unless the password was wrong. So many guesses in
//! parallel are limited like guesses in sequence, and correct sign-ins never count.

use std::{future::Future, time::Duration};

use super::{buckets::Buckets, origin::Origin};
use crate::{
    config,
    types::{AccountId, limits},
    wire::{Fault, Reason},
};

/// The counts of this node. Each table remembers at most [`limits::RATE_KEYS`] keys and locks itself; no lock is held
/// while a password is checked.
pub(in crate::server) struct Rates {
    writes: Buckets<AccountId>,
    writes_from: Buckets<Origin>,
    requests: Buckets<Origin>,
    wrong_passwords: Buckets<String>,
    wrong_passwords_from: Buckets<Origin>,
}

impl Rates {
    pub fn new(rates: &config::Rates) -> Self {
        Self {
            writes: Buckets::new(rates.writes, limits::RATE_KEYS),
            writes_from: Buckets::new(rates.writes, limits::RATE_KEYS),
            requests: Buckets::new(rates.requests, limits::RATE_KEYS),
            wrong_passwords: Buckets::new(rates.wrong_passwords, limits::RATE_KEYS),
            wrong_passwords_from: Buckets::new(rates.wrong_passwords_from, limits::RATE_KEYS),
        }
    }

    /// Counts a write of `account`, or refuses it with RATE_LIMITED.
    pub fn write(&self, account: AccountId) -> Result<(), Fault> {
        self.writes.take(&account).map_err(|wait| limited("too many writes by this account", wait))
    }

    /// Counts a write from `origin` that no live account stands for, or refuses it with RATE_LIMITED. An address has the
    /// same rate as an account.
    pub fn write_from(&self, origin: Option<Origin>) -> Result<(), Fault> {
        let Some(origin) = origin else { return Ok(()) };
        self.writes_from.take(&origin).map_err(|wait| limited("too many repeated writes from this address", wait))
    }

    /// Counts a request from `origin`, or refuses it with RATE_LIMITED.
    pub fn request(&self, origin: Option<Origin>) -> Result<(), Fault> {
        let Some(origin) = origin else { return Ok(()) };
        self.requests.take(&origin).map_err(|wait| limited("too many requests from this address", wait))
    }

    /// Runs `checking`, a password check for the account `username`, unless the account or `origin` has had too many
    /// wrong passwords lately. A check that its caller abandons counts as wrong.
    pub async fn check_password<T>(
        &self,
        username: &str,
        origin: Option<Origin>,
        checking: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        const MESSAGE: &str = "too many wrong passwords lately";
        let username = username.to_ascii_lowercase();
        self.wrong_passwords.take(&username).map_err(|wait| limited(MESSAGE, wait))?;
        if let Some(Err(wait)) = origin.map(|origin| self.wrong_passwords_from.take(&origin)) {
            self.wrong_passwords.give_back(&username);
            return Err(limited(MESSAGE, wait));
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

/// What a node does for callers that it does not know, each counted by address.
///
/// The check before a node is added asks the newcomer to dial every voter, and every voter to dial the newcomer. Neither
/// can tell who asks. So a node looks at itself, and dials, no faster than an operator who repeats the command needs.
pub(in crate::server) struct InspectionRates {
    inspections: Buckets<Origin>,
    dials: Buckets<Origin>,
}

impl InspectionRates {
    pub fn new() -> Self {
        Self {
            inspections: Self::buckets(limits::INSPECTIONS_PER_SECOND, limits::INSPECTION_BURST),
            dials: Self::buckets(limits::DIALS_PER_SECOND, limits::DIAL_BURST),
        }
    }

    fn buckets(per_second: u32, burst: u32) -> Buckets<Origin> {
        let rate = config::Rate { interval: Duration::from_secs(1) / per_second, burst };
        Buckets::new(Some(rate), limits::RATE_KEYS)
    }

    /// Counts an inspection that dials so many addresses, or refuses it with RATE_LIMITED.
    pub fn inspection(&self, origin: Option<Origin>, dials: usize) -> Result<(), Fault> {
        let Some(origin) = origin else { return Ok(()) };
        self.inspections.take(&origin).map_err(|wait| limited("too many inspections from this address", wait))?;
        for taken in 0..dials {
            if let Err(wait) = self.dials.take(&origin) {
                (0..taken).for_each(|_| self.dials.give_back(&origin));
                return Err(limited("too many addresses to dial from this address", wait));
            }
        }
        Ok(())
    }
}

fn limited(message: &str, wait: Duration) -> Fault {
    Fault::new(Reason::RateLimited, message).next("wait as long as told, then repeat the call").retry_after(wait)
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

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_are_slowed_down_for_the_account_from_anywhere_and_in_any_case() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        for round in 0..10 {
            let from = origin(&format!("10.0.0.{round}"));
            assert_eq!(rates.check_password("Alice", from, wrong()).await.unwrap_err().reason, Reason::BadCredentials);
        }
        let refused = rates.check_password("alice", origin("10.0.1.1"), ready(Ok(()))).await.unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::RateLimited, Some(Duration::from_secs(6))));
        assert!(rates.check_password("bob", origin("10.0.1.1"), ready(Ok(()))).await.is_ok());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(rates.check_password("alice", origin("10.0.1.1"), ready(Ok(()))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_passwords_are_slowed_down_for_the_address_whatever_the_account() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        for round in 0..60 {
            let _ = rates.check_password(&format!("user{round}"), origin("10.0.0.1"), wrong()).await;
        }
        let refused = rates.check_password("alice", origin("10.0.0.1"), ready(Ok(()))).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RateLimited);
        assert!(rates.check_password("alice", origin("10.0.0.2"), ready(Ok(()))).await.is_ok());
        assert!(rates.check_password("alice", None, ready(Ok(()))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_and_other_faults_are_never_counted() {
        let rates = Rates::new(&config::Rates::DEFAULT);
        for _ in 0..1_000 {
            assert!(rates.check_password("alice", origin("10.0.0.1"), ready(Ok(()))).await.is_ok());
            let busy = ready(Err::<(), _>(Fault::new(Reason::Overloaded, "busy")));
            assert_eq!(
                rates.check_password("alice", origin("10.0.0.1"), busy).await.unwrap_err().reason,
                Reason::Overloaded
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dials_are_counted_one_by_one_and_a_refused_inspection_costs_none() {
        let rates = InspectionRates::new();
        let (burst, here) = (limits::DIAL_BURST as usize, origin("10.0.0.1"));
        assert!(rates.inspection(here, burst - 1).is_ok());
        assert_eq!(rates.inspection(here, 2).unwrap_err().reason, Reason::RateLimited);
        assert!(rates.inspection(here, 1).is_ok() && rates.inspection(here, 0).is_ok());
        assert!(rates.inspection(origin("10.0.0.2"), burst).is_ok());
        let more = (0..1_000).filter(|_| rates.inspection(here, 0).is_ok()).count();
        assert_eq!(more + 4, limits::INSPECTION_BURST as usize, "four were counted above, the refused one among them");
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
