//! Accounts that come and go. Of each name two are made at once; whoever gets it signs in twice, says something, ends
//! one session and deletes the account. What every step promises is asked afterwards of any node.
//!
//! | promise | broken when |
//! |---|---|
//! | a name is issued once, for ever | both of two creates succeed, or neither; or one does after the account is deleted |
//! | an ended session is over on every node | it reads or writes |
//! | a deleted account is over | any session of it reads or writes, or its password signs in |
//! | messages stay when their author goes, or go with it if it asks for that | they do not |

use std::time::Duration;

use quorate::{
    client::{Cluster, Recipient, Session},
    types::ConversationId,
    wire::Reason,
};
use tokio::time::sleep;

use crate::{
    notes::messages,
    users::{TIMEOUT, User, cluster, id_of},
};

/// The accounts that come and go beside one user, one after the other.
pub struct Guests<'a> {
    user: &'a User,
    /// Two clients of the cluster, with connections of their own.
    clients: [Cluster; 2],
}

/// The name that two want, and what each chose as its password.
struct Contest {
    name: String,
    passwords: [String; 2],
}

impl<'a> Guests<'a> {
    pub fn of(user: &'a User) -> Self {
        // Each with randomness of its own: request ids follow from it.
        let clients = [1, 2].map(|which| cluster(&user.world, &format!("{} {which}", user.name), TIMEOUT));
        Self { user, clients }
    }

    /// One guest after the other until the world is calm; whatever has been begun is brought to its end.
    pub async fn come_and_go(&self, host: &Session) {
        let mut number = 0;
        while !self.user.world.calm.get() {
            number += 1;
            let name = format!("guest-{}-{number}", self.user.name);
            let passwords = ["first", "second"].map(|which| format!("{which} of {name}"));
            self.live(&Contest { name, passwords }, host).await;
            self.user.world.count("accounts come and gone");
            let pause = self.user.draw(|rng| rng.within(200..2_000));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn live(&self, contest: &Contest, host: &Session) {
        let (first, second) = tokio::join!(self.claim(contest, 0), self.claim(contest, 1));
        let winner = match (first, second) {
            (true, false) => 0,
            (false, true) => 1,
            (one, other) => {
                return self.wrong(format!("of two creates of {} these succeeded: {one}, {other}", contest.name));
            }
        };
        let session = self.sign_in(contest, winner).await;
        let other = self.sign_in(contest, winner).await;
        let Some(conversation) = self.greet(&session).await else { return };
        self.refused_password(contest, 1 - winner).await;
        self.user.until_done("log out", Reason::SessionInvalid, || other.logout(None, false)).await;
        self.is_over(&other, "an ended session").await;
        let erase = self.user.draw(|rng| rng.chance(50));
        let deleting = || async { session.delete_account(&contest.passwords[winner], erase).await.map(drop) };
        self.user.until_done("delete account", Reason::SessionInvalid, deleting).await;
        self.is_over(&session, "a deleted account").await;
        self.refused_password(contest, winner).await;
        if self.claim(contest, winner).await {
            self.wrong(format!("the name {} was issued again", contest.name));
        }
        self.remains(host, conversation, erase).await;
    }

    fn wrong(&self, what: String) {
        self.user.world.violation(what);
    }

    /// Makes the account, by one request repeated until its outcome is known; says whether it was made by it.
    async fn claim(&self, contest: &Contest, which: usize) -> bool {
        let (cluster, id) = (&self.clients[which], self.clients[which].request_id());
        loop {
            match Session::register_as(cluster, id, &contest.name, &contest.passwords[which]).await {
                Ok(_) => return true,
                Err(fault) if fault.reason == Reason::NameTaken => return false,
                Err(fault) => self.user.endure("create account", &fault).await,
            }
        }
    }

    async fn sign_in(&self, contest: &Contest, which: usize) -> Session {
        loop {
            match Session::login(&self.clients[which], &contest.name, &contest.passwords[which], "guest").await {
                Ok((session, _)) => return session,
                Err(fault) => self.user.endure("sign in", &fault).await,
            }
        }
    }

    /// A password that must not do.
    async fn refused_password(&self, contest: &Contest, which: usize) {
        loop {
            match Session::login(&self.clients[which], &contest.name, &contest.passwords[which], "guest").await {
                Ok(_) => {
                    return self.wrong(format!("{} signs in by a password that is not or no more its", contest.name));
                }
                Err(fault) if fault.reason == Reason::BadCredentials => return,
                Err(fault) => self.user.endure("wrong password", &fault).await,
            }
        }
    }

    /// Says one thing to the host; answers with where, unless the world was calm before it succeeded.
    async fn greet(&self, session: &Session) -> Option<ConversationId> {
        let (id, to) = (session.cluster().request_id(), Recipient::Username(self.user.name.clone()));
        loop {
            match session.send_as(id, &to, "I was here").await {
                Ok(answer) => return Some(id_of(&answer.message.unwrap_or_default().conversation_id)),
                Err(fault) if fault.reason.is_transient() => self.user.endure("greet", &fault).await,
                Err(fault) => {
                    self.wrong(format!("a guest may not write: {:?} {}", fault.reason, fault.message));
                    return None;
                }
            }
        }
    }

    /// Neither reads nor writes any more, wherever it comes.
    async fn is_over(&self, session: &Session, what: &str) {
        loop {
            match session.inbox(false, 1, "").await {
                Ok(_) => return self.wrong(format!("{what} reads")),
                Err(fault) if fault.reason == Reason::SessionInvalid => break,
                Err(fault) => self.user.endure("read after the end", &fault).await,
            }
        }
        let to = Recipient::Username(self.user.name.clone());
        loop {
            match session.send(&to, "from beyond").await {
                Ok(_) => return self.wrong(format!("{what} writes")),
                Err(fault) if fault.reason == Reason::SessionInvalid => return,
                Err(fault) => self.user.endure("write after the end", &fault).await,
            }
        }
    }

    /// What the host sees of one who is gone.
    async fn remains(&self, host: &Session, conversation: ConversationId, erased: bool) {
        let all = loop {
            match messages(host, conversation, 0).await {
                Ok(messages) => break messages,
                Err(fault) => self.user.endure("look after a guest", &fault).await,
            }
        };
        let [message] = &all[..] else {
            return self.wrong(format!("of a guest who said one thing {} remain", all.len()));
        };
        let text = if erased { "" } else { "I was here" };
        if !message.sender_deleted || message.body != text || message.deleted != erased {
            self.wrong(format!("a guest is gone (erased: {erased}), and this is left: {message:?}"));
        }
    }
}
