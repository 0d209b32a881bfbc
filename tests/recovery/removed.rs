//! A node that was removed while it was down learns of it before it disturbs the cluster.

use crate::world::{World, account, text, to};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_removed_while_it_was_down_stops_at_its_start_without_an_election() {
    let mut world = World::of(3);
    let alice = account(&world.cluster(&["n1", "n2"]), "alice").await;
    world.kill("n3");
    let removed = world.admin(&["remove-node", "n3", "--accept-lower-tolerance"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    alice.send(&to("alice"), "without n3").await.unwrap();
    let before = world.status_of(&world.address("n1")).unwrap();

    world.run("n3");
    assert_eq!(world.exit_code("n3"), 76);
    assert!(!world.log("n3").contains("role=Candidate"), "it stood for election:\n{}", world.log("n3"));
    let after = world.status_of(&world.address("n1")).unwrap();
    assert_eq!((&after["term"], &after["leaderId"]), (&before["term"], &before["leaderId"]), "nobody was disturbed");
    assert_eq!(world.inspect("n3")["identity"]["removed"], true);

    // Its data never serves again, at any address.
    let (dir, address) = (world.dir("n3"), world.address("n3"));
    let again = crate::world::chat_node(&["run", "--data-dir", &dir, "--listen", &address]);
    assert_eq!(again.status.code(), Some(76), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("was removed from cluster"), "{}", text(&again.stderr));

    // Once wiped, it comes back under its old name as a new node.
    std::fs::remove_dir_all(&dir).unwrap();
    world.run("n3");
    let added = world.admin(&["add-node", "n3", &address]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let status = world.status_of(&world.address("n1")).unwrap();
    let ids: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| node["nodeId"].clone()).collect();
    assert_eq!(ids, ["1", "2", "4"], "an id is never used twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_finds_a_leader_it_has_never_heard_of() {
    let mut world = World::of(3);
    world.kill("n3");
    let removed = world.admin(&["remove-node", "n3", "--accept-lower-tolerance"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    world.add("n4");
    let handed = world.admin(&["transfer-leader", "n4"]);
    assert!(handed.status.success(), "{}", text(&handed.stderr));
    world.run("n3");
    assert_eq!(world.exit_code("n3"), 76, "n1 and n2 name n4, whom n3 does not know");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_identity_is_damaged_and_not_empty() {
    let mut world = World::of_one();
    world.add("n2");
    world.kill("n2");
    let (dir, address) = (world.dir("n2"), world.address("n2"));
    let identity = std::path::Path::new(&dir).join("identity");
    let copy = std::fs::read(&identity).unwrap();
    std::fs::remove_file(&identity).unwrap();
    for command in [&["run", "--listen", &address][..], &["inspect"], &["recover"]] {
        let refused = crate::world::chat_node(&[command, &["--data-dir", &dir]].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(70), "{command:?}: {said}");
        assert!(said.contains("is that of a member whose file `identity` is missing"), "{command:?}: {said}");
        assert!(said.contains("log and state of a cluster of n1, n2, up to entry "), "{command:?}: {said}");
        assert!(said.contains("next: put `identity` back"), "{command:?}: {said}");
    }
    // The log alone is evidence enough.
    let (state, aside) = (identity.with_file_name("state.redb"), world.folder.path().join("state.redb"));
    std::fs::rename(&state, &aside).unwrap();
    let refused = crate::world::chat_node(&["run", "--data-dir", &dir, "--listen", &address]);
    assert_eq!(refused.status.code(), Some(70), "{}", text(&refused.stderr));
    std::fs::rename(&aside, &state).unwrap();
    std::fs::write(&identity, copy).unwrap();
    world.run("n2");
    world.wait_for_leader();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_is_not_taken_for_the_one_it_was() {
    let mut world = World::of(3);
    world.kill("n3");
    std::fs::remove_dir_all(world.dir("n3")).unwrap();
    world.run("n3");
    let address = world.address("n3");
    // The wiped member still has the name, which gets no second identity while the first is a member.
    let refused = world.admin(&["add-node", "n3", &address]);
    assert_eq!(refused.status.code(), Some(7), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("its data directory was wiped"), "{}", text(&refused.stderr));
    assert_eq!(world.log("n3").matches("adopted cluster").count(), 1, "{}", world.log("n3"));
    let removed = world.admin(&["remove-node", "n3", "--accept-lower-tolerance"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    let added = world.admin(&["add-node", "n3", &address]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    world.kill("n3");
    assert_eq!(world.inspect("n3")["identity"]["nodeId"], "4");
}
