//! What tells one history from another, and the first attempt at a request from a stranger's.

use super::fixture::{Fixture, START_MS, command, create_account, create_session, send};
use crate::{
    machine::query,
    types::SessionKey,
    wire::store::{self, command::Verb},
};

fn decided(fixture: &mut Fixture, label: &str, session: &str) -> bool {
    let id = fixture.request(label, START_MS);
    query::is_decided(&fixture.kv, id, &SessionKey::of_token(session)).unwrap()
}

#[test]
fn a_state_continues_an_earlier_one_of_its_own_history_and_no_other() {
    let earlier = Fixture::with(&["alice", "bob"]);
    let mut later = earlier.clone();
    later.time_ms += 1_000;
    later.run("alice", send("bob", "hello"));
    later.run("", create_account("carol"));
    later.run("alice", Verb::DeleteAccount(store::DeleteAccount { password_version: 1, erase_messages: true }));
    let continues = |one: &Fixture, other: &Fixture| query::continues(&one.kv, &other.kv).unwrap();
    assert!(continues(&earlier, &earlier) && continues(&earlier, &later));
    assert!(continues(&Fixture::new(), &later), "an empty state begins every history");
    assert!(!continues(&later, &earlier), "it has lost what was written");
    let mut corrected = later.clone();
    let time_ms = START_MS - 1_000;
    corrected.run("", Verb::CorrectTime(store::CorrectTime { time_ms, clients_ahead_ms: None }));
    assert!(continues(&later, &corrected), "log time was set back");
    let foreign = Fixture::with(&["mallory", "eve", "trent"]);
    assert!(!continues(&earlier, &foreign), "its second account is somebody else");
}

#[test]
fn a_request_is_known_to_the_session_that_made_it_and_to_its_account() {
    let mut fixture = Fixture::with(&["alice", "bob"]);
    fixture.run("", create_session("alice", "phone"));
    let id = fixture.request("message", START_MS);
    fixture.apply(vec![command(id, "alice", send("bob", "once"))]);
    for (session, known) in [("alice", true), ("phone", true), ("bob", false), ("forged", false)] {
        assert_eq!(decided(&mut fixture, "message", session), known, "{session}");
    }
    assert!(!decided(&mut fixture, "another", "alice"));
    let id = fixture.request("sign-out", START_MS);
    let sign_out = Verb::DeleteSession(store::DeleteSession { all: true, ..Default::default() });
    fixture.apply(vec![command(id, "alice", sign_out)]);
    assert!(decided(&mut fixture, "sign-out", "alice"), "its own session is over, and a retry has the outcome");
    for session in ["phone", "bob", "forged"] {
        assert!(!decided(&mut fixture, "sign-out", session), "{session}");
    }
}
