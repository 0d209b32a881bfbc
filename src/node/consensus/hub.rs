//! Doorbells: they tell subscriptions that something changed.
//!
//! A doorbell is level-triggered and carries no data: a ring says "look", and the listener reads the state from its
//! cursor. Live delivery and replay are therefore the same code. A slow listener can lag, but it loses nothing and the
//! node keeps nothing for it: what it missed is a bounded set of conversations, or the note "look at all of them".

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::*},
    },
};

use tokio::sync::Notify;

use crate::{
    machine::Effect,
    raft::Changed,
    types::{AccountId, ConversationId, limits},
    wire::{Fault, Reason},
};

/// All doorbells of a node. Cheap to clone; all clones are the same hub.
///
/// # Invariants
///
/// - Every entry of `by_account` and `by_conversation` names a doorbell in `bells`, and no set in them is empty: dropping
///   a [`Doorbell`] removes it from all three.
/// - `published_through` only grows. It is stored after the rings of the same change and under the same lock. A listener
///   that takes a ring takes it under that lock, too, so all changes up to the index it reads have rung.
/// - Lock order: `listeners` before the `missed` of a bell. Neither is held across an `await`.
/// - Once `closed`, no doorbell is made and every wait ends.
///
/// Nothing survives a restart, and nothing needs to: a client subscribes again with its cursor.
#[derive(Clone, Default)]
pub struct Hub {
    listeners: Arc<Mutex<Listeners>>,
    published_through: Arc<AtomicU64>,
}

#[derive(Default)]
struct Listeners {
    /// The id given last.
    last_id: u64,
    bells: BTreeMap<u64, Arc<Bell>>,
    by_account: HashMap<AccountId, BTreeSet<u64>>,
    by_conversation: HashMap<ConversationId, BTreeSet<u64>>,
    closed: bool,
}

/// The half of a doorbell that the hub rings.
#[derive(Default)]
struct Bell {
    rung: Notify,
    missed: Mutex<Missed>,
}

/// What a listener has not looked at yet: at most [`limits::DIRTY_CONVERSATIONS`] conversations, then `all`.
#[derive(Default)]
struct Missed {
    conversations: BTreeSet<ConversationId>,
    all: bool,
    account: bool,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Code that holds these locks does not panic in the middle of a change, so a poisoned value is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Returns a doorbell for the account itself and for these conversations.
    pub fn doorbell(&self, account: AccountId, conversations: Vec<ConversationId>) -> Result<Doorbell, Fault> {
        let mut listeners = lock(&self.listeners);
        if listeners.closed {
            return Err(Fault::new(Reason::ShuttingDown, "this node is stopping").next("subscribe on another node"));
        }
        if listeners.bells.len() >= limits::SUBSCRIPTIONS {
            let message = format!("this node serves {} subscriptions already", limits::SUBSCRIPTIONS);
            return Err(Fault::new(Reason::Overloaded, message).next("subscribe on another node"));
        }
        listeners.last_id += 1;
        let id = listeners.last_id;
        let bell = Arc::new(Bell::default());
        listeners.bells.insert(id, bell.clone());
        listeners.by_account.entry(account).or_default().insert(id);
        drop(listeners);
        let mut doorbell = Doorbell { hub: self.clone(), id, bell, account, conversations: BTreeSet::new() };
        doorbell.listen_to(&conversations);
        Ok(doorbell)
    }

    /// Rings every doorbell that the change concerns. Does not block.
    pub fn publish(&self, changed: &Changed) {
        let listeners = lock(&self.listeners);
        match &changed.parts {
            None => {
                for bell in listeners.bells.values() {
                    bell.ring(|missed| (missed.all, missed.account) = (true, true));
                }
            }
            Some(effects) => effects.iter().for_each(|effect| listeners.ring(effect)),
        }
        // After the rings, so that a listener that reads this index has all of them.
        self.published_through.store(changed.through, Release);
    }

    /// Ends every doorbell: the node stops.
    pub fn close(&self) {
        let mut listeners = lock(&self.listeners);
        listeners.closed = true;
        for bell in listeners.bells.values() {
            bell.ring(|missed| missed.closed = true);
        }
    }
}

impl Listeners {
    fn ring(&self, effect: &Effect) {
        let ids = match effect {
            Effect::Account(account) => self.by_account.get(account),
            Effect::Conversation(conversation) => self.by_conversation.get(conversation),
        };
        for bell in ids.into_iter().flatten().filter_map(|id| self.bells.get(id)) {
            match effect {
                Effect::Account(_) => bell.ring(|missed| missed.account = true),
                Effect::Conversation(conversation) => bell.ring(|missed| missed.add(*conversation)),
            }
        }
    }
}

impl Bell {
    fn ring(&self, note: impl FnOnce(&mut Missed)) {
        note(&mut lock(&self.missed));
        self.rung.notify_one();
    }
}

impl Missed {
    fn add(&mut self, conversation: ConversationId) {
        if self.conversations.len() >= limits::DIRTY_CONVERSATIONS {
            self.conversations.clear();
            self.all = true;
        }
        if !self.all {
            self.conversations.insert(conversation);
        }
    }

    fn is_empty(&self) -> bool {
        !self.all && !self.account && !self.closed && self.conversations.is_empty()
    }
}

/// Says "look" to one subscription. Dropping it ends the subscription.
pub struct Doorbell {
    hub: Hub,
    id: u64,
    bell: Arc<Bell>,
    account: AccountId,
    conversations: BTreeSet<ConversationId>,
}

/// The state of a bell when it is looked at.
enum Taken {
    Nothing,
    Rung(Ring),
    Closed,
}

/// What a ring is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Conversations with something new; `None` if there are too many to name: look at all of them.
    pub conversations: Option<Vec<ConversationId>>,
    /// This ring and those before it cover every change up to this log index. A view may be newer already; a later ring
    /// covers the rest of it.
    pub through: u64,
    /// The account itself changed: it joined or left a conversation, moved a read mark, ended a session, was deleted.
    pub account: bool,
}

impl Doorbell {
    /// Waits until something has changed since the last call. Returns `None` when the node stops.
    ///
    /// Cancel-safe: a ring that was not returned stays rung.
    pub async fn wait(&mut self) -> Option<Ring> {
        loop {
            let rung = self.bell.rung.notified();
            match self.take() {
                Taken::Nothing => rung.await,
                Taken::Rung(ring) => return Some(ring),
                Taken::Closed => return None,
            }
        }
    }

    /// Takes what was rung.
    ///
    /// It holds the hub's lock, so that it cannot run in the middle of a `publish`. Otherwise it could take the ring of a
    /// change whose index is not stored yet; the listener would not look that far, and the next ring would not name the
    /// change again.
    fn take(&self) -> Taken {
        let publishing = lock(&self.hub.listeners);
        let mut missed = lock(&self.bell.missed);
        if missed.closed {
            return Taken::Closed;
        }
        if missed.is_empty() {
            return Taken::Nothing;
        }
        let missed = std::mem::take(&mut *missed);
        let through = self.hub.published_through.load(Acquire);
        drop(publishing);
        let conversations = (!missed.all).then(|| missed.conversations.into_iter().collect());
        Taken::Rung(Ring { conversations, through, account: missed.account })
    }

    /// Listens to exactly these conversations from now on, and still to the account itself.
    pub fn listen_to(&mut self, conversations: &[ConversationId]) {
        let new: BTreeSet<_> = conversations.iter().copied().collect();
        let mut listeners = lock(&self.hub.listeners);
        for gone in self.conversations.difference(&new) {
            listeners.forget_conversation(*gone, self.id);
        }
        for added in new.difference(&self.conversations) {
            listeners.by_conversation.entry(*added).or_default().insert(self.id);
        }
        drop(listeners);
        self.conversations = new;
    }
}

impl Listeners {
    fn forget_conversation(&mut self, conversation: ConversationId, id: u64) {
        if let Some(ids) = self.by_conversation.get_mut(&conversation) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_conversation.remove(&conversation);
            }
        }
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        let mut listeners = lock(&self.hub.listeners);
        listeners.bells.remove(&self.id);
        for conversation in std::mem::take(&mut self.conversations) {
            listeners.forget_conversation(conversation, self.id);
        }
        if let Some(ids) = listeners.by_account.get_mut(&self.account) {
            ids.remove(&self.id);
            if ids.is_empty() {
                listeners.by_account.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const ALICE: AccountId = AccountId(1);
    const ROOM: ConversationId = ConversationId(7);

    fn changed(effects: Vec<Effect>) -> Changed {
        Changed { through: 5, parts: Some(effects) }
    }

    fn ring_of(conversations: &[ConversationId]) -> Option<Ring> {
        Some(Ring { conversations: Some(conversations.to_vec()), through: 5, account: false })
    }

    #[tokio::test]
    async fn a_ring_before_the_wait_is_not_lost_and_rings_merge() {
        let hub = Hub::default();
        let mut bell = hub.doorbell(ALICE, vec![ROOM]).unwrap();
        assert!(bell.wait().now_or_never().is_none(), "nothing has changed yet");
        hub.publish(&changed(vec![Effect::Conversation(ROOM), Effect::Conversation(ROOM)]));
        assert_eq!(bell.wait().await, ring_of(&[ROOM]));
        assert!(bell.wait().now_or_never().is_none(), "one ring for both changes");
    }

    /// The race is between two threads. A listener that looks at what rang, up to the index of the ring, misses nothing.
    #[tokio::test]
    async fn no_change_slips_through_between_a_ring_and_the_index_that_it_vouches_for() {
        const CHANGES: u64 = 100_000;
        let hub = Hub::default();
        let mut bell = hub.doorbell(ALICE, vec![ConversationId(0), ConversationId(1)]).unwrap();
        let publishing = hub.clone();
        // Change N is one of conversation N modulo 2.
        let publisher = std::thread::spawn(move || {
            for through in 1..=CHANGES {
                let parts = Some(vec![Effect::Conversation(ConversationId(through % 2))]);
                publishing.publish(&Changed { through, parts });
            }
        });
        let (mut cursor, mut seen) = (0, 0);
        while cursor < CHANGES {
            let ring = tokio::time::timeout(Duration::from_secs(30), bell.wait()).await.expect("a ring").unwrap();
            let rang = ring.conversations.unwrap();
            seen += (cursor + 1..=ring.through).filter(|change| rang.contains(&ConversationId(change % 2))).count();
            cursor = ring.through;
        }
        publisher.join().unwrap();
        assert_eq!(seen as u64, CHANGES);
    }

    #[tokio::test]
    async fn others_are_not_rung_and_leave_nothing_behind() {
        let hub = Hub::default();
        let mut bell = hub.doorbell(ALICE, vec![ROOM]).unwrap();
        hub.publish(&changed(vec![Effect::Account(AccountId(2)), Effect::Conversation(ConversationId(8))]));
        assert!(bell.wait().now_or_never().is_none());
        bell.listen_to(&[ConversationId(8)]);
        hub.publish(&changed(vec![Effect::Conversation(ROOM), Effect::Conversation(ConversationId(8))]));
        assert_eq!(bell.wait().await, ring_of(&[ConversationId(8)]));
        drop(bell);
        let listeners = lock(&hub.listeners);
        assert!(listeners.bells.is_empty() && listeners.by_account.is_empty() && listeners.by_conversation.is_empty());
    }

    #[tokio::test]
    async fn a_sleeper_that_missed_too_much_is_told_to_look_at_all() {
        let hub = Hub::default();
        let many: Vec<_> = (1..=limits::DIRTY_CONVERSATIONS as u64 + 1).map(ConversationId).collect();
        let mut bell = hub.doorbell(ALICE, many.clone()).unwrap();
        hub.publish(&changed(many.into_iter().map(Effect::Conversation).collect()));
        assert_eq!(bell.wait().await, Some(Ring { conversations: None, through: 5, account: false }));
    }

    #[tokio::test]
    async fn closing_ends_waits_and_refuses_new_listeners() {
        let hub = Hub::default();
        let mut bell = hub.doorbell(ALICE, vec![]).unwrap();
        hub.close();
        assert_eq!(bell.wait().await, None);
        assert_eq!(hub.doorbell(ALICE, vec![]).err().map(|fault| fault.reason), Some(Reason::ShuttingDown));
    }
}
