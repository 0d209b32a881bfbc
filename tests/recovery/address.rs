//! A member that moves to another address keeps its identity, and no other node takes it over.

use quorate::client::Session;

use crate::world::{PASSWORD, World, account, bodies, eventually, free_address, text, to};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_moved_is_dialled_at_its_new_address() {
    let mut world = World::of(3);
    let alice = account(&world.cluster(&["n1", "n2"]), "alice").await;
    let others = format!("{},{}", world.address("n1"), world.address("n2"));
    let old = world.address("n3");
    world.kill("n3");
    world.nodes.get_mut("n3").unwrap().address = free_address();
    let new = world.address("n3");
    alice.send(&to("alice"), "while it moved").await.unwrap();

    let early = world.admin_at(&others, &["set-address", "n3", &new]);
    assert_eq!(early.status.code(), Some(7), "nobody is there yet: {}", text(&early.stderr));
    let taken = world.admin_at(&others, &["set-address", "n3", &world.address("n2")]);
    assert_eq!(taken.status.code(), Some(7), "n2 is there: {}", text(&taken.stderr));

    world.run("n3");
    eventually("n3's log names the missing command", || {
        world.log("n3").contains(&format!("set-address n3 {new}")).then_some(())
    });
    let wrong = world.admin_at(&others, &["set-address", "n2", &new]);
    assert_eq!(wrong.status.code(), Some(7), "n3 is there, not n2: {}", text(&wrong.stderr));
    let unknown = world.admin_at(&others, &["set-address", "n9", &new]);
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown.stderr));

    let moved = world.admin_at(&others, &["set-address", "n3", &new]);
    assert!(moved.status.success(), "{}", text(&moved.stderr));
    let again = world.admin_at(&others, &["set-address", "n3", &new]);
    assert!(again.status.success(), "the same command again has the same end: {}", text(&again.stderr));
    let verified = world.admin_at(&others, &["verify"]);
    assert!(verified.status.success(), "n3 has caught up there: {}{}", text(&verified.stdout), text(&verified.stderr));

    // n3 votes again: without n2, writes go on.
    world.kill("n2");
    alice.send(&to("alice"), "with n3").await.expect("n1 and n3 are a quorum");
    let status = world.status_of(&world.address("n1")).unwrap();
    let addresses: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| node["address"].clone()).collect();
    assert!(addresses.contains(&new.clone().into()) && !addresses.contains(&old.into()), "{status}");
    world.kill("n3");
    assert_eq!(world.inspect("n3")["identity"]["address"], new.as_str(), "its own record follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_moves_and_is_found_there() {
    let mut world = World::of_one();
    let alice = account(&world.cluster(&["n1"]), "alice").await;
    alice.send(&to("alice"), "before").await.unwrap();
    world.kill("n1");
    world.nodes.get_mut("n1").unwrap().address = free_address();
    world.run("n1");
    let new = world.address("n1");
    let moved = eventually("n1 is moved", || {
        Some(world.admin(&["set-address", "n1", &new])).filter(|moved| moved.status.success())
    });
    assert!(text(&moved.stdout).contains(&new), "{}", text(&moved.stdout));
    let status = world.status_of(&new).unwrap();
    assert_eq!(status["leaderAddress"], new.as_str(), "{status}");
    let (alice, _) = Session::login(&world.cluster(&["n1"]), "alice", PASSWORD, "again").await.unwrap();
    assert_eq!(bodies(&alice).await, ["before"]);
}

#[test]
fn a_node_that_has_moved_listens_at_its_new_address_without_being_told_again() {
    let mut world = World::of_one();
    let old = world.address("n1");
    world.kill("n1");
    world.nodes.get_mut("n1").unwrap().address = free_address();
    let new = world.address("n1");
    world.run("n1");
    eventually("n1 is moved", || world.admin(&["set-address", "n1", &new]).status.success().then_some(()));
    // A clean stop, so that the change that was just agreed on is on disk.
    world.signal("n1", rustix::process::Signal::TERM);
    assert_eq!(world.exit_code("n1"), 0);
    world.run_as_known("n1");
    world.wait_for_leader();
    assert!(!world.log("n1").contains("another port"), "{}", world.log("n1"));
    world.kill("n1");
    assert_eq!(world.inspect("n1")["identity"]["listen"], new.as_str());
    assert_ne!(old, new);
}

#[test]
fn a_move_that_nobody_completes_leaves_the_node_where_the_cluster_dials_it() {
    let mut world = World::of_one();
    let old = world.address("n1");
    world.kill("n1");
    world.nodes.get_mut("n1").unwrap().address = free_address();
    world.run("n1");
    world.wait_for_leader();
    world.signal("n1", rustix::process::Signal::TERM);
    assert_eq!(world.exit_code("n1"), 0);
    world.nodes.get_mut("n1").unwrap().address = old.clone();
    world.run_as_known("n1");
    world.wait_for_leader();
    world.kill("n1");
    assert_eq!(world.inspect("n1")["identity"]["listen"], old.as_str());
}

#[test]
fn a_flag_does_not_change_name_or_zone() {
    let mut world = World::of_one();
    world.kill("n1");
    let (dir, address) = (world.dir("n1"), world.address("n1"));
    let refused = crate::world::chat_node(&["run", "--data-dir", &dir, "--listen", &address, "--zone", "elsewhere"]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused.stderr));
}
