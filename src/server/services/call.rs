//! A call's metadata, parsed and checked.
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `authorization` | `Bearer` and the session's token | no session |
//! | `grpc-timeout` | the client's deadline | 5 s, at most [`limits::MAX_TIMEOUT`] |
//! | `x-chat-consistency` | `linearizable` or `stale` | `linearizable`, or `stale` beside a minimum index |
//! | `x-chat-min-index` | the log index that a read must include | none |
//! | `x-chat-cluster` | the id of the cluster that the client expects here | any |
//!
//! A malformed value is refused by its key. A token is never repeated in a fault or a log.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::{
    server::{
        faults::session_invalid,
        limits::{HeldPermits, Origin},
    },
    types::{Consistency, SessionKey, limits},
    wire::{Fault, metadata},
};

/// Default deadline when the client sends none.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// One call, as the services see it.
///
/// The metadata has been checked, but the session only for its form: whether it is alive depends on the state. The
/// token itself is not kept, only its hash.
#[derive(Debug, Clone)]
pub(in crate::server) struct Call {
    /// How fresh its reads must be.
    pub consistency: Consistency,
    /// The client's address; `None` on a connection without one.
    pub origin: Option<Origin>,
    /// The cluster that the client expects here, if it sends one.
    pub cluster: Option<String>,
    /// Permits that return when the answer has left.
    pub held: HeldPermits,
    deadline: Instant,
    session: Option<SessionKey>,
}

impl Call {
    /// Parses `metadata`. The deadline starts now.
    pub fn of(metadata: &MetadataMap) -> Result<Self, Fault> {
        Ok(Self {
            consistency: consistency(text(metadata, metadata::CONSISTENCY)?, text(metadata, metadata::MIN_INDEX)?)?,
            origin: None,
            cluster: text(metadata, metadata::CLUSTER)?.map(str::to_owned),
            held: HeldPermits::default(),
            deadline: Instant::now() + requested_timeout(text(metadata, "grpc-timeout")?)?,
            session: session(text(metadata, metadata::AUTHORIZATION)?)?,
        })
    }

    /// The same call with what its connection knows: the client's address and the permits taken so far.
    pub fn with_origin(self, origin: Option<Origin>, held: HeldPermits) -> Self {
        Self { origin, held, ..self }
    }

    /// Time left until the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The session of the call, which may be over.
    pub fn session(&self) -> Result<SessionKey, Fault> {
        self.session.ok_or_else(|| session_invalid("this call needs a session"))
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Result<Option<&'a str>, Fault> {
    let value = metadata.get(key).map(|value| value.to_str()).transpose();
    value.map_err(|_| Fault::invalid(key, format!("the metadata {key} must be printable ASCII")))
}

/// Parses `grpc-timeout`. The node takes a twentieth less than the client gives, so that its fault, which says why,
/// arrives before the client's own deadline.
fn requested_timeout(timeout: Option<&str>) -> Result<Duration, Fault> {
    let Some(timeout) = timeout else { return Ok(DEFAULT_TIMEOUT) };
    let parsed = parse_timeout(timeout)
        .ok_or_else(|| Fault::invalid("grpc-timeout", "grpc-timeout must be 1 to 8 digits and one of H M S m u n"))?;
    Ok((parsed - parsed / 20).min(limits::MAX_TIMEOUT))
}

/// Up to eight digits and a unit, as in the specification of gRPC over HTTP/2.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The strongest consistency that the two metadata keys ask for. `linearizable` covers every index a client can have
/// seen.
fn consistency(word: Option<&str>, min_index: Option<&str>) -> Result<Consistency, Fault> {
    let index = min_index.map(str::parse).transpose().map_err(|_| {
        Fault::invalid(metadata::MIN_INDEX, format!("the metadata {} must be a log index", metadata::MIN_INDEX))
    })?;
    match (word, index) {
        (Some("linearizable"), _) | (None, None) => Ok(Consistency::Linearizable),
        (None | Some("stale"), Some(index)) => Ok(Consistency::AtLeast(index)),
        (Some("stale"), None) => Ok(Consistency::Stale),
        (Some(_), _) => Err(Fault::invalid(
            metadata::CONSISTENCY,
            format!("the metadata {} must be `linearizable` or `stale`", metadata::CONSISTENCY),
        )),
    }
}

/// Hashes the token at once: only the hash is compared, stored and passed on.
fn session(authorization: Option<&str>) -> Result<Option<SessionKey>, Fault> {
    let Some(authorization) = authorization else { return Ok(None) };
    let token = match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(session_invalid("the metadata authorization must be `Bearer` and a token")),
    };
    if token.is_empty() || token.len() > limits::TOKEN_BYTES {
        return Err(session_invalid("the token is not one of ours"));
    }
    Ok(Some(SessionKey::of_token(token)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reason;

    fn call(pairs: &[(&'static str, &str)]) -> Result<Call, Fault> {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.insert(*key, value.parse().unwrap());
        }
        Call::of(&metadata)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_metadata_is_linearizable_and_waits_five_seconds() {
        let call = call(&[]).unwrap();
        assert_eq!((call.consistency, call.remaining()), (Consistency::Linearizable, DEFAULT_TIMEOUT));
        assert_eq!(call.session().unwrap_err().reason, Reason::SessionInvalid);
        tokio::time::advance(DEFAULT_TIMEOUT * 2).await;
        assert_eq!(call.remaining(), Duration::ZERO);
    }

    #[test]
    fn the_node_gives_up_before_the_client_does() {
        assert_eq!(requested_timeout(Some("1S")), Ok(Duration::from_millis(950)));
        assert_eq!(requested_timeout(Some("200m")), Ok(Duration::from_millis(190)));
        assert_eq!(requested_timeout(Some("99999999H")), Ok(limits::MAX_TIMEOUT));
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
        assert_eq!(call(&[("grpc-timeout", "soon")]).unwrap_err().field.as_deref(), Some("grpc-timeout"));
    }

    #[test]
    fn freshness_is_what_the_client_asks_for() {
        let asked = |pairs: &[(&'static str, &str)]| call(pairs).map(|call| call.consistency);
        assert_eq!(asked(&[(metadata::CONSISTENCY, "stale")]), Ok(Consistency::Stale));
        assert_eq!(asked(&[(metadata::MIN_INDEX, "7")]), Ok(Consistency::AtLeast(7)));
        assert_eq!(asked(&[(metadata::CONSISTENCY, "stale"), (metadata::MIN_INDEX, "7")]), Ok(Consistency::AtLeast(7)));
        let both = [(metadata::CONSISTENCY, "linearizable"), (metadata::MIN_INDEX, "7")];
        assert_eq!(asked(&both), Ok(Consistency::Linearizable));
        for (key, bad) in [(metadata::CONSISTENCY, "fresh"), (metadata::MIN_INDEX, "-1"), (metadata::MIN_INDEX, "x")] {
            let fault = asked(&[(key, bad)]).unwrap_err();
            assert_eq!((fault.reason, fault.field.as_deref()), (Reason::InvalidArgument, Some(key)));
        }
    }

    #[test]
    fn the_session_is_known_by_the_hash_of_its_token() {
        for scheme in ["Bearer", "bearer"] {
            let call = call(&[("authorization", &format!("{scheme} abc"))]).unwrap();
            assert_eq!(call.session(), Ok(SessionKey::of_token("abc")));
        }
    }

    #[test]
    fn a_malformed_token_is_refused_and_never_repeated() {
        let long = format!("Bearer {}", "s".repeat(limits::TOKEN_BYTES + 1));
        for bad in ["Bearer", "Bearer ", "Basic secret", "secret", &long] {
            let fault = call(&[("authorization", bad)]).unwrap_err();
            assert_eq!(fault.reason, Reason::SessionInvalid, "{bad}");
            assert!(!fault.message.contains("secret") && !fault.message.contains("sss"), "{fault}");
        }
    }
}
