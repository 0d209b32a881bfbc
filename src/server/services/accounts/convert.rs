//! Conversions of AccountService.
//!
//! A request with a password becomes a command in two steps: it is checked here first, then its password is hashed or
//! verified, and `write` makes the command from both. The command never holds the password.

use crate::{
    server::services::{
        check::{self, Write},
        outcome,
    },
    types::{RequestId, SessionKey, Username},
    wire::{
        Fault, Reason, chat,
        store::{self, command::Verb},
    },
};

/// A checked CreateAccountRequest.
#[derive(Debug, PartialEq)]
pub(in crate::server) struct NewAccount {
    pub request_id: RequestId,
    pub username: Username,
    pub password: String,
}

/// Checks the name and the rule for new passwords. Whether the name is free is decided when the command is applied.
pub(in crate::server) fn new_account(request: chat::CreateAccountRequest) -> Result<NewAccount, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let username = check::username("username", &request.username)?;
    check::new_password("password", &request.password)?;
    Ok(NewAccount { request_id, username, password: request.password })
}

impl NewAccount {
    /// The command, with the hash in place of the password.
    pub fn write(&self, password_hash: String) -> Write {
        let create = store::CreateAccount { username: self.username.to_string(), password_hash };
        Write { request_id: self.request_id, verb: Verb::CreateAccount(create) }
    }
}

/// A checked CreateSessionRequest.
#[derive(Debug, PartialEq)]
pub(in crate::server) struct Login {
    pub request_id: RequestId,
    pub username: Username,
    pub password: String,
    pub device: String,
}

/// Checks the form of the credentials, and the device label that the session will be listed under.
pub(in crate::server) fn login(request: chat::CreateSessionRequest) -> Result<Login, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let username = check::username("username", &request.username)?;
    check::password("password", &request.password)?;
    check::device(&request.device)?;
    Ok(Login { request_id, username, password: request.password, device: request.device })
}

impl Login {
    /// What the session's token is derived from.
    pub fn credentials(&self) -> (RequestId, Username, String) {
        (self.request_id, self.username.clone(), self.password.clone())
    }

    /// The command for a session with this key, valid for `ttl_ms` of log time. `password_version` is the version that
    /// was verified.
    pub fn write(&self, password_version: u64, key: SessionKey, ttl_ms: u64) -> Write {
        let create = store::CreateSession {
            username: self.username.to_string(),
            password_version,
            new_session_key: key.0.to_vec().into(),
            device: self.device.clone(),
            ttl_ms,
        };
        Write { request_id: self.request_id, verb: Verb::CreateSession(create) }
    }
}

/// A checked DeleteAccountRequest.
#[derive(Debug, PartialEq)]
pub(in crate::server) struct Deletion {
    pub request_id: RequestId,
    pub password: String,
    erase_messages: bool,
}

pub(in crate::server) fn deletion(request: chat::DeleteAccountRequest) -> Result<Deletion, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    check::password("password", &request.password)?;
    Ok(Deletion { request_id, password: request.password, erase_messages: request.erase_messages })
}

impl Deletion {
    /// The command. `password_version` is the version that was verified, or 0 for a retry of a decided request.
    pub fn write(&self, password_version: u64) -> Write {
        let delete = store::DeleteAccount { password_version, erase_messages: self.erase_messages };
        Write { request_id: self.request_id, verb: Verb::DeleteAccount(delete) }
    }
}

/// A checked ChangePasswordRequest.
#[derive(Debug, PartialEq)]
pub(in crate::server) struct PasswordChange {
    pub request_id: RequestId,
    pub old: String,
    pub new: String,
}

pub(in crate::server) fn password_change(request: chat::ChangePasswordRequest) -> Result<PasswordChange, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    check::password("old_password", &request.old_password)?;
    check::new_password("new_password", &request.new_password)?;
    Ok(PasswordChange { request_id, old: request.old_password, new: request.new_password })
}

impl PasswordChange {
    /// The command. `password_version` is the version that was verified; 0 and no hash for a retry of a decided
    /// request.
    pub fn write(&self, password_version: u64, password_hash: String) -> Write {
        let change = store::ChangePassword { password_version, password_hash };
        Write { request_id: self.request_id, verb: Verb::ChangePassword(change) }
    }
}

/// The session with this id, all sessions, or, if neither is given, the acting one.
pub(in crate::server) fn delete_session(request: chat::DeleteSessionRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    if !request.session_id.is_empty() {
        check::session_id(&request.session_id)?;
        if request.all {
            return Err(Fault::invalid("all", "give either a session_id or all, not both"));
        }
    }
    let delete = store::DeleteSession { session_id: request.session_id, all: request.all };
    Ok(Write { request_id, verb: Verb::DeleteSession(delete) })
}

/// A setting that is not given stays as it is; at least one must be given.
pub(in crate::server) fn settings(request: chat::UpdateSettingsRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    if request.read_receipts.is_none() {
        return Err(Fault::invalid("read_receipts", "there is nothing to change: give read_receipts"));
    }
    let update = store::UpdateSettings { read_receipts: request.read_receipts };
    Ok(Write { request_id, verb: Verb::UpdateSettings(update) })
}

pub(in crate::server) fn block(request: chat::BlockAccountRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let username = check::username("username", &request.username)?.to_string();
    Ok(Write { request_id, verb: Verb::BlockAccount(store::BlockAccount { username }) })
}

pub(in crate::server) fn unblock(request: chat::UnblockAccountRequest) -> Result<Write, Fault> {
    let request_id = check::request_id(&request.request_id)?;
    let username = check::username("username", &request.username)?.to_string();
    Ok(Write { request_id, verb: Verb::UnblockAccount(store::UnblockAccount { username }) })
}

/// Checks the bounds of a listing. The query itself checks what the page token says.
pub(in crate::server) fn listing(request: chat::ListAccountsRequest) -> Result<chat::ListAccountsRequest, Fault> {
    check::pattern(&request.pattern)?;
    check::page(request.page_size, &request.page_token)?;
    Ok(request)
}

/// The session that a login created, or REQUEST_ID_REUSED if `key` is not its key. That happens when a retry comes with
/// another password than the first attempt: the token derived from it would open no session.
pub(in crate::server) fn session(created: &store::SessionCreated, key: SessionKey) -> Result<chat::Session, Fault> {
    if created.session_id != key.session_id() {
        return Err(Fault::new(Reason::RequestIdReused, "this request_id has made a session with another password")
            .next("log in with a new request_id"));
    }
    Ok(chat::Session {
        session_id: created.session_id.clone(),
        device: created.device.clone(),
        create_time: Some(outcome::time(created.create_time_ms)),
        expire_time: Some(outcome::time(created.expire_time_ms)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    #[test]
    fn a_login_becomes_a_command_without_the_password() {
        let login = login(chat::CreateSessionRequest {
            request_id: ID.into(),
            username: "Alice".into(),
            password: "secret".into(),
            device: "laptop".into(),
        })
        .unwrap();
        let write = login.write(3, SessionKey([7; 32]), 60_000);
        let Verb::CreateSession(create) = &write.verb else { panic!("{write:?}") };
        assert_eq!((create.username.as_str(), create.password_version, create.ttl_ms), ("Alice", 3, 60_000));
        assert!(!format!("{write:?}").contains("secret"));
    }

    #[test]
    fn a_session_id_and_all_exclude_each_other() {
        let request = |session_id: &str, all| chat::DeleteSessionRequest {
            request_id: ID.into(),
            session_id: session_id.into(),
            all,
        };
        assert_eq!(delete_session(request("0123456789abcdef", true)).unwrap_err().field.as_deref(), Some("all"));
        assert!(delete_session(request("0123456789abcdef", false)).is_ok());
        assert!(delete_session(request("", true)).is_ok());
        assert!(delete_session(request("", false)).is_ok(), "the acting session");
    }

    #[test]
    fn a_retry_with_another_password_gets_no_dead_token() {
        let key = SessionKey([1; 32]);
        let created = store::SessionCreated { session_id: key.session_id(), ..Default::default() };
        assert!(session(&created, key).is_ok());
        assert_eq!(session(&created, SessionKey([2; 32])).unwrap_err().reason, Reason::RequestIdReused);
    }

    #[test]
    fn every_write_needs_a_request_id() {
        let reason = |checked: Result<(), Fault>| checked.unwrap_err().reason;
        let wrong = Reason::RequestIdInvalid;
        assert_eq!(reason(new_account(Default::default()).map(drop)), wrong);
        assert_eq!(reason(login(Default::default()).map(drop)), wrong);
        assert_eq!(reason(deletion(Default::default()).map(drop)), wrong);
        assert_eq!(reason(password_change(Default::default()).map(drop)), wrong);
        assert_eq!(reason(delete_session(Default::default()).map(drop)), wrong);
        assert_eq!(reason(settings(Default::default()).map(drop)), wrong);
        assert_eq!(reason(block(Default::default()).map(drop)), wrong);
        assert_eq!(reason(unblock(Default::default()).map(drop)), wrong);
    }

    #[test]
    fn a_new_password_keeps_the_rule_and_an_old_one_need_not() {
        let request = |old: &str, new: &str| chat::ChangePasswordRequest {
            request_id: ID.into(),
            old_password: old.into(),
            new_password: new.into(),
        };
        assert!(password_change(request("old", "long enough")).is_ok());
        assert_eq!(password_change(request("old", "short")).unwrap_err().field.as_deref(), Some("new_password"));
        assert_eq!(password_change(request("", "long enough")).unwrap_err().field.as_deref(), Some("old_password"));
    }
}
