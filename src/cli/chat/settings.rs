//! What the account has set for itself, and whom it has blocked.

use super::{Desk, args::Switch, show, write_failed};
use crate::{
    cli::{Result, Table, text},
    types::Username,
    wire::{Fault, chat},
};

pub(super) async fn settings(mut desk: Desk, receipts: Option<Switch>) -> Result<()> {
    let (session, _) = desk.session()?;
    let settings = match receipts {
        Some(switch) => session.set_read_receipts(switch == Switch::On).await.map_err(|fault| {
            write_failed(fault, "`chat settings` shows whether it took effect").context("cannot change the settings")
        })?,
        None => session.settings().await?,
    };
    if desk.output().is_json() {
        return desk.output().message(&settings);
    }
    let mut table = Table::new(["SETTING", "IS"]);
    table.row(["receipts", if settings.read_receipts { "on" } else { "off" }]);
    desk.output().table(&table)
}

pub(super) async fn block(mut desk: Desk, name: &str) -> Result<()> {
    let name = username(name)?;
    let (session, _) = desk.session()?;
    session.block(&name).await.map_err(|fault| failed(fault, format!("cannot block {name}")))?;
    desk.output().talk(format!("{name} is blocked"));
    Ok(())
}

pub(super) async fn unblock(mut desk: Desk, name: &str) -> Result<()> {
    let name = username(name)?;
    let (session, _) = desk.session()?;
    session.unblock(&name).await.map_err(|fault| failed(fault, format!("cannot unblock {name}")))?;
    desk.output().talk(format!("{name} is not blocked"));
    Ok(())
}

pub(super) async fn blocked(mut desk: Desk) -> Result<()> {
    let (session, _) = desk.session()?;
    let accounts = session.blocked().await?;
    if desk.output().is_json() {
        return desk.output().message(&chat::ListBlockedAccountsResponse { accounts });
    }
    let mut table = Table::new(["NAME", "SINCE"]);
    for account in &accounts {
        let since = show::time(account.create_time);
        table.row([account.username.as_str(), if account.deleted { "deleted" } else { &since }]);
    }
    desk.output().table(&table)
}

fn failed(fault: Fault, attempt: String) -> crate::cli::Failure {
    write_failed(fault, "`chat blocked` shows whether it took effect").context(text::line(&attempt))
}

/// Checked here so that a name is known to be harmless wherever it is shown.
fn username(name: &str) -> Result<String> {
    match Username::new(name.strip_prefix('@').unwrap_or(name)) {
        Ok(name) => Ok(name.to_string()),
        Err(error) => Err(Fault::invalid("NAME", error.to_string()).into()),
    }
}
