//! A backup of a cluster under load restores to a cluster with the same content, or not at all.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use quorate::client::Session;

use crate::world::{PASSWORD, World, account, bodies, chat_node, text, to};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_comes_back_whole_with_sessions_and_outcomes() {
    let mut world = World::of(3);
    let cluster = world.cluster(&["n1", "n2", "n3"]);
    Session::register(&cluster, "alice", PASSWORD).await.unwrap();
    let (alice, login) = Session::login(&cluster, "alice", PASSWORD, "test").await.unwrap();
    let request = cluster.request_id();
    alice.send_as(request, &to("alice"), "under this id once").await.unwrap();
    for number in 0..50 {
        alice.send(&to("alice"), &format!("before {number}")).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (bob, stop) = (account(&cluster, "bob").await, stop.clone());
        async move {
            while !stop.load(Relaxed) {
                bob.send(&to("bob"), "load").await.expect("writes go on during the backup");
            }
        }
    });
    let file = world.folder.path().join("state.backup").display().to_string();
    let taken = tokio::task::block_in_place(|| world.admin(&["backup", &file]));
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    stop.store(true, Relaxed);
    load.await.unwrap();
    let expected = bodies(&alice).await;
    let old = world.wait_for_leader();
    assert!(!old.is_empty());

    world.place("r1");
    let (dir, address) = (world.dir("r1"), world.address("r1"));
    let restore = ["restore", "--data-dir", &dir, "--from", &file, "--name", "r1", "--listen", &address];

    // A damaged backup is refused with a reason and leaves nothing behind: the same command works with the whole file.
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let mut foreign = whole.clone();
    foreign[..4].copy_from_slice(b"ELF!");
    for (what, bytes) in [("flipped", &flipped[..]), ("truncated", &whole[..whole.len() - 10]), ("foreign", &foreign)] {
        fs::write(&file, bytes).unwrap();
        let refused = chat_node(&restore);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains("state.backup is damaged"), "{what}: {said}");
        assert!(!fs::exists(&dir).unwrap(), "{what}: a directory is left behind");
    }
    fs::create_dir(&dir).unwrap();
    let absent = chat_node(&[&restore[..4], &["/no/such/file"], &restore[5..]].concat());
    assert_eq!(absent.status.code(), Some(1), "{}", text(&absent.stderr));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a lock is left behind");
    fs::write(&file, &whole).unwrap();
    // `restore FILE`, as in `backup FILE`.
    let made = chat_node(&[&["restore", &file][..], &restore[1..3], &restore[5..]].concat());
    assert!(made.status.success(), "{}", text(&made.stderr));
    let again = chat_node(&restore);
    assert_eq!(again.status.code(), Some(4), "a directory in use is left alone: {}", text(&again.stderr));

    world.run("r1");
    let restored = world.cluster(&["r1"]);
    let alice = Session::resume(&restored, &login.token).expect("a token");
    assert_eq!(bodies(&alice).await, expected, "the session, and every message");
    alice.send_as(request, &to("alice"), "under this id once").await.expect("a retry after the restore");
    assert_eq!(bodies(&alice).await, expected, "the outcome is remembered: no second effect");

    // The restored cluster grows like any other, and its replicas are equal.
    world.place("r2");
    world.run("r2");
    let grown = world.admin_at(&address, &["add-node", "r2", &world.address("r2")]);
    assert!(grown.status.success(), "{}", text(&grown.stderr));
    let verified = world.admin_at(&address, &["verify"]);
    assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
}
