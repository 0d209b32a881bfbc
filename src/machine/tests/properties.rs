//! Properties of any sequence of commands, against naive models.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fixture::{Fixture, command, create_account, create_room, create_session, send};
use crate::{
    machine::{
        Decided,
        core::{keys, member::Member, records},
        query,
    },
    storage::kv::{MemoryKv, Read, Write},
    types::{ConversationId, Cursor},
    wire::{
        chat::{self, subscribe_response::Event},
        store::{self, command::Verb, outcome::Result as Done},
    },
};

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A command to be: the actor, the verb, and whether to repeat an earlier command instead.
#[derive(Debug, Clone)]
struct Step {
    actor: usize,
    verb: Verb,
    repeats: Option<prop::sample::Index>,
}

fn verbs() -> impl Strategy<Value = Verb> {
    let person = || prop::sample::select(PEOPLE.to_vec());
    let id = || prop_oneof![4 => 1..3u64, 1 => 3..5u64];
    let refs = || {
        prop::collection::vec((id(), 1..10u64), 1..4).prop_map(|refs| {
            refs.into_iter()
                .map(|(conversation_id, seq)| store::MessageRef { conversation_id, seq })
                .collect::<Vec<_>>()
        })
    };
    let one = || (id(), 1..10u64).prop_map(|(conversation_id, seq)| vec![store::MessageRef { conversation_id, seq }]);
    prop_oneof![
        6 => person().prop_map(|to| send(to, "direct")),
        8 => id().prop_map(|id| send(&ConversationId(id).to_string(), "to all")),
        2 => (any::<bool>(), person(), person()).prop_map(|(private, a, b)| create_room("room", private, &[a, b])),
        1 => id().prop_map(|conversation_id| Verb::JoinRoom(store::JoinRoom { conversation_id })),
        1 => id().prop_map(|conversation_id| Verb::LeaveRoom(store::LeaveRoom { conversation_id })),
        1 => (id(), person(), person(), prop::option::of(prop::sample::select(vec!["den", "lair"]))).prop_map(
            |(conversation_id, add, remove, title)| Verb::UpdateRoom(store::UpdateRoom {
                conversation_id,
                title: title.map(str::to_owned),
                add_members: vec![add.to_owned()],
                remove_members: vec![remove.to_owned()],
            })
        ),
        4 => (id(), 0..10u64).prop_map(|(conversation_id, up_to_seq)| Verb::MarkRead(store::MarkRead {
            conversation_id,
            up_to_seq,
            messages: Vec::new(),
        })),
        6 => prop_oneof![one(), refs()].prop_map(|messages| Verb::MarkRead(store::MarkRead { messages, ..Default::default() })),
        6 => (prop_oneof![one(), refs()], any::<bool>()).prop_map(|(messages, for_everyone)| {
            Verb::DeleteMessages(store::DeleteMessages { messages, for_everyone })
        }),
        1 => person().prop_map(create_account),
        1 => person().prop_map(|name| create_session(name, name)),
        1 => any::<bool>().prop_map(|erase_messages| {
            Verb::DeleteAccount(store::DeleteAccount { password_version: 1, erase_messages })
        }),
    ]
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let repeats = prop::option::weighted(0.1, any::<prop::sample::Index>());
    let step = (0..PEOPLE.len(), verbs(), repeats).prop_map(|(actor, verb, repeats)| Step { actor, verb, repeats });
    prop::collection::vec(step, 1..count)
}

/// All accounts in the room c2, two of them in the direct conversation c1.
fn populated() -> Fixture {
    let mut fixture = Fixture::with(&PEOPLE);
    fixture.run("alice", send("bob", "hello"));
    fixture.run("carol", create_room("square", false, &PEOPLE));
    fixture
}

/// The commands of these steps. Each has its own request id, unless it repeats an earlier command.
fn commands(fixture: &mut Fixture, steps: &[Step]) -> Vec<store::Command> {
    let mut commands: Vec<store::Command> = Vec::new();
    for step in steps {
        let again = step.repeats.filter(|_| !commands.is_empty()).map(|index| index.get(&commands).clone());
        let id = fixture.mint(fixture.time_ms);
        commands.push(again.unwrap_or_else(|| command(id, PEOPLE[step.actor], step.verb.clone())));
    }
    commands
}

fn refused(decided: &Decided) -> bool {
    matches!(decided.outcome.result, Some(Done::Refusal(_)))
}

/// The naive model of unread messages: a set of (account, conversation, seq).
#[derive(Default)]
struct Unread {
    unread: BTreeSet<(usize, u64, u64)>,
    authors: BTreeMap<(u64, u64), usize>,
}

impl Unread {
    fn apply(&mut self, fixture: &Fixture, command: &store::Command, decided: &Decided) {
        let actor = (0..PEOPLE.len())
            .find(|at| command.session_key[..] == crate::types::SessionKey::of_token(PEOPLE[*at]).0[..]);
        if let (Some(actor), false) = (actor, decided.deduplicated || refused(decided)) {
            self.perform(fixture, actor, command, decided);
        }
        let present: Vec<Vec<ConversationId>> = PEOPLE.iter().map(|name| conversations_of(fixture, name)).collect();
        self.unread.retain(|(person, id, _)| present[*person].contains(&ConversationId(*id)));
    }

    fn perform(&mut self, fixture: &Fixture, actor: usize, command: &store::Command, decided: &Decided) {
        match (command.verb.as_ref(), decided.outcome.result.as_ref()) {
            (_, Some(Done::MessageSent(sent))) => {
                let id = ConversationId(sent.conversation_id);
                self.authors.insert((id.0, sent.seq), actor);
                for (person, name) in PEOPLE.iter().enumerate() {
                    if person != actor && conversations_of(fixture, name).contains(&id) {
                        self.unread.insert((person, id.0, sent.seq));
                    }
                }
            }
            (Some(Verb::MarkRead(verb)), _) => {
                let up_to = if verb.up_to_seq == 0 { u64::MAX } else { verb.up_to_seq };
                self.unread.retain(|(person, id, seq)| {
                    let passed = *id == verb.conversation_id && *seq <= up_to;
                    *person != actor || !(passed || names(&verb.messages, *id, *seq))
                });
            }
            (Some(Verb::DeleteMessages(verb)), _) => self.unread.retain(|(person, id, seq)| {
                !(names(&verb.messages, *id, *seq) && (verb.for_everyone || *person == actor))
            }),
            (Some(Verb::DeleteAccount(verb)), _) if verb.erase_messages => {
                let authors = &self.authors;
                self.unread.retain(|(_, id, seq)| authors[&(*id, *seq)] != actor);
            }
            _ => {}
        }
    }
}

fn names(refs: &[store::MessageRef], id: u64, seq: u64) -> bool {
    refs.iter().any(|found| found.conversation_id == id && found.seq == seq)
}

fn conversations_of(fixture: &Fixture, name: &str) -> Vec<ConversationId> {
    query::conversation_ids(&fixture.kv, fixture.account(name)).unwrap()
}

fn unread_listed(fixture: &Fixture, name: &str) -> BTreeSet<(u64, u64)> {
    let mut found = BTreeSet::new();
    let mut request = chat::ListMessagesRequest { unread_only: true, page_size: 3, ..Default::default() };
    loop {
        let page = query::list_messages(&fixture.kv, fixture.account(name), &request).unwrap();
        for message in page.messages {
            let id: ConversationId = message.conversation_id.parse().unwrap();
            assert!(found.insert((id.0, message.seq)), "a message is listed twice");
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return found;
        }
    }
}

/// Where an event is: cursor, conversation and seq. These do not depend on when a query looks.
fn place(event: &chat::SubscribeResponse) -> Option<(u64, String, u64)> {
    let (id, seq) = match event.event.as_ref()? {
        Event::Message(message) => (message.conversation_id.clone(), message.seq),
        Event::Conversation(conversation) => (conversation.conversation_id.clone(), conversation.last_seq),
        Event::Deleted(deleted) => (deleted.messages.first()?.conversation_id.clone(), deleted.seq),
        _ => return None,
    };
    Some((event.cursor, id, seq))
}

fn everything_after(fixture: &Fixture, name: &str, after: Cursor, limit: usize) -> Vec<chat::SubscribeResponse> {
    let (mut all, mut cursor) = (Vec::new(), after);
    loop {
        let (events, next) = query::events_after(&fixture.kv, fixture.account(name), cursor, None, limit).unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
        cursor = next;
    }
}

fn without(state: &MemoryKv, tables: &[u8]) -> MemoryKv {
    let mut rest = state.clone();
    for table in tables {
        records::clear(&mut rest as &mut dyn Write, &keys::all(*table), usize::MAX).unwrap();
    }
    rest.delete(&keys::META_KEY).unwrap();
    rest
}

fn without_cursors(mut decided: Vec<Decided>) -> Vec<Decided> {
    for decided in &mut decided {
        if let Some(Done::MessageSent(sent)) = &mut decided.outcome.result {
            sent.cursor = 0;
        }
    }
    decided
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// P8: replicas agree. P4: outcomes do not depend on batching.
    #[test]
    fn replicas_are_identical_and_batching_changes_no_outcome(steps in steps(60), sizes in prop::collection::vec(1..9usize, 60)) {
        let mut fixture = populated();
        let commands = commands(&mut fixture, &steps);
        let (mut one, mut other, mut single) = (fixture.clone(), fixture.clone(), fixture);
        let (mut batched, mut rest) = (Vec::new(), commands.as_slice());
        for size in sizes {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            let applied = one.apply(batch.to_vec());
            prop_assert_eq!(&applied, &other.apply(batch.to_vec()));
            batched.extend(applied.outcomes);
        }
        prop_assert_eq!(one.kv, other.kv);
        let singly = commands.into_iter().flat_map(|command| single.apply(vec![command]).outcomes).collect();
        prop_assert_eq!(without_cursors(batched), without_cursors(singly));
    }

    /// P4: a second delivery of the whole log's commands does nothing at all.
    #[test]
    fn repeating_everything_changes_nothing(steps in steps(40)) {
        let mut fixture = populated();
        let commands = commands(&mut fixture, &steps);
        let outcomes: Vec<Decided> = commands.iter().flat_map(|command| fixture.apply(vec![command.clone()]).outcomes).collect();
        let before = fixture.kv.clone();
        for (command, first) in commands.into_iter().zip(outcomes) {
            let again = fixture.apply(vec![command]);
            let remembered = again.outcomes[0].deduplicated;
            prop_assert!(remembered || refused(&again.outcomes[0]));
            if remembered {
                prop_assert_eq!(&again.outcomes[0].outcome, &first.outcome);
            }
            prop_assert_eq!(again.effects, vec![]);
        }
        prop_assert_eq!(fixture.kv, before);
    }

    #[test]
    fn a_refusal_leaves_no_trace_but_its_outcome(steps in steps(40)) {
        let mut fixture = populated();
        for command in commands(&mut fixture, &steps) {
            let before = fixture.kv.clone();
            let applied = fixture.apply(vec![command]);
            if refused(&applied.outcomes[0]) {
                prop_assert_eq!(without(&before, &[keys::REQUEST]), without(&fixture.kv, &[keys::REQUEST]));
                prop_assert_eq!(applied.effects, vec![]);
            }
        }
    }

    #[test]
    fn unread_counts_agree_with_sets_of_messages(steps in steps(100)) {
        let mut fixture = populated();
        let mut model = Unread::default();
        model.authors.insert((1, 1), 0);
        model.unread.insert((1, 1, 1));
        for command in commands(&mut fixture, &steps) {
            let applied = fixture.apply(vec![command.clone()]);
            model.apply(&fixture, &command, &applied.outcomes[0]);
            for (person, name) in PEOPLE.iter().enumerate() {
                let expected: BTreeSet<(u64, u64)> =
                    model.unread.iter().filter(|(who, ..)| *who == person).map(|(_, id, seq)| (*id, *seq)).collect();
                let count = query::unread_total(&fixture.kv, fixture.account(name)).unwrap();
                prop_assert_eq!(count, expected.len() as u64, "unread by {} after {:?}", name, command.verb);
                prop_assert_eq!(unread_listed(&fixture, name), expected);
                for id in conversations_of(&fixture, name) {
                    let member = Member::find(&fixture.kv, fixture.account(name), id).unwrap().unwrap().record;
                    let beyond = keys::seqs(keys::READ, fixture.account(name), id, member.read_seq + 1, u64::MAX);
                    prop_assert_eq!(records::count_in(&fixture.kv, &beyond, u64::MAX).unwrap(), member.read_ahead);
                }
            }
        }
    }

    /// P5: exactly the events of the timelines, live and resumed.
    #[test]
    fn a_subscription_resumes_anywhere_without_gap_or_duplicate(steps in steps(60), limit in 1..5usize) {
        let mut fixture = populated();
        let mut live: Vec<(Cursor, Vec<_>)> = vec![(Cursor::default(), Vec::new()); PEOPLE.len()];
        for command in commands(&mut fixture, &steps) {
            fixture.apply(vec![command]);
            for (name, (cursor, seen)) in PEOPLE.iter().zip(&mut live) {
                let events = everything_after(&fixture, name, *cursor, limit);
                seen.extend(events.iter().filter_map(place));
                *cursor = Cursor(events.last().map_or(cursor.0, |event| event.cursor));
            }
        }
        for (name, (_, seen)) in PEOPLE.iter().zip(live) {
            let all = everything_after(&fixture, name, Cursor::default(), 1_000);
            prop_assert!(all.is_sorted_by(|one, next| one.cursor < next.cursor));
            for (at, event) in all.iter().enumerate() {
                let resumed = everything_after(&fixture, name, Cursor(event.cursor), limit);
                prop_assert_eq!(&resumed[..], &all[at + 1..]);
            }
            if query::account_by_name(&fixture.kv, name).unwrap().is_some_and(|account| account.deleted) {
                continue;
            }
            prop_assert_eq!(all.iter().filter_map(place).collect::<Vec<_>>(), seen, "live events of {}", name);
            for id in conversations_of(&fixture, name) {
                let member = Member::find(&fixture.kv, fixture.account(name), id).unwrap().unwrap();
                let seqs: Vec<u64> = all.iter().filter_map(place)
                    .filter(|(_, found, seq)| *found == id.to_string() && *seq >= member.record.joined_seq)
                    .map(|(_, _, seq)| seq).collect();
                prop_assert_eq!(seqs, (member.record.joined_seq..=member.conversation.last_seq).collect::<Vec<_>>(), "{} is dense", id);
            }
        }
    }
}

#[test]
fn a_state_without_people_answers_every_query() {
    let fixture = Fixture::new();
    assert!(fixture.kv.get(&keys::META_KEY).unwrap().is_none());
    assert_eq!(query::unread_total(&fixture.kv, fixture.account("nobody")).unwrap(), 0);
    assert!(everything_after(&fixture, "nobody", Cursor::default(), 10).is_empty());
}
