//! `examples/bot.rs` against a cluster: it answers each command once, through failover and its own restarts.

use std::path::PathBuf;

use tokio::task::JoinHandle;

use crate::common::{Cluster, PASSWORD, eventually};

#[path = "../../examples/bot.rs"]
#[allow(dead_code, reason = "its main function is for `cargo run --example bot`")]
mod example;

const NAME: &str = "reminder";

/// Starts the bot as another process would: with a client of its own, and the file as its only memory.
fn start(cluster: &Cluster, file: PathBuf) -> JoinHandle<()> {
    let client = cluster.client();
    tokio::spawn(async move {
        let bot = example::Bot { name: NAME.into(), password: PASSWORD.into(), file };
        bot.run(&client).await.unwrap_or_else(|error| panic!("the bot ended: {error}"));
    })
}

/// P4 and P5.
#[tokio::test]
async fn the_example_bot_answers_once_through_failover_and_restart() {
    let cluster = Cluster::of(3).start().await;
    let [alice] = cluster.accounts(["alice"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cursor");
    let bot = start(&cluster, file.clone());
    eventually("the bot has registered", async || match alice.session.users(NAME, 1, "").await {
        Ok(found) if !found.accounts.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    alice.send(NAME, "hello").await;
    alice.send(NAME, "in 0s one").await;
    let mut said = vec!["hello", "in 0s one", "one"];
    alice.eventually_sees(NAME, &said).await;

    let (leader, _) = cluster.roles().await;
    cluster.kill([leader]).await;
    // Its own answer is a command, which it must not answer.
    alice.send(NAME, "in 0s in 0s two").await;
    said.extend(["in 0s in 0s two", "in 0s two"]);
    alice.eventually_sees(NAME, &said).await;
    cluster.restart(leader).await.unwrap();

    // Killed with a reminder in its memory, which only the cursor brings back.
    alice.send(NAME, "in 2s three").await;
    alice.send(NAME, "in 0s four").await;
    said.extend(["in 2s three", "in 0s four", "four"]);
    alice.eventually_sees(NAME, &said).await;
    bot.abort();
    let bot = start(&cluster, file.clone());
    said.push("three");
    alice.eventually_sees(NAME, &said).await;

    // Without its file it reads everything again, and says nothing twice.
    bot.abort();
    let _ = bot.await;
    std::fs::remove_file(&file).unwrap();
    let bot = start(&cluster, file.clone());
    alice.send(NAME, "in 0s five").await;
    said.extend(["in 0s five", "five"]);
    alice.eventually_sees(NAME, &said).await;
    assert!(!bot.is_finished());
    bot.abort();
    cluster.assert_replicas_agree().await;
}
