//! `verify` and `status` on a cluster under load, and on one that hangs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::world::{World, account, program, text, to};

/// Runs `chat-admin verify`. Returns whether it passed, and its output.
fn verify(world: &World) -> (bool, String) {
    let output = world.admin(&["verify"]);
    (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_compared_at_one_index_under_full_load() {
    let world = World::of(3);
    let cluster = world.cluster(&["n1", "n2", "n3"]);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let alice = account(&cluster, "alice").await;
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (alice, stop, written) = (alice.clone(), stop.clone(), written.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    alice.send(&to("alice"), "load").await.expect("writes go on");
                    written.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    // A round counts only if something was written during it. The first may end before the load begins.
    let mut under_load = 0;
    for round in 0.. {
        let before = written.load(Relaxed);
        let (passed, said) = tokio::task::block_in_place(|| verify(&world));
        assert!(passed && said.contains("PASS: 3 replicas are equal"), "round {round}: {said}");
        under_load += usize::from(written.load(Relaxed) > before);
        if under_load == 5 {
            break;
        }
        assert!(round < 100, "there was a load in {under_load} of {round} rounds");
    }
    stop.store(true, Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let (passed, said) = tokio::task::block_in_place(|| verify(&world));
    assert!(passed, "at rest: {said}");
}

/// Runs `chat-admin status` with its default timeout. Returns whether it succeeded, its output, and its duration.
fn status(endpoints: &str) -> (bool, String, Duration) {
    let begun = Instant::now();
    let output = program("chat-admin").args(["-e", endpoints, "status"]).output().expect("chat-admin runs");
    (output.status.success(), text(&output.stdout), begun.elapsed())
}

#[test]
fn status_answers_within_a_second_when_nodes_hang_and_when_there_is_no_quorum() {
    let mut world = World::of(3);
    let all = world.addresses();
    let (ok, said, took) = status(&all);
    assert!(ok && said.contains("survives any 1 node"), "{said}");
    assert!(took < Duration::from_secs(1), "at rest: {took:?}");

    world.signal("n3", Signal::STOP);
    let (ok, said, took) = status(&all);
    assert!(ok && took < Duration::from_secs(1), "one hangs: {took:?}\n{said}");

    world.signal("n2", Signal::STOP);
    let (ok, said, took) = status(&all);
    assert!(ok && took < Duration::from_secs(1), "two hang: {took:?}\n{said}");
    crate::world::eventually("it says that there is no quorum", || {
        let (ok, said, took) = status(&all);
        assert!(ok && took < Duration::from_secs(1), "no quorum: {took:?}\n{said}");
        said.contains("NO QUORUM").then_some(())
    });
    // The first endpoint given may be the one that hangs.
    let hung_first = format!("{},{}", world.address("n2"), world.address("n1"));
    let (ok, said, took) = status(&hung_first);
    assert!(ok && took < Duration::from_secs(1), "the first endpoint hangs: {took:?}\n{said}");
    world.kill("n2");
    world.kill("n3");
    let (ok, said, took) = status(&all);
    assert!(ok && took < Duration::from_secs(1), "two are gone: {took:?}\n{said}");
}
