//! Accounts that are created and deleted. Two clients want each name at once; the one that gets it signs in twice,
//! sends a message, ends one session and deletes the account. After every step any node is asked whether the promise
//! holds.
//!
//! | promise | violated when |
//! |---|---|
//! | a name is given out once, for ever | both of two creates succeed, or neither; or a create succeeds after the account was deleted |
//! | an ended session is over on every node | it reads or writes |
//! | a deleted account is over on every node | one of its sessions reads or writes, or its password signs in |
//! | messages stay when their author goes, or go with it if it asks for that | they do not |

use std::time::Duration;

use quorate::{
    client::{Cluster, Recipient, Session},
    types::ConversationId,
    wire::{Fault, Reason},
};
use tokio::time::sleep;

use super::user::User;
use crate::client::{TIMEOUT, connect, conversation_id, messages_after};

/// The one message that each account sends.
const GREETING: &str = "I was here";

/// Creates and deletes accounts beside a user, one after another. The user, here called the host, gets the messages.
pub struct AccountChurn<'a> {
    user: &'a User,
    /// Two clients with connections of their own.
    clients: [Cluster; 2],
}

/// A name that both clients want, and the password that each of them chose.
struct Contest {
    name: String,
    passwords: [String; 2],
}

impl<'a> AccountChurn<'a> {
    pub fn beside(user: &'a User) -> Self {
        let clients = [1, 2].map(|which| connect(&user.world, &format!("{} {which}", user.name), TIMEOUT));
        Self { user, clients }
    }

    /// Runs until the workload is stopped. An account that was started is brought to its end.
    pub async fn run(&self, host: &Session) {
        let mut number = 0;
        while !self.user.world.workload_stopped.get() {
            number += 1;
            let name = format!("churn-{}-{number}", self.user.name);
            let passwords = ["first", "second"].map(|which| format!("{which} of {name}"));
            self.live_and_die(&Contest { name, passwords }, host).await;
            self.user.world.count("accounts created and deleted");
            let pause = self.user.draw(|rng| rng.within(200..2_000));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// The whole life of one account.
    async fn live_and_die(&self, contest: &Contest, host: &Session) {
        let (first, second) = tokio::join!(self.create(contest, 0), self.create(contest, 1));
        let owner = match (first, second) {
            (true, false) => 0,
            (false, true) => 1,
            (one, other) => {
                let name = &contest.name;
                return self.violation(format!("two clients created {name} at once; succeeded: {one}, {other}"));
            }
        };
        let session = self.sign_in(contest, owner).await;
        let other = self.sign_in(contest, owner).await;
        let Some(conversation) = self.greet(&session).await else { return };
        self.expect_password_refused(contest, 1 - owner).await;
        let logout = async || other.logout(None, false).await;
        self.user.until_done("log out", Reason::SessionInvalid, logout).await;
        self.expect_over(&other, "an ended session").await;
        let erase = self.user.draw(|rng| rng.chance(50));
        let delete = async || session.delete_account(&contest.passwords[owner], erase).await.map(drop);
        self.user.until_done("delete account", Reason::SessionInvalid, delete).await;
        self.expect_over(&session, "a session of a deleted account").await;
        self.expect_password_refused(contest, owner).await;
        if self.create(contest, owner).await {
            self.violation(format!("the name {} was given out again", contest.name));
        }
        self.check_what_remains(host, conversation, erase).await;
    }

    fn violation(&self, what: String) {
        self.user.world.violation(what);
    }

    /// Creates the account by one request, repeated until its outcome is known. Returns whether this request created
    /// it.
    async fn create(&self, contest: &Contest, which: usize) -> bool {
        let (cluster, id) = (&self.clients[which], self.clients[which].request_id());
        let register = async || Session::register_as(cluster, id, &contest.name, &contest.passwords[which]).await;
        let decide = |result: Result<_, Fault>| match result {
            Ok(_) => Ok(true),
            Err(fault) if fault.reason == Reason::NameTaken => Ok(false),
            Err(fault) => Err(fault),
        };
        self.user.until_answered("create account", register, decide).await
    }

    async fn login(&self, contest: &Contest, which: usize) -> Result<Session, Fault> {
        let answer = Session::login(&self.clients[which], &contest.name, &contest.passwords[which], "churn").await;
        answer.map(|(session, _)| session)
    }

    async fn sign_in(&self, contest: &Contest, which: usize) -> Session {
        self.user.until_ok("sign in", async || self.login(contest, which).await).await
    }

    async fn expect_password_refused(&self, contest: &Contest, which: usize) {
        let login = async || self.login(contest, which).await;
        if self
            .user
            .until_answered("wrong password", login, |result| is_ok_unless(Reason::BadCredentials, result))
            .await
        {
            self.violation(format!("{} signed in by a password that is not, or no longer, its own", contest.name));
        }
    }

    /// Sends the greeting to the host. Returns the conversation, or `None` after a violation.
    async fn greet(&self, session: &Session) -> Option<ConversationId> {
        let (id, to) = (session.cluster().request_id(), Recipient::Username(self.user.name.clone()));
        let send = async || session.send_as(id, &to, GREETING).await;
        let decide = |result: Result<_, Fault>| match result {
            Err(fault) if fault.reason.is_transient() => Err(fault),
            certain => Ok(certain),
        };
        match self.user.until_answered("greet", send, decide).await {
            Ok(answer) => Some(conversation_id(&answer.message.unwrap_or_default().conversation_id)),
            Err(fault) => {
                self.violation(format!("a new account may not write: {:?} {}", fault.reason, fault.message));
                None
            }
        }
    }

    /// Checks that a session neither reads nor writes any more, whichever node it asks.
    async fn expect_over(&self, session: &Session, what: &str) {
        let decide = |result| is_ok_unless(Reason::SessionInvalid, result);
        let read = async || session.inbox(false, 1, "").await.map(drop);
        if self.user.until_answered("read after the end", read, decide).await {
            return self.violation(format!("{what} can still read"));
        }
        let to = Recipient::Username(self.user.name.clone());
        let write = async || session.send(&to, "from beyond").await.map(drop);
        if self.user.until_answered("write after the end", write, decide).await {
            self.violation(format!("{what} can still write"));
        }
    }

    /// Checks what the host sees of a deleted account.
    async fn check_what_remains(&self, host: &Session, conversation: ConversationId, erased: bool) {
        let read = async || messages_after(host, conversation, 0).await;
        let all = self.user.until_ok("read the greeting", read).await;
        let [message] = &all[..] else {
            return self.violation(format!("a deleted account sent 1 message, but {} are left", all.len()));
        };
        let text = if erased { "" } else { GREETING };
        if !message.sender_deleted || message.body != text || message.deleted != erased {
            self.violation(format!("an account was deleted (messages too: {erased}), but this is left: {message:?}"));
        }
    }
}

/// Decides about a call that `refusal` must end: true if it succeeded instead. Any other fault decides nothing.
fn is_ok_unless<T>(refusal: Reason, result: Result<T, Fault>) -> Result<bool, Fault> {
    match result {
        Ok(_) => Ok(true),
        Err(fault) if fault.reason == refusal => Ok(false),
        Err(fault) => Err(fault),
    }
}
