//! Accounts that several clients use at once. Each small value of such an account is a register of its own: the
//! account's name, the title of its room, its read mark, its settings, whom it blocks. All clients read and write them,
//! and once the account is deleted the history of each must be linearizable ([`registers`](crate::registers)).

use std::time::Duration;

use futures::future::join_all;
use quorate::{
    client::{Cluster, Recipient, Session, outcome_is_unknown},
    types::ConversationId,
    wire::{Fault, Reason, chat::Conversation},
};
use tokio::time::sleep;

use super::user::User;
use crate::{
    client::{TIMEOUT, connect, conversation_id},
    registers::{AccountName, History, NameOp, Register, RegisterOp},
};

/// Clients of one account.
const CLIENTS: usize = 3;
/// Operations of each client on the registers of one account.
const OPERATIONS: usize = 14;
/// Bounds of each history: calls, and calls without an answer. The tester tries all their orders, so its time is
/// exponential in both.
const MAX_CALLS: usize = 18;
const MAX_UNKNOWN: usize = 3;
/// Messages that the account gets at its start, so that it has something to mark as read.
const MEMOS: u64 = 6;

/// Uses accounts from several clients, one account after another. The user beside whom it runs, here called the host,
/// sends the memos and is blocked.
pub struct SharedAccounts<'a> {
    user: &'a User,
    /// Numbered from 0; the number names the client in the histories.
    clients: Vec<Cluster>,
}

/// The registers of one account, each with the history of all calls on it.
struct AccountRegisters {
    room: ConversationId,
    memos: ConversationId,
    title: History<Register>,
    read_mark: History<Register>,
    read_receipts: History<Register>,
    blocked: History<Register>,
}

/// Names one of the [`AccountRegisters`].
#[derive(Debug, Clone, Copy)]
enum Field {
    /// The number in the room's title.
    Title,
    ReadMark,
    /// 1 if read receipts are on.
    ReadReceipts,
    /// 1 if the host is blocked.
    Blocked,
}

impl<'a> SharedAccounts<'a> {
    pub fn beside(user: &'a User) -> Self {
        // The name of a random stream ("clerk" was the name of such a client). Another one would change what seeds do.
        let client = |number| connect(&user.world, &format!("{}'s clerk {number}", user.name), TIMEOUT);
        Self { user, clients: (0..CLIENTS).map(client).collect() }
    }

    /// Runs until the workload is stopped. An account that was started is brought to its end.
    pub async fn run(&self, host: &Session) {
        let mut number = 0;
        while !self.user.world.workload_stopped.get() {
            number += 1;
            self.use_account(&format!("shared-{}-{number}", self.user.name), host).await;
            self.user.world.count("shared accounts");
        }
    }

    async fn use_account(&self, account: &str, host: &Session) {
        let name = History::of(AccountName::Free);
        let creates = join_all((0..CLIENTS).map(|client| self.create(&name, account, client))).await;
        if let Some(owner) = creates.iter().position(|succeeded| *succeeded)
            && let Some(session) = self.sign_in(&name, account, owner, owner).await
        {
            let registers = self.set_up(account, &session, host).await;
            let through = |client: usize| session.through(&self.clients[client]);
            join_all((0..CLIENTS).map(|client| self.operate(&registers, client, through(client)))).await;
            self.check(account, "title", registers.title.check());
            self.check(account, "read mark", registers.read_mark.check());
            self.check(account, "read receipts", registers.read_receipts.check());
            self.check(account, "block", registers.blocked.check());
            self.delete_while_others_sign_in(&name, account, owner, &session).await;
        }
        self.check(account, "name", name.check());
    }

    fn check(&self, account: &str, what: &str, checked: Result<(), String>) {
        self.user.world.count("registers judged");
        if let Err(why) = checked {
            self.user.world.violation(format!("{account}'s {what}: {why}"));
        }
    }

    fn password(account: &str, client: usize) -> String {
        format!("password {client} of {account}")
    }

    /// Creates the account by one request, repeated until its outcome is known. Returns whether this request created
    /// it.
    async fn create(&self, name: &History<AccountName>, account: &str, client: usize) -> bool {
        let (cluster, call) = (&self.clients[client], name.invoke(NameOp::Create(client)));
        let (id, password) = (cluster.request_id(), Self::password(account, client));
        let register = async || Session::register_as(cluster, id, account, &password).await;
        let decide = |result: Result<_, Fault>| match result {
            Ok(_) => Ok(true),
            Err(fault) if fault.reason == Reason::NameTaken => Ok(false),
            Err(fault) => Err(fault),
        };
        let succeeded = self.user.until_answered("create a shared account", register, decide).await;
        name.returned(call, succeeded);
        succeeded
    }

    /// Signs in from `client` with the password of client `of`, repeated until there is an answer. Each attempt is a
    /// call of its own. One that is not answered has no effect on the name; at most it leaves a session behind.
    async fn sign_in(&self, name: &History<AccountName>, account: &str, client: usize, of: usize) -> Option<Session> {
        let password = Self::password(account, of);
        let login = async || {
            let call = name.invoke(NameOp::SignIn(of));
            match Session::login(&self.clients[client], account, &password, "client").await {
                Ok((session, _)) => {
                    name.returned(call, true);
                    Ok(Some(session))
                }
                Err(fault) if fault.reason == Reason::BadCredentials => {
                    name.returned(call, false);
                    Ok(None)
                }
                Err(fault) => {
                    name.had_no_effect(call);
                    Err(fault)
                }
            }
        };
        self.user.until_ok("sign in to a shared account", login).await
    }

    /// Creates the account's room, and sends it messages from the host.
    async fn set_up(&self, account: &str, session: &Session, host: &Session) -> AccountRegisters {
        let create = async || session.create_room("title 0", true, Vec::new()).await;
        let room = conversation_id(&self.user.until_ok("room of a shared account", create).await.conversation_id);
        let to = Recipient::Username(account.to_owned());
        let mut memos = None;
        for number in 1..=MEMOS {
            let (id, body) = (host.cluster().request_id(), format!("memo {number}"));
            let answer = self.user.until_ok("memo", async || host.send_as(id, &to, &body).await).await;
            memos = Some(conversation_id(&answer.message.unwrap_or_default().conversation_id));
        }
        AccountRegisters {
            room,
            memos: memos.expect("MEMOS is not 0"),
            title: History::of(Register::new(0)),
            read_mark: History::of(Register::monotonic(0)),
            // Read receipts are on by default.
            read_receipts: History::of(Register::new(1)),
            blocked: History::of(Register::new(0)),
        }
    }

    /// Reads and writes random registers from one client.
    async fn operate(&self, registers: &AccountRegisters, client: usize, session: Session) {
        for operation in 0..OPERATIONS {
            let field = self.user.draw(|rng| {
                *rng.pick(&[Field::Title, Field::ReadMark, Field::ReadReceipts, Field::Blocked]).expect("not empty")
            });
            let history = registers.history(field);
            if history.len() < MAX_CALLS && history.unknown() < MAX_UNKNOWN {
                let reads = self.user.draw(|rng| rng.chance(50));
                // Drawn even for a read: an `else` would move later draws.
                let value = match field {
                    Field::Title => 1 + (operation * CLIENTS + client) as u64,
                    Field::ReadMark => self.user.draw(|rng| rng.within(1..MEMOS + 1)),
                    Field::ReadReceipts | Field::Blocked => self.user.draw(|rng| rng.within(0..2)),
                };
                let op = if reads { RegisterOp::Read } else { RegisterOp::Write(value) };
                self.call(registers, field, op, &session).await;
            }
            let pause = self.user.draw(|rng| rng.within(0..120));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Makes one call, and records it in the register's history.
    async fn call(&self, registers: &AccountRegisters, field: Field, op: RegisterOp, session: &Session) {
        let (history, host) = (registers.history(field), &self.user.name);
        let call = history.invoke(op);
        let result = match op {
            RegisterOp::Read => registers.read(field, session, host).await.map(Some),
            RegisterOp::Write(value) => registers.write(field, value, session, host).await.map(|()| None),
        };
        match result {
            Ok(ret) => history.returned(call, ret),
            Err(fault) => {
                // A read changes nothing, whether it was answered or not.
                if op == RegisterOp::Read || !outcome_is_unknown(&fault) {
                    history.had_no_effect(call);
                }
                if !fault.reason.is_transient() {
                    let (reason, why) = (fault.reason, &fault.message);
                    self.user.world.violation(format!("{op:?} of {field:?} was refused: {reason:?} {why}"));
                }
                self.user.back_off("use a register", &fault).await;
            }
        }
    }

    /// Deletes the account while another client signs in and a third one wants the name; then tries both once more.
    async fn delete_while_others_sign_in(
        &self,
        name: &History<AccountName>,
        account: &str,
        owner: usize,
        session: &Session,
    ) {
        let others: Vec<usize> = (0..CLIENTS).filter(|client| *client != owner).collect();
        let deleting = self.delete(name, account, owner, session);
        let signing_in = self.sign_in(name, account, others[0], owner);
        tokio::join!(deleting, signing_in, self.create(name, account, others[1]));
        self.sign_in(name, account, owner, owner).await;
        self.create(name, account, others[0]).await;
    }

    /// Deletes the account. All repetitions are one call of the history, because they have one effect together; as
    /// calls of their own, those without an answer would make the tester's search much longer.
    async fn delete(&self, name: &History<AccountName>, account: &str, owner: usize, session: &Session) {
        let (call, password) = (name.invoke(NameOp::Delete), Self::password(account, owner));
        let delete = async || session.delete_account(&password, true).await.map(drop);
        self.user.until_done("delete a shared account", Reason::SessionInvalid, delete).await;
        name.returned(call, true);
    }
}

impl AccountRegisters {
    fn history(&self, field: Field) -> &History<Register> {
        match field {
            Field::Title => &self.title,
            Field::ReadMark => &self.read_mark,
            Field::ReadReceipts => &self.read_receipts,
            Field::Blocked => &self.blocked,
        }
    }

    async fn read(&self, field: Field, session: &Session, host: &str) -> Result<u64, Fault> {
        Ok(match field {
            Field::Title => number_in(&conversation(session, self.room).await?.title),
            Field::ReadMark => conversation(session, self.memos).await?.read_seq,
            Field::ReadReceipts => session.settings().await?.read_receipts.into(),
            Field::Blocked => session.blocked().await?.iter().any(|account| account.username == host).into(),
        })
    }

    async fn write(&self, field: Field, value: u64, session: &Session, host: &str) -> Result<(), Fault> {
        match field {
            Field::Title => session.rename_room(self.room, &format!("title {value}")).await.map(drop),
            Field::ReadMark => session.mark_read_up_to(self.memos, value).await.map(drop),
            Field::ReadReceipts => session.set_read_receipts(value == 1).await.map(drop),
            Field::Blocked if value == 1 => session.block(host).await,
            Field::Blocked => session.unblock(host).await,
        }
    }
}

/// One conversation of the account. It has two, so one page of its inbox holds both.
async fn conversation(session: &Session, id: ConversationId) -> Result<Conversation, Fault> {
    let all = session.inbox(false, 100, "").await?.conversations;
    let found = all.into_iter().find(|conversation| conversation.conversation_id == id.to_string());
    found.ok_or_else(|| Fault::new(Reason::ConversationNotFound, format!("{id} is not in the inbox")))
}

/// The number in a title that [`AccountRegisters::write`] wrote. Any other title is a value that nobody wrote.
fn number_in(title: &str) -> u64 {
    title.strip_prefix("title ").and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}
