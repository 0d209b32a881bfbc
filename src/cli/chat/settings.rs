//! The verbs settings, block, unblock and blocked.

use super::{args::Switch, command_context::CommandContext, show};
use crate::{
    cli::{Failure, Result, Table, text},
    types::Username,
    wire::{Fault, chat},
};

pub(super) async fn settings(mut context: CommandContext, receipts: Option<Switch>) -> Result<()> {
    let (session, _) = context.session()?;
    let settings = match receipts {
        Some(switch) => session.set_read_receipts(switch == Switch::On).await.map_err(|fault| {
            Failure::of_write(fault, "`chat settings` shows whether it took effect")
                .context("cannot change the settings")
        })?,
        None => session.settings().await?,
    };
    if context.output().is_json() {
        return context.output().message(&settings);
    }
    let mut table = Table::new(["SETTING", "IS"]);
    table.row(["receipts", if settings.read_receipts { "on" } else { "off" }]);
    context.output().table(&table)
}

pub(super) async fn block(mut context: CommandContext, name: &str) -> Result<()> {
    let name = username(name)?;
    let (session, _) = context.session()?;
    session.block(&name).await.map_err(|fault| failed(fault, format!("cannot block {name}")))?;
    context.output().talk(format!("{name} is blocked"));
    Ok(())
}

pub(super) async fn unblock(mut context: CommandContext, name: &str) -> Result<()> {
    let name = username(name)?;
    let (session, _) = context.session()?;
    session.unblock(&name).await.map_err(|fault| failed(fault, format!("cannot unblock {name}")))?;
    context.output().talk(format!("{name} is not blocked"));
    Ok(())
}

pub(super) async fn blocked(mut context: CommandContext) -> Result<()> {
    let (session, _) = context.session()?;
    let accounts = session.blocked().await?;
    if context.output().is_json() {
        return context.output().message(&chat::ListBlockedAccountsResponse { accounts });
    }
    let mut table = Table::new(["NAME", "SINCE"]);
    for account in &accounts {
        let since = show::time(account.create_time);
        table.row([account.username.as_str(), if account.deleted { "deleted" } else { &since }]);
    }
    context.output().table(&table)
}

fn failed(fault: Fault, attempt: String) -> Failure {
    Failure::of_write(fault, "`chat blocked` shows whether it took effect").context(text::line(&attempt))
}

/// Checks a name before it is used: a valid one has only printable ASCII and is safe to print.
fn username(name: &str) -> Result<String> {
    match Username::new(name.strip_prefix('@').unwrap_or(name)) {
        Ok(name) => Ok(name.to_string()),
        Err(error) => Err(Fault::invalid("NAME", error.to_string()).into()),
    }
}
