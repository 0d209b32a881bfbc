//! Accounts: create, delete, change the password and the settings. Also node ids, which are allocated like account ids.

use std::ops::ControlFlow;

use crate::{
    fault_injection::{self, Bug},
    machine::core::{
        actor::{Actor, check_password_version},
        chores,
        context::Context,
        error::{Result, invalid, refuse},
        keys,
        records::{each, exists, save},
        session_table,
    },
    types::{AccountId, NodeName, Username, limits},
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// Creates an account under a name that no account has or had.
pub fn create(context: &mut Context<'_>, verb: &store::CreateAccount) -> Result<Done> {
    let name = match Username::new(&verb.username) {
        Ok(name) => name,
        Err(error) => return invalid("username", error.to_string()),
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

/// Sets a new password, and ends every other session of the account.
pub fn change_password(context: &mut Context<'_>, actor: &Actor, verb: &store::ChangePassword) -> Result<Done> {
    check_password_version(&actor.account, verb.password_version)?;
    check_password_hash(&verb.password_hash)?;
    let account = store::AccountRecord {
        password_hash: verb.password_hash.clone(),
        password_version: actor.account.password_version + 1,
        ..actor.account.clone()
    };
    context.save_account(actor.id, &account)?;
    session_table::end_all(context, actor.id, Some(&actor.session))?;
    Ok(Done::PasswordChanged(store::PasswordChanged {}))
}

/// Changes the settings that the command names; the others stay as they are.
pub fn update_settings(context: &mut Context<'_>, actor: &Actor, verb: &store::UpdateSettings) -> Result<Done> {
    let receipts_off = verb.read_receipts.map_or(actor.account.receipts_off, |on| !on);
    if receipts_off != actor.account.receipts_off {
        context.save_account(actor.id, &store::AccountRecord { receipts_off, ..actor.account.clone() })?;
    }
    Ok(Done::SettingsUpdated(store::SettingsUpdated { read_receipts: !receipts_off }))
}

/// Marks the account as deleted. Its sessions end, and its messages show as deleted if it asked for that, at once. The
/// rest is a chore, of which the first step is done here.
pub fn delete(context: &mut Context<'_>, actor: &Actor, verb: &store::DeleteAccount) -> Result<Done> {
    check_password_version(&actor.account, verb.password_version)?;
    let messages_erased = if verb.erase_messages { live_messages(context, actor)? } else { 0 };
    let account = store::AccountRecord {
        password_hash: String::new(),
        deleted: true,
        erased: verb.erase_messages,
        ..actor.account.clone()
    };
    context.save_account(actor.id, &account)?;
    session_table::end_all(context, actor.id, None)?;
    context.account_changed(actor.id);
    chores::start(context, actor.id, verb.erase_messages)?;
    Ok(Done::AccountDeleted(store::AccountDeleted { messages_erased }))
}

/// How many of the account's messages are not erased. Reads one row for each conversation it is in.
fn live_messages(context: &Context<'_>, actor: &Actor) -> Result<u64> {
    let mut count = actor.account.sent_elsewhere;
    let memberships = keys::all_of(keys::MEMBER, actor.id.0);
    each(context.state, &memberships, |_, member: store::MemberRecord| {
        count += member.sent_count;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

fn check_password_hash(hash: &str) -> Result<()> {
    if !hash.starts_with('$') || hash.len() > limits::PASSWORD_HASH_BYTES {
        let message = format!("password_hash must be a PHC string of at most {} bytes", limits::PASSWORD_HASH_BYTES);
        return invalid("password_hash", message);
    }
    Ok(())
}

/// Takes the next node id. An id is never given out twice, whatever becomes of the node.
pub fn allocate_node(context: &mut Context<'_>, verb: &store::AllocateNode) -> Result<Done> {
    if let Err(error) = NodeName::new(&verb.name) {
        return invalid("name", error.to_string());
    }
    // Node 1 made the cluster and was not allocated.
    context.meta.last_node_id = context.meta.last_node_id.max(1) + 1;
    Ok(Done::NodeAllocated(store::NodeAllocated { node_id: context.meta.last_node_id }))
}
