//! Errors on the network: the one mapping between our reasons and `google.rpc.Status`.
//!
//! The details follow Google's AIP-193: `ErrorInfo` for the reason, `RetryInfo`, `BadRequest` for the field, `Help` for
//! what to do next, and our own `LeaderHint`.

use std::{collections::BTreeMap, error::Error, fmt, time::Duration};

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use super::{Reason, cluster::LeaderHint};

const DOMAIN: &str = "quorate";
const TYPE_PREFIX: &str = "type.googleapis.com/";

/// A refusal or failure, as a server sends it and a client receives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Why, for programs.
    pub reason: Reason,
    /// What failed and why, for people.
    pub message: String,
    /// What to do next, for people.
    pub next: Option<String>,
    /// The request field that breaks its rule.
    pub field: Option<String>,
    /// Details for programs.
    pub metadata: BTreeMap<String, String>,
    /// How long to wait before repeating.
    pub retry_after: Option<Duration>,
    /// The leader; goes with NOT_LEADER and NO_LEADER.
    pub leader: Option<LeaderHint>,
}

impl Fault {
    /// A fault with a reason and a message only.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            next: None,
            field: None,
            metadata: BTreeMap::new(),
            retry_after: None,
            leader: None,
        }
    }

    /// The fault of a request field that breaks its rule.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), ..Self::new(Reason::InvalidArgument, message) }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }

    /// Adds how long to wait before repeating.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds the leader, as a typed detail and as plain metadata for clients without our protos.
    #[must_use]
    pub fn leader(mut self, hint: LeaderHint) -> Self {
        self.metadata.insert("leader_address".into(), hint.leader_address.clone());
        self.metadata.insert("leader_id".into(), hint.leader_id.to_string());
        self.leader = Some(hint);
        self
    }

    /// Reads a status. A status that other software made gets the reason nearest to its code. One that this side of the
    /// connection made, because the call broke, is UNREACHABLE and never INTERNAL.
    pub fn from_status(status: &Status) -> Self {
        if is_local(status) {
            return Self::broken(status.message());
        }
        let mut fault = Self::new(reason_of(status.code()), status.message());
        let Ok(details) = pb::Status::decode(status.details()) else { return fault };
        for any in details.details {
            fault.read_detail(&any);
        }
        fault
    }

    fn broken(why: &str) -> Self {
        // Something else may listen at that address: a web server, an SSH daemon.
        let doubt = if why.contains("h2 protocol error") { "; is it a Quorate node that answers there?" } else { "" };
        Self::new(Reason::Unreachable, format!("the connection broke: {why}{doubt}"))
    }

    fn read_detail(&mut self, any: &Any) {
        let value = any.value.as_slice();
        match any.type_url.strip_prefix(TYPE_PREFIX) {
            Some("google.rpc.ErrorInfo") => {
                let Ok(info) = pb::ErrorInfo::decode(value) else { return };
                if info.domain == DOMAIN {
                    self.reason = Reason::parse(&info.reason).unwrap_or(self.reason);
                    self.metadata = info.metadata.into_iter().collect();
                }
            }
            Some("google.rpc.RetryInfo") => {
                let delay = pb::RetryInfo::decode(value).ok().and_then(|info| info.retry_delay);
                self.retry_after = delay.and_then(|delay| Duration::try_from(delay).ok());
            }
            Some("google.rpc.BadRequest") => {
                let bad = pb::BadRequest::decode(value).unwrap_or_default();
                self.field = bad.field_violations.into_iter().next().map(|violation| violation.field);
            }
            Some("google.rpc.Help") => {
                let help = pb::Help::decode(value).unwrap_or_default();
                self.next = help.links.into_iter().next().map(|link| link.description);
            }
            Some("chat.cluster.v1.LeaderHint") => self.leader = LeaderHint::decode(value).ok(),
            _ => {}
        }
    }

    fn details(&self) -> Vec<Any> {
        let mut details = vec![any(
            "google.rpc.ErrorInfo",
            &pb::ErrorInfo {
                reason: self.reason.as_str().into(),
                domain: DOMAIN.into(),
                metadata: self.metadata.clone().into_iter().collect(),
            },
        )];
        if let Some(delay) = self.retry_after {
            let retry_delay = prost_types::Duration::try_from(delay).ok();
            details.push(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay }));
        }
        if let Some(field) = &self.field {
            let violation = pb::bad_request::FieldViolation {
                field: field.clone(),
                description: self.message.clone(),
                ..Default::default()
            };
            details.push(any("google.rpc.BadRequest", &pb::BadRequest { field_violations: vec![violation] }));
        }
        if let Some(next) = &self.next {
            let link = pb::help::Link { description: next.clone(), url: String::new() };
            details.push(any("google.rpc.Help", &pb::Help { links: vec![link] }));
        }
        if let Some(hint) = &self.leader {
            details.push(any("chat.cluster.v1.LeaderHint", hint));
        }
        details
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("{TYPE_PREFIX}{name}"), value: message.encode_to_vec() }
}

/// Whether our own side of the connection made this status, because the call broke. Such a status has a source error,
/// or the code UNKNOWN, which no server of ours sends.
fn is_local(status: &Status) -> bool {
    let unspoken = matches!(status.code(), Code::Unknown | Code::Internal | Code::Unavailable);
    status.details().is_empty() && (status.code() == Code::Unknown || (unspoken && status.source().is_some()))
}

/// The nearest reason for a status that other software made: tonic itself, or a proxy.
fn reason_of(code: Code) -> Reason {
    match code {
        Code::Unavailable => Reason::Unreachable,
        Code::DeadlineExceeded | Code::Cancelled => Reason::Timeout,
        Code::ResourceExhausted => Reason::Overloaded,
        Code::InvalidArgument | Code::OutOfRange => Reason::InvalidArgument,
        Code::Unauthenticated => Reason::SessionInvalid,
        Code::PermissionDenied => Reason::NotAllowed,
        _ => Reason::Internal,
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = fault.reason.code();
        let status = pb::Status { code: code.into(), message: fault.message.clone(), details: fault.details() };
        Status::with_details(code, fault.message, status.encode_to_vec().into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_wire() {
        let hint =
            LeaderHint { cluster_id: "c".into(), leader_id: 3, leader_address: "127.0.0.1:7403".into(), term: 9 };
        let fault = Fault::new(Reason::NotLeader, "node n1 is not the leader")
            .next("ask 127.0.0.1:7403")
            .retry_after(Duration::from_millis(50))
            .leader(hint);
        let status = Status::from(fault.clone());
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(Fault::from_status(&status), fault);
    }

    #[test]
    fn a_field_at_fault_is_named() {
        let fault = Fault::invalid("body", "the body is empty");
        assert_eq!(Fault::from_status(&Status::from(fault.clone())), fault);
    }

    #[test]
    fn a_foreign_status_gets_the_nearest_reason() {
        assert_eq!(Fault::from_status(&Status::unavailable("x")).reason, Reason::Unreachable);
        assert_eq!(Fault::from_status(&Status::deadline_exceeded("x")).reason, Reason::Timeout);
        // What tonic makes of a connection that breaks under a call.
        assert_eq!(Fault::from_status(&Status::unknown("transport error")).reason, Reason::Unreachable);
        let garbage = Status::with_details(Code::Internal, "x", vec![0xff; 9].into());
        assert_eq!(Fault::from_status(&garbage).reason, Reason::Internal);
    }
}
