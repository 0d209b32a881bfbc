//! Accounts and sessions.

use std::ops::ControlFlow;

use super::{
    page::{self, PageBudget},
    pattern::Pattern,
    view::time,
};
use crate::{
    machine::core::{
        error::{Result, invalid},
        keys::{self, Span},
        lookup::account_named,
        records::{each, load, require},
    },
    storage::{self, kv::Read},
    types::{AccountId, SessionKey, limits},
    wire::{chat, store},
};

/// What the edge needs to know about an account to check a password.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its name as first written.
    pub username: String,
    /// The PHC string of its password; empty once deleted.
    pub password_hash: String,
    /// Counts the changes of the password, from 1. A command that this password allows carries it.
    pub password_version: u64,
    /// Whether it was deleted. Its row stays, so that its name is never given out again.
    pub deleted: bool,
    /// When it was created, in Unix milliseconds of log time.
    pub create_time_ms: u64,
}

// Written by hand, so that no log line shows a password hash.
impl std::fmt::Debug for AccountView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountView").field("id", &self.id).field("username", &self.username).finish_non_exhaustive()
    }
}

/// A live session, and its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// The account.
    pub account: AccountId,
    /// That account's name as first written.
    pub username: String,
    /// When it ends, in Unix milliseconds of log time.
    pub expire_time_ms: u64,
}

/// Log time: the latest stamp that the state has seen, in Unix milliseconds.
pub fn log_time_ms(state: &dyn Read) -> storage::Result<u64> {
    Ok(load::<store::Meta>(state, &keys::META_KEY)?.unwrap_or_default().time_ms)
}

/// How many deleted accounts have chores left.
pub fn chores(state: &dyn Read) -> storage::Result<u64> {
    Ok(load::<store::Meta>(state, &keys::META_KEY)?.unwrap_or_default().chores)
}

/// The account of this name, in any case, deleted or not.
pub fn account_by_name(state: &dyn Read, name: &str) -> storage::Result<Option<AccountView>> {
    let found = account_named(state, name)?;
    Ok(found.map(|(id, record)| account_view(id, record)))
}

/// The account of this id, deleted or not.
pub fn account(state: &dyn Read, id: AccountId) -> storage::Result<Option<AccountView>> {
    Ok(load(state, &keys::account(id))?.map(|record| account_view(id, record)))
}

fn account_view(id: AccountId, record: store::AccountRecord) -> AccountView {
    AccountView {
        id,
        username: record.username,
        password_hash: record.password_hash,
        password_version: record.password_version,
        deleted: record.deleted,
        create_time_ms: record.create_time_ms,
    }
}

/// The session of this key, unless it has expired by log time or its account is deleted. Log time stands still while
/// nobody writes, so a caller that has a clock must compare `expire_time_ms` with it as well.
pub fn session(state: &dyn Read, key: &SessionKey) -> storage::Result<Option<SessionView>> {
    let Some(record) = load::<store::SessionRecord>(state, &keys::session(key))? else { return Ok(None) };
    if record.expire_time_ms <= log_time_ms(state)? {
        return Ok(None);
    }
    let account: store::AccountRecord = require(state, &keys::account(AccountId(record.account_id)))?;
    Ok((!account.deleted).then_some(SessionView {
        account: AccountId(record.account_id),
        username: account.username,
        expire_time_ms: record.expire_time_ms,
    }))
}

/// The live sessions of an account, oldest first.
pub fn list_sessions(state: &dyn Read, account: AccountId) -> storage::Result<chat::ListSessionsResponse> {
    let now_ms = log_time_ms(state)?;
    let mut sessions = Vec::new();
    each(state, &keys::all_of(keys::SESSION_OF, account.0), |row, _: store::Present| {
        let key = keys::session_key(row);
        let record: store::SessionRecord = require(state, &keys::session(&key))?;
        if record.expire_time_ms > now_ms {
            sessions.push(chat::Session {
                session_id: key.session_id(),
                device: record.device,
                create_time: Some(time(record.create_time_ms)),
                expire_time: Some(time(record.expire_time_ms)),
            });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(chat::ListSessionsResponse { sessions })
}

/// The settings of the account.
pub fn settings(state: &dyn Read, account: AccountId) -> storage::Result<chat::Settings> {
    let record: store::AccountRecord = require(state, &keys::account(account))?;
    Ok(chat::Settings { read_receipts: !record.receipts_off })
}

/// The accounts that this one has blocked, by ascending id: at most
/// [`BLOCKED_ACCOUNTS`](limits::BLOCKED_ACCOUNTS).
pub fn list_blocked(state: &dyn Read, account: AccountId) -> storage::Result<chat::ListBlockedAccountsResponse> {
    let mut accounts = Vec::new();
    each(state, &keys::all_of(keys::BLOCKED, account.0), |key, _: store::Present| {
        let blocked: store::AccountRecord = require(state, &keys::account(AccountId(keys::last_number(key))))?;
        accounts.push(shown_account(blocked));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(chat::ListBlockedAccountsResponse { accounts })
}

fn shown_account(account: store::AccountRecord) -> chat::Account {
    chat::Account {
        username: account.username,
        create_time: Some(time(account.create_time_ms)),
        deleted: account.deleted,
    }
}

/// The letter of the page tokens of [`list_accounts`].
const LETTER: char = 'a';

/// The accounts whose names match, in the order of their names in lower case. Deleted ones are marked as such.
pub fn list_accounts(state: &dyn Read, request: &chat::ListAccountsRequest) -> Result<chat::ListAccountsResponse> {
    if request.pattern.len() > limits::PATTERN_BYTES {
        return invalid("pattern", format!("pattern must be at most {} bytes", limits::PATTERN_BYTES));
    }
    let pattern = Pattern::new(&request.pattern);
    let mut budget = PageBudget::new(request.page_size)?;
    let begin = match page::position(LETTER, &request.page_token)? {
        // The least name above the last one seen.
        Some(mut name) => {
            name.push(0);
            name
        }
        None => pattern.prefix().to_vec(),
    };
    let prefix = [&[keys::NAME], pattern.prefix()].concat();
    let span = Span::prefix_from(&prefix, &[&[keys::NAME], &begin[..]].concat());
    let mut response = chat::ListAccountsResponse::default();
    let mut last = begin;
    each(state, &span, |key, found: store::AccountRef| {
        if !budget.take_scan() {
            response.next_page_token = page::token(LETTER, &last);
            return Ok(ControlFlow::Break(()));
        }
        if pattern.matches(&key[1..]) {
            let account: store::AccountRecord = require(state, &keys::account(AccountId(found.account_id)))?;
            // A page of the largest size is far below PAGE_BYTES: names are short.
            budget.take_row(account.username.len() + 16);
            response.accounts.push(shown_account(account));
        }
        last = key[1..].to_vec();
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(response)
}
