//! The verbs on accounts and sessions: register, login, logout, whoami, passwd, sessions, delete-account, users.

use std::path::Path;

use serde_json::json;

use super::{
    args::{DeleteAccount, Named, Passwd, Register},
    command_context::CommandContext,
    password,
    saved_sessions::SavedSession,
    show,
};
use crate::{
    cli::{Failure, Result, Table, text},
    client::{Cluster, Session},
    types::{SessionKey, Username, limits},
    wire::{Address, Fault, Reason, chat},
};

/// Accounts per page of a listing.
const PAGE: u32 = limits::PAGE_SIZE as u32;

/// Creates an account and signs in. If only the latter fails, the error says that the account exists.
pub(super) async fn register(mut context: CommandContext, args: Register) -> Result<()> {
    let name = username(&args.account.name)?;
    let cluster = context.cluster()?;
    if !args.no_login {
        context.saved_sessions.check()?;
    }
    let password = ask(&mut context, args.account.password.password_file.as_deref(), "Password", true)?;
    let account = Session::register(&cluster, &name, &password).await.map_err(|fault| {
        Failure::of_write(fault, format!("`chat login {name}` shows whether it took effect"))
            .context(format!("cannot register {name}"))
    })?;
    if !args.no_login {
        sign_in(&context, &cluster, &args.account, &password).await.map_err(|failure| {
            let failure = failure.context(format!("{name} is registered, but cannot sign in"));
            failure.next(format!("sign in with `chat login {name}`"))
        })?;
    }
    if context.output().is_json() {
        return context.output().message(&account);
    }
    context.output().talk(match args.no_login {
        true => format!("{name} is registered; sign in with `chat login {name}`"),
        false => format!("{name} is registered and signed in"),
    });
    Ok(())
}

pub(super) async fn login(mut context: CommandContext, args: Named) -> Result<()> {
    let name = username(&args.name)?;
    let cluster = context.cluster()?;
    context.saved_sessions.check()?;
    let password = ask(&mut context, args.password.password_file.as_deref(), "Password", false)?;
    let answer = sign_in(&context, &cluster, &args, &password)
        .await
        .map_err(|failure| failure.context(format!("cannot sign in as {name}")))?;
    if context.output().is_json() {
        // Without the token, which is as good as the password.
        let session = answer.session.unwrap_or_default();
        let (id, device) = (session.session_id, session.device);
        let unread = answer.unread_count.to_string();
        return context
            .output()
            .json(&json!({ "username": name, "sessionId": id, "device": device, "unreadCount": unread }));
    }
    context.output().talk(format!("signed in as {name}; {} unread", answer.unread_count));
    Ok(())
}

/// Signs in and saves the session on this machine.
async fn sign_in(
    context: &CommandContext,
    cluster: &Cluster,
    who: &Named,
    password: &str,
) -> Result<chat::CreateSessionResponse> {
    let device = who.device.clone().unwrap_or_else(machine);
    let (_, answer) = Session::login(cluster, &who.name, password, &device).await?;
    let mut servers = context.servers.clone();
    servers.extend(cluster.addresses().into_iter().filter(|server| !context.servers.contains(server)));
    let (account, token) = (who.name.clone(), answer.token.clone());
    context.saved_sessions.save(SavedSession { servers, account, token, cluster: cluster.id() })?;
    Ok(answer)
}

/// Ends the session `id`, or else the current one (`all`: every one) and removes it from this machine.
pub(super) async fn logout(mut context: CommandContext, all: bool, id: Option<String>) -> Result<()> {
    let (session, saved) = context.session()?;
    if let Some(id) = id.filter(|id| *id != own_id(&saved)) {
        session.logout(Some(&id), false).await.map_err(|fault| {
            Failure::of_write(fault, "`chat sessions` shows whether it took effect")
                .context(format!("cannot end the session {id}"))
        })?;
        context.output().talk(format!("ended the session {}", text::line(&id)));
        return Ok(());
    }
    let ended = session.logout(None, all).await;
    match ended {
        // The session has ended already, which is what was asked for.
        Ok(()) | Err(Fault { reason: Reason::SessionInvalid, .. }) => {}
        Err(fault) => return Err(Failure::from(fault).context("cannot sign out")),
    }
    context.saved_sessions.remove(&saved.token)?;
    context.output().talk(format!("signed out {}{}", saved.account, if all { " everywhere" } else { "" }));
    Ok(())
}

pub(super) async fn whoami(mut context: CommandContext) -> Result<()> {
    let (session, saved) = context.session()?;
    // The saved session may have ended elsewhere: this call fails then.
    session.sessions().await?;
    let servers: Vec<&str> = saved.servers.iter().map(Address::as_str).collect();
    if context.output().is_json() {
        return context.output().json(&json!({ "username": saved.account, "servers": servers }));
    }
    context.output().line(text::line(&saved.account))
}

pub(super) async fn passwd(mut context: CommandContext, args: Passwd) -> Result<()> {
    let (session, _) = context.session()?;
    let old = ask(&mut context, args.password.password_file.as_deref(), "Current password", false)?;
    let new = context.environment.new_password.take();
    let new = password::read(args.new_password_file.as_deref(), new, "New password", true)?;
    session.change_password(&old, &new).await.map_err(|fault| {
        Failure::of_write(fault, "`chat login` shows which password is valid").context("cannot change the password")
    })?;
    context.output().talk("password changed; every other session has ended");
    Ok(())
}

/// The id of the saved session in listings.
fn own_id(saved: &SavedSession) -> String {
    SessionKey::of_token(&saved.token).session_id()
}

pub(super) async fn sessions(mut context: CommandContext) -> Result<()> {
    let (session, saved) = context.session()?;
    let sessions = session.sessions().await?;
    if context.output().is_json() {
        return context.output().message(&chat::ListSessionsResponse { sessions });
    }
    let mut table = Table::new(["HERE", "SESSION", "DEVICE", "SINCE", "UNTIL"]);
    for session in sessions {
        let here = if session.session_id == own_id(&saved) { "*" } else { "" };
        let (since, until) = (show::time(session.create_time), show::time(session.expire_time));
        table.row([here, &session.session_id, &session.device, &since, &until]);
    }
    context.output().table(&table)
}

pub(super) async fn delete(mut context: CommandContext, args: DeleteAccount) -> Result<()> {
    let (session, saved) = context.session()?;
    let prompt = format!("Password of {}, to delete the account for good", text::line(&saved.account));
    let password = ask(&mut context, args.password.password_file.as_deref(), &prompt, false)?;
    let messages_erased = session.delete_account(&password, args.erase_messages).await.map_err(|fault| {
        Failure::of_write(fault, "`chat whoami` shows whether it took effect").context("cannot delete the account")
    })?;
    context.saved_sessions.remove(&saved.token)?;
    if context.output().is_json() {
        return context.output().message(&chat::DeleteAccountResponse { messages_erased });
    }
    let erased = if args.erase_messages { format!("; {messages_erased} messages erased") } else { String::new() };
    context.output().talk(format!("{} is deleted{erased}", saved.account));
    Ok(())
}

pub(super) async fn users(mut context: CommandContext, pattern: &str, limit: u32) -> Result<()> {
    let (session, _) = context.session()?;
    let mut answer = chat::ListAccountsResponse::default();
    while answer.accounts.len() < limit as usize {
        let wanted = PAGE.min(limit - answer.accounts.len() as u32);
        let page = session.users(pattern, wanted as i32, &answer.next_page_token).await?;
        answer.accounts.extend(page.accounts);
        answer.next_page_token = page.next_page_token;
        if answer.next_page_token.is_empty() {
            break;
        }
    }
    if context.output().is_json() {
        return context.output().message(&answer);
    }
    let mut table = Table::new(["NAME", "SINCE"]);
    for account in &answer.accounts {
        let since = show::time(account.create_time);
        table.row([account.username.as_str(), if account.deleted { "deleted" } else { &since }]);
    }
    context.output().table(&table)?;
    if !answer.next_page_token.is_empty() {
        context.output().talk(format!("there are more: narrow the pattern, or raise --limit above {limit}"));
    }
    Ok(())
}

/// The password, from where [`password::read`] finds it.
fn ask(context: &mut CommandContext, file: Option<&Path>, prompt: &str, twice: bool) -> Result<String> {
    let environment = context.environment.password.take();
    password::read(file, environment, prompt, twice)
}

fn username(name: &str) -> Result<String> {
    match Username::new(name) {
        Ok(name) => Ok(name.to_string()),
        Err(error) => Err(Fault::invalid("username", error.to_string()).into()),
    }
}

/// The host name, as the default label of a session in listings.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(|c| c.is_ascii_graphic()).take(limits::DEVICE_BYTES).collect()
}
