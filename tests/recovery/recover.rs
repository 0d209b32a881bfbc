//! A cluster that has lost its quorum for good goes on from one survivor, and its old members stay out.

use std::{collections::BTreeMap, path::Path};

use quorate::{
    client::Session,
    raft::{
        LogStore, PeerIdentity,
        types::{Member, Membership},
    },
    storage::{Blocking, DataDir, LogFile, Open},
    wire::{
        Address, Dialer, Fault, Profile, Reason,
        raft::{VoteRequest, raft_service_client::RaftServiceClient},
    },
};
use rustix::process::Signal;
use tonic::Request;

use crate::world::{PASSWORD, World, account, bodies, chat_node, eventually, text, to};

fn recover(world: &World, name: &str, more: &[&str]) -> std::process::Output {
    let dir = world.dir(name);
    chat_node(&[&["recover", "--data-dir", &dir], more].concat())
}

/// Appends what a leader leaves in its log if it begins a change and dies before it can replicate the entry.
fn append_joint_membership(data_dir: &str) {
    let dir = DataDir::open(Path::new(data_dir)).unwrap();
    let file = LogFile::open(&dir, "log.redb", Open::Existing, Blocking::Inline).unwrap();
    let members = [1, 2, 3].map(|id| (id, Member { name: format!("n{id}"), ..Member::default() }));
    let joint = Membership::new(vec![[1, 2, 3].into(), [1, 2].into()], BTreeMap::from(members)).unwrap();
    let log = LogStore::new(file.clone());
    let voted = log.vote().unwrap().map_or(0, |vote| vote.leader_id().term);
    let at = log.next_id(None, voted).unwrap();
    log.append_membership(1, joint, None, at).unwrap();
    file.close().unwrap();
}

/// Asks `name` for its vote as a peer of this epoch. Returns `WrongCluster` if it refuses the peer as such.
async fn refusal(world: &World, name: &str, to: u64, cluster_id: &str, epoch: u64) -> Option<Reason> {
    let address: Address = world.address(name).parse().unwrap();
    let mut client = RaftServiceClient::new(Dialer::tcp().channel(&address, Profile::Peer));
    // The request is incomplete on purpose: a node that accepts the caller refuses the message instead.
    let mut request = Request::new(VoteRequest::default());
    PeerIdentity { cluster_id: cluster_id.to_owned(), epoch, node_id: 9 }.stamp(&mut request, to);
    let status = client.vote(request).await.expect_err("no vote for a stranger");
    Some(Fault::from_status(&status).reason).filter(|reason| *reason == Reason::WrongCluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_with_all_it_holds_and_the_old_members_are_fenced() {
    let mut world = World::of(3);
    let cluster = world.cluster(&["n1", "n2", "n3"]);
    let alice = account(&cluster, "alice").await;
    alice.send(&to("alice"), "all three have it").await.unwrap();
    world.kill("n3");
    for number in 0..5 {
        alice.send(&to("alice"), &format!("two have it {number}")).await.unwrap();
    }

    let refused = recover(&world, "n3", &[]);
    assert_eq!(refused.status.code(), Some(7), "a cluster that lives is not recovered: {}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("has a quorum"), "{}", text(&refused.stderr));

    world.kill("n1");
    let running = recover(&world, "n2", &[]);
    assert_eq!(running.status.code(), Some(4), "a node that runs is not recovered: {}", text(&running.stderr));
    world.kill("n2");
    let id = world.cluster_id();

    let wrong = recover(&world, "n3", &["--compare", &world.dir("n2"), "--yes-lose-data", "1234"]);
    let said = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(7), "{said}");
    assert!(said.contains("recommended: NO. n2 has a newer log"), "{said}");
    assert!(said.contains("lost by this recovery: 0 accounts, 5 events in 1 conversation"), "{said}");
    assert!(said.contains("5  alice"), "{said}");
    assert_eq!(world.inspect("n3")["identity"]["epoch"], "1", "nothing was changed");

    let made = recover(&world, "n2", &["--compare", &world.dir("n3"), "--yes-lose-data", &id]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("recommended: yes"), "{}", text(&made.stderr));
    world.run("n2");
    let survivor = world.cluster(&["n2"]);
    let (alice, _) = Session::login(&survivor, "alice", PASSWORD, "again").await.expect("the account is there");
    let expected: Vec<String> = std::iter::once("all three have it".to_owned())
        .chain((0..5).map(|number| format!("two have it {number}")))
        .collect();
    assert_eq!(bodies(&alice).await, expected);
    alice.send(&to("alice"), "one has it").await.expect("one voter is a quorum");

    // The two nodes left behind are a quorum of the old cluster. They and the new cluster ignore each other.
    world.run("n1");
    world.run("n3");
    eventually("the old members elect one another", || {
        world.status_of(&world.address("n1")).filter(|status| status["hasQuorum"] == true)
    });
    let alone = world.status_of(&world.address("n2")).unwrap();
    assert_eq!(alone["nodes"].as_array().unwrap().len(), 1, "{alone}");
    for (name, node, theirs, own) in [("n2", 2, 1, 2), ("n1", 1, 2, 1), ("n3", 3, 2, 1)] {
        assert_eq!(refusal(&world, name, node, &id, theirs).await, Some(Reason::WrongCluster), "{name}");
        assert_eq!(refusal(&world, name, node, &id, own).await, None, "{name} refuses its own epoch");
    }

    // They can come back only as new nodes.
    let old = world.admin_at(&world.address("n2"), &["add-node", "n3", &world.address("n3")]);
    assert_eq!(old.status.code(), Some(7), "{}", text(&old.stderr));
    assert!(text(&old.stderr).contains("left behind"), "{}", text(&old.stderr));
    world.kill("n1");
    world.kill("n3");
    std::fs::remove_dir_all(world.dir("n3")).unwrap();
    world.run("n3");
    let added = world.admin_at(&world.address("n2"), &["add-node", "n3", &world.address("n3")]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let verified = world.admin_at(&world.address("n2"), &["verify"]);
    assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    world.kill("n3");
    assert_eq!(world.inspect("n3")["identity"]["nodeId"], "4", "an id is never used twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_acknowledged_is_kept_and_a_joint_membership_in_the_tail_gives_way() {
    let mut world = World::of(3);
    let cluster = world.cluster(&["n1"]);
    let alice = account(&cluster, "alice").await;
    alice.send(&to("alice"), "agreed on").await.unwrap();
    assert_eq!(world.wait_for_leader(), "n1");
    let id = world.status_of(&world.address("n1")).unwrap()["clusterId"].as_str().unwrap().to_owned();

    let last = || {
        let status = world.status_of(&world.address("n1"))?;
        status["nodes"][0]["matchedIndex"].as_str()?.parse::<u64>().ok()
    };
    let before = last().expect("the leader's last index");

    // The leader appends to its own log an entry that no other node will receive.
    world.signal("n2", Signal::STOP);
    world.signal("n3", Signal::STOP);
    let request = cluster.request_id();
    let unanswered = {
        let alice = alice.clone();
        tokio::spawn(async move { alice.send_as(request, &to("alice"), "on one disk").await })
    };
    eventually("the message in n1's log", || last().filter(|last| *last > before));
    // A clean stop, so that the queued entries are on its disk for sure.
    world.signal("n1", Signal::TERM);
    assert_eq!(world.exit_code("n1"), 0);
    world.kill("n2");
    world.kill("n3");
    unanswered.abort();
    append_joint_membership(&world.dir("n1"));

    let made = recover(&world, "n1", &["--yes-lose-data", &id, "--json"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let report: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!(report["epoch"], "2");
    assert_ne!(report["report"]["survivor"]["notKnownCommitted"], "0", "{report}");
    world.run("n1");
    let status = eventually("n1 leads alone", || {
        world.status_of(&world.address("n1")).filter(|status| status["hasQuorum"] == true)
    });
    assert_eq!((status["joint"].clone(), status["nodes"].as_array().unwrap().len()), (false.into(), 1), "{status}");

    let (alice, _) = Session::login(&world.cluster(&["n1"]), "alice", PASSWORD, "again").await.unwrap();
    assert_eq!(bodies(&alice).await, ["agreed on", "on one disk"]);
    alice.send_as(request, &to("alice"), "on one disk").await.expect("a retry after the recovery");
    assert_eq!(bodies(&alice).await, ["agreed on", "on one disk"], "a retry has no second effect");
}

#[test]
fn what_holds_nothing_to_recover_is_refused_by_name() {
    let mut world = World::new();
    world.place("n1");
    let absent = recover(&world, "n1", &["--yes-lose-data", "x"]);
    assert_eq!(absent.status.code(), Some(1), "{}", text(&absent.stderr));
    std::fs::create_dir(world.dir("n1")).unwrap();
    let empty = recover(&world, "n1", &["--yes-lose-data", "x"]);
    assert_eq!(empty.status.code(), Some(7), "{}", text(&empty.stderr));
    assert!(text(&empty.stderr).contains("no node's identity"), "{}", text(&empty.stderr));
}
