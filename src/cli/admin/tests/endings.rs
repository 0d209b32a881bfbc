//! How commands end: what they say that has happened, and what to do next.

use super::*;

fn done(note: &str) -> Steps {
    vec![Ok(ChangeProgress { note: note.into(), ..step(Phase::Done) })]
}

#[tokio::test]
async fn a_change_ends_with_what_the_leader_says_has_happened() {
    let nothing_left = "n2 is there already: nothing was left to do";
    for command in [
        "add-node n2 10.0.0.2:7400",
        "replace-node n3 n2 10.0.0.2:7400",
        "remove-node n2",
        "promote n2",
        "demote n2",
        "set-address n2 10.0.0.2:7400",
    ] {
        let address = fake().will(vec![done(nothing_left)]).serve().await;
        let (ended, captured) = admin(address, command).await;
        assert_eq!((ended, captured.data()), (Ok(()), format!("{nothing_left}\n")), "{command}");
    }
}

#[tokio::test]
async fn a_dry_run_says_what_it_was_of_and_what_the_leader_found() {
    let address = fake().will(vec![done("every check passed; nothing was changed")]).serve().await;
    let (ended, captured) = admin(address, "add-node n4 10.0.0.4:7400 --dry-run").await;
    let words = "dry run (add node n4): every check passed; nothing was changed\n";
    assert_eq!((ended, captured.data().as_str()), (Ok(()), words));
}

#[tokio::test]
async fn of_a_node_that_has_answered_at_its_new_address_it_is_not_said_that_it_is_silent() {
    let check = Check { name: "same node".into(), ok: true, ..Default::default() };
    let advice = ["n4 does not answer: bring it back", "an even number of voters"].map(str::to_owned);
    let stale = FaultTolerance { voters: 4, quorum: 3, advice: advice.into(), ..Default::default() };
    let moved = |checks: Vec<Check>| {
        let last = ChangeProgress { tolerance: Some(stale.clone()), ..step(Phase::Done) };
        vec![Ok(ChangeProgress { checks, ..step(Phase::Checks) }), Ok(last)]
    };
    for (checks, said) in [(vec![check], false), (Vec::new(), true)] {
        let address = fake().will(vec![moved(checks)]).serve().await;
        let (ended, captured) = admin(address, "set-address n4 10.0.0.9:7400").await;
        let data = captured.data();
        assert_eq!(ended, Ok(()));
        assert_eq!(data.contains("n4 does not answer"), said, "{data}");
        assert!(data.contains("an even number of voters"), "{data}");
    }
}

#[tokio::test]
async fn a_node_is_not_put_in_its_own_place() {
    let address = fake().serve().await;
    let (ended, _) = admin(address, "replace-node n3 n3 10.0.0.3:7400").await;
    let failure = ended.unwrap_err();
    assert_eq!((failure.exit, failure.next.is_some()), (Exit::Usage, true), "{failure}");
}

#[tokio::test]
async fn a_command_that_nobody_answers_is_not_said_to_bear_a_request_id() {
    for (reason, unknown) in [(Reason::Timeout, true), (Reason::NoQuorum, false)] {
        let lost = Fault::new(reason, "too few answer").next("safe to repeat with the same request_id");
        let address = Fake { transfer: Err(lost), ..fake() }.serve().await;
        let (ended, _) = admin(address, "transfer-leader").await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable, "{failure}");
        let said = failure.to_string();
        assert_eq!(said.contains("outcome is unknown"), unknown, "{said}");
        assert!(said.contains("repeating the command is safe") && !said.contains("request_id"), "{said}");
    }
}

#[tokio::test]
async fn a_backup_that_nobody_answers_keeps_its_deadline_and_is_a_read() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let file = folder.path().join("state.backup");
    let (ended, _) = admin(hung.local_addr().unwrap(), &format!("backup {}", file.display())).await;
    assert!(begun.elapsed() < Duration::from_millis(3_500), "of 2 s it took {:?}", begun.elapsed());
    let said = ended.unwrap_err().to_string();
    assert!(!said.contains("unknown") && !said.contains("request_id"), "{said}");
}

#[tokio::test]
async fn a_backup_into_a_folder_that_is_missing_says_what_next() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nowhere/state.backup");
    let address = fake().serve().await;
    let (ended, _) = admin(address, &format!("backup {}", file.display())).await;
    let failure = ended.unwrap_err();
    assert!(failure.next.as_ref().is_some_and(|next| next.contains("a folder that exists")), "{failure}");
}

#[tokio::test]
async fn leadership_is_handed_over_or_the_node_is_not_found() {
    let address = fake().serve().await;
    let (ended, _) = admin(address, "transfer-leader n9").await;
    assert_eq!(ended.unwrap_err().exit, Exit::NotFound);

    let gap = Some(prost_types::Duration { seconds: 0, nanos: 120_000_000 });
    let answer = TransferLeadershipResponse { leader_name: "n2".into(), term: 8, write_gap: gap };
    let address = Fake { transfer: Ok(answer), ..fake() }.serve().await;
    let (ended, captured) = admin(address, "transfer-leader").await;
    assert_eq!((ended, captured.data().as_str()), (Ok(()), "n2 leads since term 8; writes paused for 120 ms\n"));
}

#[tokio::test]
async fn a_correction_of_log_time_says_from_when_on_writes_are_accepted() {
    let address = fake().serve().await;
    let (ended, captured) = admin(address, "correct-time").await;
    let words = "\
log time was ahead by 2days, it was set to 2026-01-01T00:00:00Z
  new writes are refused until 2026-01-02T00:00:00Z: until then they could be repetitions
  of writes that are forgotten already
  next: if no client's clock was ever a minute ahead, run this with --clients-ahead 1m
";
    assert_eq!((ended, captured.data().as_str()), (Ok(()), words));
}
