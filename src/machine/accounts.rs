//! Accounts: create, delete, change the password and the settings.

use std::ops::ControlFlow;

use super::{
    chores,
    context::Context,
    error::{Result, invalid, refuse},
    keys,
    records::{account_named, each, exists, save},
    sessions::{self, Actor},
};
use crate::{
    fault_injection::{self, Bug},
    types::{AccountId, NodeName, Username, limits},
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// What a verb names by username: an account that is not deleted.
pub(super) fn live_account(context: &Context<'_>, name: &str) -> Result<(AccountId, store::AccountRecord)> {
    match account_named(context.state, &name.to_ascii_lowercase())? {
        Some((id, account)) if !account.deleted => Ok((id, account)),
        Some((_, account)) => refuse(Reason::AccountNotFound, format!("the account {} was deleted", account.username)),
        None => refuse(Reason::AccountNotFound, format!("there is no account named {:?}", shown(name))),
    }
}

/// As much of a caller's text as an error message should repeat.
pub(super) fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(limits::USERNAME_BYTES).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

pub(super) fn create(context: &mut Context<'_>, verb: &store::CreateAccount) -> Result<Done> {
    let name = match Username::new(&verb.username) {
        Ok(name) => name,
        Err(error) => return invalid(error.to_string()),
    };
    check_password_hash(&verb.password_hash)?;
    let key = keys::name(&name.folded());
    if exists(context.state, &key)? && !fault_injection::enabled(Bug::NameTakenTwice) {
        return refuse(Reason::NameTaken, format!("the name {name} is taken; choose another"));
    }
    context.meta.last_account_id += 1;
    let id = AccountId(context.meta.last_account_id);
    let account = store::AccountRecord {
        username: name.as_str().to_owned(),
        create_time_ms: context.now_ms(),
        password_hash: verb.password_hash.clone(),
        password_version: 1,
        ..Default::default()
    };
    save(context.state, &key, &store::AccountRef { account_id: id.0 })?;
    context.save_account(id, &account)?;
    context.account_changed(id);
    Ok(Done::AccountCreated(store::AccountCreated {
        account_id: id.0,
        username: account.username,
        create_time_ms: account.create_time_ms,
    }))
}

pub(super) fn change_password(context: &mut Context<'_>, actor: &Actor, verb: &store::ChangePassword) -> Result<Done> {
    check_password_version(&actor.account, verb.password_version)?;
    check_password_hash(&verb.password_hash)?;
    let account = store::AccountRecord {
        password_hash: verb.password_hash.clone(),
        password_version: actor.account.password_version + 1,
        ..actor.account.clone()
    };
    context.save_account(actor.id, &account)?;
    sessions::end_all(context, actor.id, Some(&actor.session))?;
    Ok(Done::PasswordChanged(store::PasswordChanged {}))
}

/// What the command does not name stays as it is.
pub(super) fn update_settings(context: &mut Context<'_>, actor: &Actor, verb: &store::UpdateSettings) -> Result<Done> {
    let receipts_off = verb.read_receipts.map_or(actor.account.receipts_off, |on| !on);
    if receipts_off != actor.account.receipts_off {
        context.save_account(actor.id, &store::AccountRecord { receipts_off, ..actor.account.clone() })?;
    }
    Ok(Done::SettingsUpdated(store::SettingsUpdated { read_receipts: !receipts_off }))
}

/// Sessions end and messages show as deleted at once; conversations are left, and bodies erased, as far as one
/// command's share of work goes. [`chores`] does the rest.
pub(super) fn delete(context: &mut Context<'_>, actor: &Actor, verb: &store::DeleteAccount) -> Result<Done> {
    check_password_version(&actor.account, verb.password_version)?;
    let messages_erased = if verb.erase_messages { live_messages(context, actor)? } else { 0 };
    let account = store::AccountRecord {
        password_hash: String::new(),
        deleted: true,
        erased: verb.erase_messages,
        ..actor.account.clone()
    };
    context.save_account(actor.id, &account)?;
    sessions::end_all(context, actor.id, None)?;
    context.account_changed(actor.id);
    chores::begin(context, actor.id, verb.erase_messages)?;
    Ok(Done::AccountDeleted(store::AccountDeleted { messages_erased }))
}

// At most CONVERSATIONS_PER_ACCOUNT rows.
fn live_messages(context: &Context<'_>, actor: &Actor) -> Result<u64> {
    let mut count = actor.account.sent_elsewhere;
    let memberships = keys::all_of(keys::MEMBER, actor.id.0);
    each(context.state, &memberships, |_, member: store::MemberRecord| {
        count += member.sent_count;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// The edge checked the password against this version: refused if it was changed in between.
pub(super) fn check_password_version(account: &store::AccountRecord, version: u64) -> Result<()> {
    if account.password_version != version {
        return refuse(Reason::BadCredentials, "the password was changed meanwhile; enter the new one");
    }
    Ok(())
}

fn check_password_hash(hash: &str) -> Result<()> {
    if !hash.starts_with('$') || hash.len() > limits::PASSWORD_HASH_BYTES {
        return invalid(format!("password_hash must be a PHC string of at most {} bytes", limits::PASSWORD_HASH_BYTES));
    }
    Ok(())
}

/// Takes the next node id.
pub(super) fn allocate_node(context: &mut Context<'_>, verb: &store::AllocateNode) -> Result<Done> {
    if let Err(error) = NodeName::new(&verb.name) {
        return invalid(error.to_string());
    }
    // The first node, which made the cluster, is 1.
    context.meta.last_node_id = context.meta.last_node_id.max(1) + 1;
    Ok(Done::NodeAllocated(store::NodeAllocated { node_id: context.meta.last_node_id }))
}
