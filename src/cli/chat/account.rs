//! Accounts and sessions.

use std::path::Path;

use serde_json::json;

use super::{
    Desk,
    args::{DeleteAccount, Named, Passwd, Register},
    contexts::Context,
    password, show, write_failed,
};
use crate::{
    cli::{Failure, Result, Table, text},
    client::{Cluster, Session},
    types::{SessionKey, Username, limits},
    wire::{Address, Fault, Reason, chat},
};

/// Accounts asked for at once.
const PAGE: u32 = limits::PAGE_SIZE as u32;

pub(super) async fn register(mut desk: Desk, args: Register) -> Result<()> {
    let name = username(&args.account.name)?;
    let cluster = desk.cluster()?;
    if !args.no_login {
        desk.contexts.check()?;
    }
    let password = ask(&mut desk, args.account.password.password_file.as_deref(), "Password", true)?;
    let account = Session::register(&cluster, &name, &password).await.map_err(|fault| {
        write_failed(fault, format!("`chat login {name}` shows whether it took effect"))
            .context(format!("cannot register {name}"))
    })?;
    if !args.no_login {
        sign_in(&desk, &cluster, &args.account, &password).await.map_err(|failure| {
            let failure = failure.context(format!("{name} is registered, but cannot sign in"));
            failure.next(format!("sign in with `chat login {name}`"))
        })?;
    }
    if desk.output().is_json() {
        return desk.output().message(&account);
    }
    desk.output().talk(match args.no_login {
        true => format!("{name} is registered; sign in with `chat login {name}`"),
        false => format!("{name} is registered and signed in"),
    });
    Ok(())
}

pub(super) async fn login(mut desk: Desk, args: Named) -> Result<()> {
    let name = username(&args.name)?;
    let cluster = desk.cluster()?;
    desk.contexts.check()?;
    let password = ask(&mut desk, args.password.password_file.as_deref(), "Password", false)?;
    let answer = sign_in(&desk, &cluster, &args, &password)
        .await
        .map_err(|failure| failure.context(format!("cannot sign in as {name}")))?;
    if desk.output().is_json() {
        // The token stays out of sight: it is as good as the password.
        let session = answer.session.unwrap_or_default();
        let (id, device) = (session.session_id, session.device);
        let unread = answer.unread_count.to_string();
        return desk
            .output()
            .json(&json!({ "username": name, "sessionId": id, "device": device, "unreadCount": unread }));
    }
    desk.output().talk(format!("signed in as {name}; {} unread", answer.unread_count));
    Ok(())
}

/// Signs in, and keeps the session on this machine.
async fn sign_in(desk: &Desk, cluster: &Cluster, who: &Named, password: &str) -> Result<chat::CreateSessionResponse> {
    let device = who.device.clone().unwrap_or_else(machine);
    let (_, answer) = Session::login(cluster, &who.name, password, &device).await?;
    let mut servers = desk.servers.clone();
    servers.extend(cluster.addresses().into_iter().filter(|server| !desk.servers.contains(server)));
    let (account, token) = (who.name.clone(), answer.token.clone());
    desk.contexts.keep(Context { servers, account, token, cluster: cluster.id() })?;
    Ok(answer)
}

pub(super) async fn logout(mut desk: Desk, all: bool, id: Option<String>) -> Result<()> {
    let (session, context) = desk.session()?;
    if let Some(id) = id.filter(|id| *id != own_id(&context)) {
        session.logout(Some(&id), false).await.map_err(|fault| {
            write_failed(fault, "`chat sessions` shows whether it took effect")
                .context(format!("cannot end the session {id}"))
        })?;
        desk.output().talk(format!("ended the session {}", text::line(&id)));
        return Ok(());
    }
    let ended = session.logout(None, all).await;
    match ended {
        // One that ended elsewhere is over as well.
        Ok(()) | Err(Fault { reason: Reason::SessionInvalid, .. }) => {}
        Err(fault) => return Err(Failure::from(fault).context("cannot sign out")),
    }
    desk.contexts.forget(&context.token)?;
    desk.output().talk(format!("signed out {}{}", context.account, if all { " everywhere" } else { "" }));
    Ok(())
}

pub(super) async fn whoami(mut desk: Desk) -> Result<()> {
    let (session, context) = desk.session()?;
    // Asked of the cluster, so that an ended session is not taken for a live one.
    session.sessions().await?;
    let servers: Vec<&str> = context.servers.iter().map(Address::as_str).collect();
    if desk.output().is_json() {
        return desk.output().json(&json!({ "username": context.account, "servers": servers }));
    }
    desk.output().line(text::line(&context.account))
}

pub(super) async fn passwd(mut desk: Desk, args: Passwd) -> Result<()> {
    let (session, _) = desk.session()?;
    let old = ask(&mut desk, args.password.password_file.as_deref(), "Present password", false)?;
    let new = desk.around.new_password.take();
    let new = password::read(args.new_password_file.as_deref(), new, "New password", true)?;
    session.change_password(&old, &new).await.map_err(|fault| {
        write_failed(fault, "`chat login` shows which password holds").context("cannot change the password")
    })?;
    desk.output().talk("the password is changed; every other session has ended");
    Ok(())
}

/// The id under which this session is listed.
fn own_id(context: &Context) -> String {
    SessionKey::of_token(&context.token).session_id()
}

pub(super) async fn sessions(mut desk: Desk) -> Result<()> {
    let (session, context) = desk.session()?;
    let sessions = session.sessions().await?;
    if desk.output().is_json() {
        return desk.output().message(&chat::ListSessionsResponse { sessions });
    }
    let mut table = Table::new(["HERE", "SESSION", "DEVICE", "SINCE", "UNTIL"]);
    for session in sessions {
        let here = if session.session_id == own_id(&context) { "*" } else { "" };
        let (since, until) = (show::time(session.create_time), show::time(session.expire_time));
        table.row([here, &session.session_id, &session.device, &since, &until]);
    }
    desk.output().table(&table)
}

pub(super) async fn delete(mut desk: Desk, args: DeleteAccount) -> Result<()> {
    let (session, context) = desk.session()?;
    let prompt = format!("Password of {}, to delete the account for good", text::line(&context.account));
    let password = ask(&mut desk, args.password.password_file.as_deref(), &prompt, false)?;
    let messages_erased = session.delete_account(&password, args.erase_messages).await.map_err(|fault| {
        write_failed(fault, "`chat whoami` shows whether it took effect").context("cannot delete the account")
    })?;
    desk.contexts.forget(&context.token)?;
    if desk.output().is_json() {
        return desk.output().message(&chat::DeleteAccountResponse { messages_erased });
    }
    let erased = if args.erase_messages { format!("; {messages_erased} messages erased") } else { String::new() };
    desk.output().talk(format!("{} is deleted{erased}", context.account));
    Ok(())
}

pub(super) async fn users(mut desk: Desk, pattern: &str, limit: u32) -> Result<()> {
    let (session, _) = desk.session()?;
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
    if desk.output().is_json() {
        return desk.output().message(&answer);
    }
    let mut table = Table::new(["NAME", "SINCE"]);
    for account in &answer.accounts {
        let since = show::time(account.create_time);
        table.row([account.username.as_str(), if account.deleted { "deleted" } else { &since }]);
    }
    desk.output().table(&table)?;
    if !answer.next_page_token.is_empty() {
        desk.output().talk(format!("there are more: narrow the pattern, or raise --limit above {limit}"));
    }
    Ok(())
}

fn ask(desk: &mut Desk, file: Option<&Path>, prompt: &str, twice: bool) -> Result<String> {
    let environment = desk.around.password.take();
    password::read(file, environment, prompt, twice)
}

fn username(name: &str) -> Result<String> {
    match Username::new(name) {
        Ok(name) => Ok(name.to_string()),
        Err(error) => Err(Fault::invalid("username", error.to_string()).into()),
    }
}

/// This machine's name, to tell sessions apart in listings.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(|c| c.is_ascii_graphic()).take(limits::DEVICE_BYTES).collect()
}
