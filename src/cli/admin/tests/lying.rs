//! A node that lies in every string it gives.

use super::*;
use crate::{
    cli::text::testing::{EVIL, assert_harmless},
    wire::{admin::Check, cluster::FaultTolerance},
};

fn evil() -> String {
    EVIL.to_owned()
}

fn liar() -> Fake {
    let mut fake = fake();
    let view = &mut fake.membership;
    (view.cluster_id, view.answered_by, view.etag, view.version) = (evil(), evil(), evil(), evil());
    for node in &mut view.nodes {
        (node.name, node.zone, node.version) = (evil(), evil(), evil());
        (node.condition, node.condition_reason) = (evil(), evil());
    }
    // The first one's address is where the lies are served.
    view.nodes[1].address = evil();
    let leader_name = evil();
    fake.transfer = Ok(TransferLeadershipResponse { leader_name, ..Default::default() });
    fake
}

fn lies() -> Steps {
    let check = |ok| Check { name: evil(), ok, detail: evil(), hint: evil() };
    let tolerance = FaultTolerance {
        fatal_zones: vec![evil()],
        fatal_nodes: vec![evil()],
        advice: vec![evil()],
        ..Default::default()
    };
    let said = |phase: Phase, ok| ChangeProgress {
        phase: phase.into(),
        checks: vec![check(ok)],
        tolerance: Some(tolerance.clone()),
        ..Default::default()
    };
    vec![Ok(said(Phase::Checks, true)), Ok(said(Phase::Joint, true)), Ok(said(Phase::Done, true))]
}

fn refusal() -> Steps {
    let check = Check { name: evil(), ok: false, detail: evil(), hint: evil() };
    vec![Ok(ChangeProgress { phase: Phase::Checks.into(), checks: vec![check], ..Default::default() })]
}

fn broken() -> Steps {
    let mut fault = Fault::new(Reason::Internal, EVIL).next(EVIL);
    fault.field = Some(evil());
    vec![Err(fault)]
}

#[tokio::test]
async fn nothing_that_a_node_says_reaches_the_terminal_raw() {
    let changes = [
        "add-node n4 127.0.0.1:4",
        "replace-node n3 n4 127.0.0.1:4",
        "remove-node n3",
        "promote n3",
        "demote n3",
        "set-address n3 127.0.0.1:4",
    ];
    let others = ["status", "transfer-leader", "snapshot", "verify", "backup /dev/null/no", "probe --for 1s"];
    let mut fake = liar().will(changes.iter().flat_map(|_| [lies(), refusal(), broken(), lies()]).collect());
    let address = fake.serve().await;
    let thrice = |line: &str| vec![line.to_owned(), line.to_owned(), line.to_owned(), format!("--json {line}")];
    let both = |line: &str| vec![line.to_owned(), format!("--json {line}")];
    for line in changes.iter().flat_map(|line| thrice(line)).chain(others.iter().flat_map(|line| both(line))) {
        let (ended, captured) = admin(address, &line).await;
        let failure = ended.err().map(|failure| failure.to_string()).unwrap_or_default();
        assert_harmless(&line, &[&captured.data(), &captured.talk(), &failure]);
    }
}
