//! A user's life from registration to the last check.

use std::{cell::Cell, time::Duration};

use quorate::{
    client::{Cluster, Recipient, Session},
    wire::Reason,
};
use tokio::time::sleep;

use super::{account_churn::AccountChurn, shared_accounts::SharedAccounts, user::User};
use crate::client::{PASSWORD, TIMEOUT, connect, conversation_id};

/// Interval at which a user looks whether the others, or the world, have come as far as it has.
const POLL: Duration = Duration::from_millis(50);

impl User {
    /// Runs until the workload is stopped and the cluster is healthy again, then checks what was left open. Only its
    /// subscription goes on, for the judge; so this never returns.
    pub async fn run(self) {
        let cluster = connect(&self.world, &self.name, TIMEOUT);
        let session = self.sign_in(&cluster).await;
        self.notes.registered.borrow_mut().insert(self.name.clone());
        while self.notes.registered.borrow().len() <= self.others.len() {
            sleep(POLL).await;
        }
        self.open_conversations(&session).await;
        self.notes.present.borrow_mut().insert(self.name.clone());
        while self.notes.present.borrow().len() <= self.others.len() {
            sleep(POLL).await;
        }
        let accounts_are_done = Cell::new(false);
        let own_work = async {
            self.work(&session).await;
            self.settle_and_write_again(&session).await;
            while !accounts_are_done.get() {
                sleep(POLL).await;
            }
            self.notes.done.borrow_mut().insert(self.name.clone());
        };
        let other_accounts = async {
            let churn = AccountChurn::beside(&self);
            let shared = async {
                // One user does this: the tester's search is dear.
                if self.number == 0 {
                    SharedAccounts::beside(&self).run(&session).await;
                }
            };
            tokio::join!(churn.run(&session), shared);
            accounts_are_done.set(true);
        };
        tokio::join!(own_work, other_accounts, self.subscribe(&session));
    }

    async fn sign_in(&self, cluster: &Cluster) -> Session {
        let register = async || Session::register(cluster, &self.name, PASSWORD).await;
        self.until_answered("register", register, |result| match result {
            Ok(_) => Ok(()),
            // An earlier attempt took effect, and its answer was lost.
            Err(fault) if fault.reason == Reason::NameTaken => Ok(()),
            Err(fault) => Err(fault),
        })
        .await;
        self.until_ok("login", async || Session::login(cluster, &self.name, PASSWORD, "simulated").await).await.0
    }

    /// Opens a conversation with every user who comes later in the alphabet, and a room with the next one. The messages
    /// that do so are not in the ledger: a conversation starts behind them.
    async fn open_conversations(&self, session: &Session) {
        for other in self.others.iter().filter(|other| **other > self.name) {
            let (id, to) = (session.cluster().request_id(), Recipient::Username(other.clone()));
            let answer = self.until_ok("open", async || session.send_as(id, &to, "hello").await).await;
            let opened = answer.message.unwrap_or_default();
            let members = vec![self.name.clone(), other.clone()];
            self.notes.open(conversation_id(&opened.conversation_id), opened.seq, false, members);
        }
        let next = self.others.iter().find(|other| **other > self.name).or(self.others.first());
        let invited: Vec<String> = next.into_iter().cloned().collect();
        let title = format!("room of {}", self.name);
        let create = async || session.create_room(&title, false, invited.clone()).await;
        let room = self.until_ok("create room", create).await;
        let members = [vec![self.name.clone()], invited].concat();
        self.notes.open(conversation_id(&room.conversation_id), room.last_seq, true, members);
    }

    /// Does one thing after another, at random, until the workload is stopped; then waits until the cluster is healthy.
    async fn work(&self, session: &Session) {
        while !self.world.workload_stopped.get() {
            match self.draw(|rng| rng.within(0..100)) {
                0..45 => self.send(session).await,
                45..57 => self.send_again(session).await,
                57..82 => self.read(session).await,
                82..86 => self.mark_read(session).await,
                86..91 => self.delete_for_all(session).await,
                91..93 => self.hide(session).await,
                _ => self.change_a_room(session).await,
            }
            let pause = self.draw(|rng| rng.within(0..150));
            sleep(Duration::from_millis(pause)).await;
        }
        while !self.world.is_healed.get() {
            sleep(POLL).await;
        }
    }
}
