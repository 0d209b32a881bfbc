//! Accounts that several clients work for at once. Everything that is small about such an account is a register of its
//! own, read and set by all of them: that it is there, the title of its room, how far it has read, what it has set for
//! itself, whom it has blocked. What they are told of each is judged together, once the account is gone again.

use std::time::Duration;

use futures::future::join_all;
use quorate::{
    client::{Cluster, Recipient, Session, outcome_is_unknown},
    types::ConversationId,
    wire::{Fault, Reason, chat::Conversation},
};
use tokio::time::sleep;

use crate::{
    registers::{Access, Deed, History, Name, Register},
    users::{TIMEOUT, User, cluster, id_of},
};

/// Clients at once.
const HANDS: usize = 3;
/// What each does with the registers of an account.
const ERRANDS: usize = 14;
/// Calls of one register that the tester is given, and how many of them may be unanswered: it tries all their orders.
const CALLS: usize = 18;
const UNKNOWN: usize = 3;
/// Messages that the account finds, to be marked as read.
const MEMOS: u64 = 6;

/// The accounts that are worked for beside one user, one after the other.
pub struct Clerks<'a> {
    user: &'a User,
    hands: Vec<Cluster>,
}

/// What is small about one account.
struct Desk {
    room: ConversationId,
    memos: ConversationId,
    title: History<Register>,
    mark: History<Register>,
    receipts: History<Register>,
    blocked: History<Register>,
}

#[derive(Debug, Clone, Copy)]
enum Drawer {
    Title,
    Mark,
    Receipts,
    Blocked,
}

impl<'a> Clerks<'a> {
    pub fn of(user: &'a User) -> Self {
        let hand = |hand| cluster(&user.world, &format!("{}'s clerk {hand}", user.name), TIMEOUT);
        Self { user, hands: (0..HANDS).map(hand).collect() }
    }

    /// One account after the other until the world is calm; whatever has been begun is brought to its end.
    pub async fn work(&self, host: &Session) {
        let mut number = 0;
        while !self.user.world.calm.get() {
            number += 1;
            self.serve(&format!("clerk-{}-{number}", self.user.name), host).await;
            self.user.world.count("accounts worked for");
        }
    }

    async fn serve(&self, account: &str, host: &Session) {
        let name = History::of(Name::Free);
        let claims = join_all((0..HANDS).map(|hand| self.claim(&name, account, hand))).await;
        if let Some(owner) = claims.iter().position(|claimed| *claimed)
            && let Some(session) = self.sign_in(&name, account, owner, owner).await
        {
            let desk = self.furnish(account, &session, host).await;
            join_all((0..HANDS).map(|hand| self.keep(&desk, hand, session.through(&self.hands[hand])))).await;
            self.judge(account, "title", desk.title.judge());
            self.judge(account, "read mark", desk.mark.judge());
            self.judge(account, "read receipts", desk.receipts.judge());
            self.judge(account, "block", desk.blocked.judge());
            self.close(&name, account, owner, &session).await;
        }
        self.judge(account, "name", name.judge());
    }

    fn judge(&self, account: &str, what: &str, judged: Result<(), String>) {
        self.user.world.count("registers judged");
        if let Err(wrong) = judged {
            self.user.world.violation(format!("{account}'s {what}: {wrong}"));
        }
    }

    fn password(account: &str, hand: usize) -> String {
        format!("password {hand} of {account}")
    }

    /// By one request, repeated until its outcome is known.
    async fn claim(&self, name: &History<Name>, account: &str, hand: usize) -> bool {
        let (client, call) = (&self.hands[hand], name.begin(Deed::Claim(hand)));
        let (id, password) = (client.request_id(), Self::password(account, hand));
        let claimed = loop {
            match Session::register_as(client, id, account, &password).await {
                Ok(_) => break true,
                Err(fault) if fault.reason == Reason::NameTaken => break false,
                Err(fault) => self.user.endure("claim", &fault).await,
            }
        };
        name.told(call, claimed);
        claimed
    }

    /// By the password of hand `of`, until there is an answer. What is not answered leaves a session behind at most.
    async fn sign_in(&self, name: &History<Name>, account: &str, hand: usize, of: usize) -> Option<Session> {
        loop {
            let call = name.begin(Deed::SignIn(of));
            match Session::login(&self.hands[hand], account, &Self::password(account, of), "desk").await {
                Ok((session, _)) => {
                    name.told(call, true);
                    return Some(session);
                }
                Err(fault) if fault.reason == Reason::BadCredentials => {
                    name.told(call, false);
                    return None;
                }
                Err(fault) => {
                    name.void(call);
                    self.user.endure("clerk signs in", &fault).await;
                }
            }
        }
    }

    /// A room, and some messages of the host's to be read.
    async fn furnish(&self, account: &str, session: &Session, host: &Session) -> Desk {
        let room = loop {
            match session.create_room("title 0", true, Vec::new()).await {
                Ok(room) => break id_of(&room.conversation_id),
                Err(fault) => self.user.endure("clerk's room", &fault).await,
            }
        };
        let to = Recipient::Username(account.to_owned());
        let mut memos = None;
        for number in 1..=MEMOS {
            let id = host.cluster().request_id();
            let sent = loop {
                match host.send_as(id, &to, &format!("memo {number}")).await {
                    Ok(answer) => break answer.message.unwrap_or_default(),
                    Err(fault) => self.user.endure("memo", &fault).await,
                }
            };
            memos = Some(id_of(&sent.conversation_id));
        }
        let [title, blocked] = [(); 2].map(|()| History::of(Register::new(0)));
        let (mark, receipts) = (History::of(Register::rising(0)), History::of(Register::new(1)));
        Desk { room, memos: memos.expect("some were sent"), title, mark, receipts, blocked }
    }

    /// What one hand does: it opens drawers at random, to look or to change.
    async fn keep(&self, desk: &Desk, hand: usize, session: Session) {
        for errand in 0..ERRANDS {
            let drawer = self.user.draw(|rng| {
                *rng.pick(&[Drawer::Title, Drawer::Mark, Drawer::Receipts, Drawer::Blocked]).expect("not empty")
            });
            let history = desk.history(drawer);
            if history.len() < CALLS && history.unknown() < UNKNOWN {
                let look = self.user.draw(|rng| rng.chance(50));
                let new = match drawer {
                    Drawer::Title => 1 + (errand * HANDS + hand) as u64,
                    Drawer::Mark => self.user.draw(|rng| rng.within(1..MEMOS + 1)),
                    Drawer::Receipts | Drawer::Blocked => self.user.draw(|rng| rng.within(0..2)),
                };
                self.access(desk, drawer, if look { Access::Get } else { Access::Set(new) }, &session).await;
            }
            let pause = self.user.draw(|rng| rng.within(0..120));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn access(&self, desk: &Desk, drawer: Drawer, access: Access, session: &Session) {
        let (history, host) = (desk.history(drawer), &self.user.name);
        let call = history.begin(access);
        let told = match access {
            Access::Get => desk.look(drawer, session, host).await.map(Some),
            Access::Set(value) => desk.change(drawer, value, session, host).await.map(|()| None),
        };
        match told {
            Ok(ret) => history.told(call, ret),
            Err(fault) => {
                // A look changes nothing.
                if access == Access::Get || !outcome_is_unknown(&fault) {
                    history.void(call);
                }
                if !fault.reason.is_transient() {
                    let (reason, why) = (fault.reason, &fault.message);
                    self.user.world.violation(format!("{access:?} of {drawer:?} was refused: {reason:?} {why}"));
                }
                self.user.endure("clerk", &fault).await;
            }
        }
    }

    /// The account is deleted, while others want to sign in to it or have its name; then once more.
    async fn close(&self, name: &History<Name>, account: &str, owner: usize, session: &Session) {
        let others: Vec<usize> = (0..HANDS).filter(|hand| *hand != owner).collect();
        let deleting = self.delete(name, account, owner, session);
        let signing_in = self.sign_in(name, account, others[0], owner);
        tokio::join!(deleting, signing_in, self.claim(name, account, others[1]));
        self.sign_in(name, account, owner, owner).await;
        self.claim(name, account, others[0]).await;
    }

    /// However often it is repeated it is one call, for it has one effect: each that is never answered makes the tester
    /// try all orders again.
    async fn delete(&self, name: &History<Name>, account: &str, owner: usize, session: &Session) {
        let (call, password) = (name.begin(Deed::Delete), Self::password(account, owner));
        let deleting = || async { session.delete_account(&password, true).await.map(drop) };
        self.user.until_done("clerk goes", Reason::SessionInvalid, deleting).await;
        name.told(call, true);
    }
}

impl Desk {
    fn history(&self, drawer: Drawer) -> &History<Register> {
        match drawer {
            Drawer::Title => &self.title,
            Drawer::Mark => &self.mark,
            Drawer::Receipts => &self.receipts,
            Drawer::Blocked => &self.blocked,
        }
    }

    async fn look(&self, drawer: Drawer, session: &Session, host: &str) -> Result<u64, Fault> {
        Ok(match drawer {
            Drawer::Title => number_of(&conversation(session, self.room).await?.title),
            Drawer::Mark => conversation(session, self.memos).await?.read_seq,
            Drawer::Receipts => session.settings().await?.read_receipts.into(),
            Drawer::Blocked => session.blocked().await?.iter().any(|account| account.username == host).into(),
        })
    }

    async fn change(&self, drawer: Drawer, value: u64, session: &Session, host: &str) -> Result<(), Fault> {
        match drawer {
            Drawer::Title => session.rename_room(self.room, &format!("title {value}")).await.map(drop),
            Drawer::Mark => session.mark_read_up_to(self.memos, value).await.map(drop),
            Drawer::Receipts => session.set_read_receipts(value == 1).await.map(drop),
            Drawer::Blocked if value == 1 => session.block(host).await,
            Drawer::Blocked => session.unblock(host).await,
        }
    }
}

/// One conversation of the account, which has two.
async fn conversation(session: &Session, id: ConversationId) -> Result<Conversation, Fault> {
    let all = session.inbox(false, 100, "").await?.conversations;
    let found = all.into_iter().find(|conversation| conversation.conversation_id == id.to_string());
    found.ok_or_else(|| Fault::new(Reason::ConversationNotFound, format!("{id} is not in the inbox")))
}

fn number_of(title: &str) -> u64 {
    title.strip_prefix("title ").and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
}
