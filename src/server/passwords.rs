//! Password hashing and session tokens.
//!
//! Passwords are hashed and verified on the node that serves the call, so that none ever reaches the log, a disk or a
//! peer.
//!
//! Argon2id takes tens of milliseconds and megabytes by design. It runs off the async runtime, on as many threads as
//! there are cores, behind a bounded queue. What does not fit into the queue is refused before any work is done.
//!
//! A check against an unknown account does the same work as one against a known account, so that response times do not
//! reveal which names exist.
//!
//! # Session tokens
//!
//! A retried login must return the token of its first attempt (P4), yet only a hash of the token is stored. So the
//! token is derived: argon2id of the password, salted with a hash of the request id and the username. Somebody without
//! the password has to guess it at the cost of one argon2id for each guess, the same as with the stored password hash,
//! and nothing secret is replicated. Somebody with the password may log in anyway.

use std::{fmt::Write, sync::Arc, thread, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::{
    config,
    types::{RequestId, SessionKey, Username, limits, normal_form},
    wire::{Fault, Reason},
};

/// With less memory than this a hash takes microseconds, less than handing it to another thread. Only tests configure
/// that.
const INLINE_BELOW_KIB: u32 = 1024;
/// Domain separation: no other value derived in the same way equals a token.
const TOKEN_CONTEXT: &str = "quorate 2026 session token v1";

/// The bearer token of a new session. It has no `Debug`, because it is a secret.
pub(super) struct Token(String);

impl Token {
    /// The hash under which the session is stored.
    pub fn key(&self) -> SessionKey {
        SessionKey::of_token(&self.0)
    }

    /// The secret itself, for the one reply that carries it.
    pub fn into_secret(self) -> String {
        self.0
    }
}

/// Hashes and verifies passwords.
///
/// A job holds a permit of `queue` from its admission to its end, and one of `cores` while it runs, also when its
/// caller has gone away. So at most [`limits::HASHING_QUEUE`] passwords are in memory here and at most one runs on each
/// core.
pub(super) struct Passwords {
    algorithm: Argon2<'static>,
    /// Memory of one hash, in KiB.
    memory_kib: u32,
    /// Verified in place of the hash of an account that does not exist, at the same cost. The result is ignored.
    decoy: String,
    queue: Arc<Semaphore>,
    cores: Arc<Semaphore>,
}

impl Passwords {
    /// Hashes at the configured cost.
    pub fn new(cost: config::Argon2) -> Self {
        let (memory_kib, iterations, parallelism) = (cost.memory_kib(), cost.iterations(), cost.parallelism());
        let params = Params::new(memory_kib, iterations, parallelism, None).expect("the configuration keeps the range");
        // Base64 of 16 and of 32 zero bytes.
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        Self {
            algorithm: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            memory_kib,
            decoy: format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}${salt}${hash}"),
            queue: Arc::new(Semaphore::new(limits::HASHING_QUEUE)),
            cores: Arc::new(Semaphore::new(thread::available_parallelism().map_or(1, usize::from))),
        }
    }

    /// Hashes the normal form of `password` with `salt` into a PHC string.
    pub async fn hash(&self, password: String, salt: [u8; 16], timeout: Duration) -> Result<String, Fault> {
        let algorithm = self.algorithm.clone();
        let hashed = self.run(timeout, move || {
            algorithm.hash_password_with_salt(normal_form(&password).as_bytes(), &salt).map(|hash| hash.to_string())
        });
        hashed.await?.map_err(|error| hashing_failed(&error))
    }

    /// Checks `password` against the hash of an account, or against the decoy if there is no such account.
    pub async fn verify(&self, password: String, phc: Option<String>, timeout: Duration) -> Result<(), Fault> {
        let (known, phc) = self.known(phc);
        let algorithm = self.algorithm.clone();
        let matches = self.run(timeout, move || matching(&algorithm, password, &phc).is_some()).await?;
        if matches && known { Ok(()) } else { Err(bad_credentials()) }
    }

    /// Verifies a password like [`Self::verify`], and derives the token of the session that the request id asks for.
    pub async fn derive_token(
        &self,
        login: (RequestId, Username, String),
        phc: Option<String>,
        timeout: Duration,
    ) -> Result<Token, Fault> {
        let (known, phc) = self.known(phc);
        let (request_id, username, password) = login;
        let algorithm = self.algorithm.clone();
        let derived = self.run(timeout, move || {
            let password = matching(&algorithm, password, &phc).filter(|_| known)?;
            Some(token(&algorithm, request_id, &username, &password))
        });
        derived.await?.ok_or_else(bad_credentials)?.map_err(|error| hashing_failed(&error))
    }

    fn known(&self, phc: Option<String>) -> (bool, String) {
        (phc.is_some(), phc.unwrap_or_else(|| self.decoy.clone()))
    }

    /// Runs `work` on a core of its own, waiting for one until `timeout`.
    async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let queued = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| overloaded())?;
        if self.memory_kib < INLINE_BELOW_KIB {
            return Ok(work());
        }
        let core = tokio::time::timeout(timeout, Arc::clone(&self.cores).acquire_owned());
        let core = core.await.map_err(|_| overloaded())?.map_err(|_| overloaded())?;
        let working = tokio::task::spawn_blocking(move || {
            // The work goes on when its caller has gone away, and keeps its permits until then.
            let _held = (queued, core);
            work()
        });
        working.await.map_err(|error| Fault::new(Reason::Internal, format!("hashing a password failed: {error}")))
    }
}

/// The form of a typed password that matches the hash: its normal form, or the form as typed for hashes that are older
/// than that rule. The token of a repeated login comes from the same form (P4).
fn matching(algorithm: &Argon2<'_>, password: String, phc: &str) -> Option<String> {
    let normal = normal_form(&password);
    let as_typed = Some(password).filter(|password| *password != normal);
    let mut forms = std::iter::once(normal).chain(as_typed);
    forms.find(|form| algorithm.verify_password(form.as_bytes(), phc).is_ok())
}

fn token(
    algorithm: &Argon2<'_>,
    request_id: RequestId,
    username: &Username,
    password: &str,
) -> Result<Token, argon2::Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(request_id.as_bytes()).update(username.folded().as_bytes());
    let hash = hasher.finalize();
    let salt = &hash.as_bytes()[..16];
    let mut stretched = [0; 32];
    algorithm.hash_password_into(password.as_bytes(), salt, &mut stretched)?;
    let secret = blake3::derive_key(TOKEN_CONTEXT, &stretched);
    Ok(Token(secret.iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string does not fail");
        hex
    })))
}

fn bad_credentials() -> Fault {
    Fault::new(Reason::BadCredentials, "unknown username or wrong password")
}

fn overloaded() -> Fault {
    Fault::new(Reason::Overloaded, "too many passwords are being checked")
        .next("repeat the call")
        .retry_after(Duration::from_millis(500))
}

fn hashing_failed(error: &dyn std::error::Error) -> Fault {
    Fault::new(Reason::Internal, format!("hashing a password failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn passwords() -> Passwords {
        Passwords::new(config::Argon2::insecure_for_tests())
    }

    fn login(id: u8, name: &str, password: &str) -> (RequestId, Username, String) {
        (RequestId::new(1, [id; 10]), Username::new(name).unwrap(), password.to_owned())
    }

    async fn phc(passwords: &Passwords, password: &str) -> Option<String> {
        Some(passwords.hash(password.to_owned(), [3; 16], TIMEOUT).await.unwrap())
    }

    fn reason<T>(result: Result<T, Fault>) -> Reason {
        result.err().expect("a refusal").reason
    }

    #[tokio::test]
    async fn a_password_is_the_same_on_every_keyboard_and_old_hashes_still_match() {
        let (composed, decomposed) = ("caf\u{e9} noir", "cafe\u{301} noir");
        let passwords = passwords();
        for set in [composed, decomposed] {
            let phc = phc(&passwords, set).await;
            for typed in [composed, decomposed] {
                assert!(passwords.verify(typed.into(), phc.clone(), TIMEOUT).await.is_ok(), "{set:?} as {typed:?}");
            }
            let tokens = [composed, decomposed]
                .map(|typed| passwords.derive_token(login(1, "alice", typed), phc.clone(), TIMEOUT));
            let [one, other] = tokens.map(|token| token);
            assert_eq!(one.await.unwrap().into_secret(), other.await.unwrap().into_secret());
        }
        let as_typed = passwords.algorithm.hash_password_with_salt(decomposed.as_bytes(), &[3; 16]).unwrap();
        let old = Some(as_typed.to_string());
        assert!(passwords.verify(decomposed.into(), old.clone(), TIMEOUT).await.is_ok(), "set before the rule");
        assert!(passwords.verify("other".into(), old, TIMEOUT).await.is_err());
    }

    #[tokio::test]
    async fn only_the_right_password_is_accepted() {
        let passwords = passwords();
        let phc = phc(&passwords, "correct horse").await;
        assert!(phc.as_ref().unwrap().len() <= limits::PASSWORD_HASH_BYTES);
        assert!(passwords.verify("correct horse".into(), phc.clone(), TIMEOUT).await.is_ok());
        assert_eq!(reason(passwords.verify("battery".into(), phc, TIMEOUT).await), Reason::BadCredentials);
        assert_eq!(reason(passwords.verify("correct horse".into(), None, TIMEOUT).await), Reason::BadCredentials);
    }

    #[tokio::test]
    async fn an_unknown_account_costs_the_same_work_as_a_known_one() {
        let passwords = passwords();
        let known = phc(&passwords, "x").await.unwrap();
        let cost = |phc: &str| phc.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cost(&passwords.decoy), cost(&known));
        let decoy = argon2::PasswordHash::new(&passwords.decoy).expect("the decoy is read, not skipped");
        assert_eq!(decoy.hash.map(|hash| hash.as_bytes().len()), Some(32));
    }

    #[tokio::test]
    async fn a_retried_login_gets_the_same_token_and_any_other_login_another() {
        let passwords = passwords();
        let phc = phc(&passwords, "pw").await;
        let other = self::phc(&passwords, "other").await;
        let token = async |who, phc: &Option<String>| {
            passwords.derive_token(who, phc.clone(), TIMEOUT).await.unwrap().into_secret()
        };
        let first = token(login(1, "alice", "pw"), &phc).await;
        assert_eq!(first.len(), 64);
        assert_eq!(first, token(login(1, "Alice", "pw"), &phc).await, "names compare folded");
        assert_ne!(first, token(login(2, "alice", "pw"), &phc).await);
        assert_ne!(first, token(login(1, "bob", "pw"), &phc).await);
        assert_ne!(first, token(login(1, "alice", "other"), &other).await);
        assert_eq!(reason(passwords.derive_token(login(1, "alice", "no"), phc, TIMEOUT).await), Reason::BadCredentials);
        assert_eq!(
            reason(passwords.derive_token(login(1, "alice", "pw"), None, TIMEOUT).await),
            Reason::BadCredentials
        );
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let passwords = passwords();
        let _all = passwords.queue.clone().acquire_many_owned(limits::HASHING_QUEUE as u32).await.unwrap();
        assert_eq!(reason(passwords.hash("x".into(), [0; 16], TIMEOUT).await), Reason::Overloaded);
    }

    #[tokio::test]
    async fn real_parameters_hash_off_the_runtime_and_give_their_permits_back() {
        let passwords = Passwords::new(config::Argon2::OWASP);
        let phc = phc(&passwords, "pw").await;
        assert!(passwords.verify("pw".into(), phc, TIMEOUT).await.is_ok());
        assert_eq!(passwords.queue.available_permits(), limits::HASHING_QUEUE);
    }
}
