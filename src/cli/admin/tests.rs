//! `chat-admin` against a scripted node: output and exit codes.

mod endings;
mod lying;
mod untrusted;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::{Args, run};
use crate::{
    cli::{Captured, Exit, Failure, Output},
    wire::{
        Dialer, Fault, Reason,
        admin::{
            admin_service_server::{AdminService, AdminServiceServer},
            change_progress::Phase,
            *,
        },
        cluster::{
            FaultTolerance, GetMembershipRequest, GetMembershipResponse, Node, Role,
            cluster_service_server::{ClusterService, ClusterServiceServer},
        },
    },
};

type Answer<T> = Result<Response<T>, Status>;
type Steps = Vec<Result<ChangeProgress, Fault>>;

/// A scripted node: what it answers.
#[derive(Clone)]
struct Fake {
    membership: GetMembershipResponse,
    /// The stream of each change that is asked for, in turn.
    changes: Arc<Mutex<Vec<Steps>>>,
    asked: Arc<Mutex<Vec<RemoveNodeRequest>>>,
    digest: u8,
    /// How many calls it refuses first, as a node that is starting.
    starting: Arc<AtomicUsize>,
    transfer: Result<TransferLeadershipResponse, Fault>,
}

#[tonic::async_trait]
impl ClusterService for Fake {
    type WatchMembershipStream = BoxStream<'static, Result<GetMembershipResponse, Status>>;

    async fn get_membership(&self, _: Request<GetMembershipRequest>) -> Answer<GetMembershipResponse> {
        match self.starting.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(Status::unavailable("not ready yet")),
            Err(_) => Ok(Response::new(self.membership.clone())),
        }
    }

    async fn watch_membership(&self, _: Request<GetMembershipRequest>) -> Answer<Self::WatchMembershipStream> {
        Err(Status::unimplemented("not asked for"))
    }
}

impl Fake {
    fn change(&self) -> Answer<BoxStream<'static, Result<ChangeProgress, Status>>> {
        let mut changes = self.changes.lock().unwrap();
        let steps = if changes.is_empty() { Vec::new() } else { changes.remove(0) };
        Ok(Response::new(stream::iter(steps).map(|step| step.map_err(Status::from)).boxed()))
    }
}

#[tonic::async_trait]
impl AdminService for Fake {
    type AddNodeStream = BoxStream<'static, Result<ChangeProgress, Status>>;
    type ReplaceNodeStream = Self::AddNodeStream;
    type RemoveNodeStream = Self::AddNodeStream;
    type SetRoleStream = Self::AddNodeStream;
    type SetAddressStream = Self::AddNodeStream;
    type CreateBackupStream = BoxStream<'static, Result<BackupChunk, Status>>;

    async fn add_node(&self, _: Request<AddNodeRequest>) -> Answer<Self::AddNodeStream> {
        self.change()
    }

    async fn replace_node(&self, _: Request<ReplaceNodeRequest>) -> Answer<Self::AddNodeStream> {
        self.change()
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Answer<Self::AddNodeStream> {
        self.asked.lock().unwrap().push(request.into_inner());
        self.change()
    }

    async fn set_role(&self, _: Request<SetRoleRequest>) -> Answer<Self::AddNodeStream> {
        self.change()
    }

    async fn set_address(&self, _: Request<SetAddressRequest>) -> Answer<Self::AddNodeStream> {
        self.change()
    }

    async fn transfer_leadership(&self, _: Request<TransferLeadershipRequest>) -> Answer<TransferLeadershipResponse> {
        self.transfer.clone().map(Response::new).map_err(Status::from)
    }

    async fn trigger_snapshot(&self, _: Request<TriggerSnapshotRequest>) -> Answer<TriggerSnapshotResponse> {
        Ok(Response::new(TriggerSnapshotResponse { index: 42 }))
    }

    async fn correct_time(&self, _: Request<CorrectTimeRequest>) -> Answer<CorrectTimeResponse> {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let (log_time, time, accepts_from) = (at(1_767_398_400), at(1_767_225_600), at(1_767_312_000));
        Ok(Response::new(CorrectTimeResponse { log_time, time, accepts_from, was_ahead: true }))
    }

    async fn get_state_digest(&self, request: Request<GetStateDigestRequest>) -> Answer<GetStateDigestResponse> {
        let index = request.into_inner().at_least_index;
        let node = self.membership.answered_by.clone();
        Ok(Response::new(GetStateDigestResponse { node, index, digest: vec![self.digest; 2].into() }))
    }

    async fn create_backup(&self, _: Request<CreateBackupRequest>) -> Answer<Self::CreateBackupStream> {
        let chunk = |data: &'static [u8]| Ok(BackupChunk { data: data.into() });
        Ok(Response::new(stream::iter([chunk(b"arch"), chunk(b"ive")]).boxed()))
    }
}

fn node(id: u64, zone: &str, reachable: bool) -> Node {
    Node {
        node_id: id,
        name: format!("n{id}"),
        address: format!("127.0.0.1:{id}"),
        zone: zone.to_owned(),
        role: Role::Voter.into(),
        reachable,
        matched_index: 100,
        version: "0.1.0".to_owned(),
        ..Default::default()
    }
}

/// n1, which leads three voters. n3 does not answer it.
fn fake() -> Fake {
    Fake {
        membership: GetMembershipResponse {
            cluster_id: "feed".to_owned(),
            answered_by: "n1".to_owned(),
            answered_by_id: 1,
            leader_id: 1,
            term: 7,
            commit_index: 103,
            applied_index: 103,
            has_quorum: true,
            nodes: vec![node(1, "a", true), node(2, "b", true), node(3, "c", false)],
            version: "0.1.0".to_owned(),
            ..Default::default()
        },
        changes: Arc::default(),
        asked: Arc::default(),
        digest: 0xab,
        starting: Arc::default(),
        transfer: Err(Fault::new(Reason::NodeNotFound, "no node is named n9")),
    }
}

impl Fake {
    /// Serves on a free port and puts that address into the membership.
    async fn serve(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let id = self.membership.answered_by_id;
        for node in &mut self.membership.nodes {
            if node.node_id == id {
                node.address = address.to_string();
            }
        }
        if self.membership.leader_id == id {
            self.membership.leader_address = address.to_string();
        }
        let server = tonic::transport::Server::builder()
            .add_service(ClusterServiceServer::new(self.clone()))
            .add_service(AdminServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn will(self, steps: Vec<Steps>) -> Self {
        *self.changes.lock().unwrap() = steps;
        self
    }
}

async fn admin(address: impl ToString, command: &str) -> (Result<(), Failure>, Captured) {
    let line = format!("chat-admin -e {} --timeout 2s {command}", address.to_string());
    let args = Args::try_parse_from(line.split_whitespace()).unwrap();
    let (mut output, captured) = Output::captured(args.json);
    (run(args, Dialer::tcp(), &mut output).await, captured)
}

fn step(phase: Phase) -> ChangeProgress {
    ChangeProgress { phase: phase.into(), ..Default::default() }
}

fn tolerance(voters: u32, nodes: u32) -> Option<FaultTolerance> {
    let quorum = voters / 2 + 1;
    Some(FaultTolerance { voters, quorum, survives_any_nodes: nodes, ..Default::default() })
}

#[tokio::test]
async fn status_is_one_screen_that_ends_with_what_the_cluster_survives() {
    let mut fake = fake();
    fake.membership.nodes[0].clock_offset_ms = Some(-12);
    fake.membership.nodes[1].clock_offset_ms = Some(172_800_000);
    fake.membership.log_time_ahead_ms = 9_000_000;
    let address = fake.serve().await.to_string();
    let begun = Instant::now();
    let (ended, captured) = admin(&address, "status").await;
    assert_eq!(ended, Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    let expected = format!(
        "\
cluster feed  leader n1  term 7  commit index 103

NAME  ROLE    ZONE  ADDRESS{pad}  REACHABLE           LAG  CLOCK     VERSION
n1    leader  a     {address}  yes                 0    ok        0.1.0
n2    voter   b     127.0.0.1:2{short}  by the leader only  3    +2.0days  0.1.0
n3    voter   c     127.0.0.1:3{short}  NO                  -    -         0.1.0

the clock of n2 is 2.0days ahead of the majority's and is not used: set it, with NTP best
log time is 2.5h ahead of the nodes' clocks: run `chat-admin correct-time --dry-run`

3 voters (1 not answering), quorum 2
  survives no further failure; with every voter answering, any 1 node
  losing any of n1 n2 stops writes
  zone c (n3) does not answer already
  zone a lost (n1): WRITES STOP, 1 voter left of 2 needed
  zone b lost (n2): WRITES STOP, 1 voter left of 2 needed
  n3 does not answer: bring it back, or replace it with replace-node
",
        pad = " ".repeat(address.len() - "ADDRESS".len()),
        short = " ".repeat(address.len() - "127.0.0.1:2".len()),
    );
    assert_eq!(captured.data(), expected);
}

#[tokio::test]
async fn status_works_without_a_quorum_and_with_hung_nodes_within_a_second() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut fake = fake();
    fake.membership.leader_id = 0;
    fake.membership.has_quorum = false;
    fake.membership.nodes[1].address = hung.local_addr().unwrap().to_string();
    let address = fake.serve().await;
    let begun = Instant::now();
    let (ended, captured) = admin(address, "status").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    assert_eq!(ended, Ok(()));
    let data = captured.data();
    assert!(data.contains("cluster feed  no leader  term 7"), "{data}");
    assert!(data.contains("NO QUORUM: 1 voter answers of 2 needed; writes have stopped"), "{data}");
    assert!(data.contains("writes go on once 1 more of n2 n3 answers"), "{data}");
}

#[tokio::test]
async fn status_from_a_follower_that_alone_answers_claims_no_lost_quorum() {
    let mut fake = fake();
    (fake.membership.answered_by_id, fake.membership.answered_by) = (2, "n2".to_owned());
    for node in &mut fake.membership.nodes {
        node.reachable = false;
    }
    let address = fake.serve().await;
    let (ended, captured) = admin(address, "status").await;
    assert_eq!(ended, Ok(()));
    let data = captured.data();
    assert!(data.contains("leader n1") && data.contains("the cluster has a quorum, says n2, but"), "{data}");
    assert!(!data.contains("NO QUORUM"), "{data}");
}

#[tokio::test]
async fn status_as_json_bears_the_tolerance() {
    let address = fake().serve().await;
    let (ended, captured) = admin(address, "status --json").await;
    assert_eq!(ended, Ok(()));
    let json: serde_json::Value = serde_json::from_str(&captured.data()).unwrap();
    assert_eq!(json["hasQuorum"], true);
    assert_eq!(json["tolerance"]["voters"], 3);
    assert_eq!(json["tolerance"]["fatalNodes"], serde_json::json!(["n1", "n2"]));
    assert_eq!(json["commitIndex"], "103");
}

#[tokio::test]
async fn a_change_says_what_it_did_and_what_is_survived_before_and_after() {
    let check =
        |name: &str, detail: &str| Check { name: name.into(), ok: true, detail: detail.into(), ..<_>::default() };
    let steps = vec![
        Ok(ChangeProgress {
            checks: vec![check("answers", "in 3 ms"), check("empty", "waits to be added")],
            tolerance: tolerance(2, 0),
            ..step(Phase::Checks)
        }),
        Ok(step(Phase::LearnerAdded)),
        Ok(ChangeProgress { bytes_total: 2048, ..step(Phase::Snapshot) }),
        Ok(ChangeProgress { bytes_total: 2048, bytes_done: 2048, ..step(Phase::Snapshot) }),
        Ok(ChangeProgress { lag_entries: 12, ..step(Phase::Log) }),
        Ok(step(Phase::Joint)),
        Ok(ChangeProgress { tolerance: tolerance(3, 1), ..step(Phase::Done) }),
    ];
    let address = fake().will(vec![steps]).serve().await;
    let (ended, captured) = admin(address, "add-node n4 10.0.0.4:7400").await;
    assert_eq!(ended, Ok(()));
    let talk = "  ok   answers: in 3 ms\n  ok   empty: waits to be added\nchecks done\nlearner added\n\
                sending a snapshot of 2.00 KiB\ncatching up with the log, 12 entries behind\nchanging the voters\ndone\n";
    assert_eq!(captured.talk(), talk);
    let data = "n4 added as a voter\n  before: 2 voters, quorum 2, survives no failure\n  \
                now:    3 voters, quorum 2, survives any 1 node\n";
    assert_eq!(captured.data(), data);
}

#[tokio::test]
async fn a_change_as_json_is_a_line_for_each_message() {
    let steps = vec![Ok(step(Phase::Checks)), Ok(step(Phase::Done))];
    let address = fake().will(vec![steps]).serve().await;
    let (ended, captured) = admin(address, "promote n4 --json").await;
    assert_eq!(ended, Ok(()));
    let phases: Vec<serde_json::Value> = captured
        .data()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["phase"].take())
        .collect();
    assert_eq!(phases, ["PHASE_CHECKS", "PHASE_DONE"]);
    assert_eq!(captured.talk(), "");
}

#[tokio::test]
async fn a_change_is_gone_on_with_when_the_leader_is_lost_on_the_way() {
    let lost = vec![Ok(step(Phase::Joint)), Err(Fault::new(Reason::NoLeader, "leadership was lost"))];
    let gone = vec![Err(Fault::new(Reason::NodeNotFound, "no node is named n3"))];
    let mut fake = fake().will(vec![lost, gone]);
    let address = fake.serve().await;
    let (ended, captured) = admin(address, "remove-node n3 --etag 7-103").await;
    assert_eq!(ended, Ok(()));
    assert_eq!(captured.data(), "n3 removed\n");
    let etags: Vec<String> = fake.asked.lock().unwrap().iter().map(|request| request.etag.clone()).collect();
    assert_eq!(etags, ["7-103", ""], "the change itself has moved the etag on");
}

#[tokio::test]
async fn a_stream_that_ends_before_the_change_is_done_is_taken_up_again() {
    let cut_short = vec![Ok(step(Phase::Checks))];
    let rest = vec![Ok(step(Phase::Joint)), Ok(step(Phase::Done))];
    let address = fake().will(vec![cut_short, rest]).serve().await;
    let (ended, captured) = admin(address, "promote n4").await;
    assert_eq!((ended, captured.data().as_str()), (Ok(()), "n4 promoted to voter\n"));
    assert!(captured.talk().contains("interrupted (the leader went away"), "{}", captured.talk());
}

#[tokio::test]
async fn refusals_end_with_their_exit_codes_and_say_what_next() {
    for (reason, exit) in [
        (Reason::NodeNotFound, Exit::NotFound),
        (Reason::EtagMismatch, Exit::Conflict),
        (Reason::ChangeInProgress, Exit::Conflict),
        (Reason::NotAllowed, Exit::NotAllowed),
        (Reason::Unsafe, Exit::Refused),
        (Reason::InvalidArgument, Exit::Failure),
    ] {
        let refused = vec![Err(Fault::new(reason, "no").next("do this"))];
        let address = fake().will(vec![refused]).serve().await;
        let (ended, captured) = admin(address, "remove-node n3").await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.exit, exit, "{reason:?}");
        let before = match reason {
            Reason::NodeNotFound => "if it was removed before, nothing is left to do; ",
            _ => "",
        };
        assert_eq!(failure.to_string(), format!("cannot remove node n3: no\n  next: {before}do this"));
        assert_eq!(captured.data(), "");
    }
}

#[tokio::test]
async fn a_dry_run_whose_checks_fail_is_a_refusal() {
    let check = Check { name: "clock".into(), ok: false, detail: "3 s ahead".into(), hint: "set the clock".into() };
    let steps = vec![Ok(ChangeProgress { checks: vec![check], ..step(Phase::Checks) })];
    let address = fake().will(vec![steps]).serve().await;
    let (ended, captured) = admin(address, "add-node n4 10.0.0.4:7400 --dry-run").await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert_eq!(failure.next.as_deref(), Some("set the clock"));
    assert!(captured.talk().contains("FAIL clock: 3 s ahead (set the clock)"), "{}", captured.talk());
}

#[tokio::test]
async fn nobody_listening_is_exit_code_6_within_the_timeout() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for command in ["status", "verify", "snapshot", "remove-node n3", "transfer-leader"] {
        let begun = Instant::now();
        let (ended, _) = admin(closed, command).await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable, "{command}: {failure}");
        assert!(failure.next.is_some(), "{command}: {failure}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{command} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn no_endpoints_are_a_usage_error() {
    let args = Args { endpoints: Vec::new(), ..Args::try_parse_from(["chat-admin", "status"]).unwrap() };
    let (mut output, _) = Output::captured(false);
    let failure = run(args, Dialer::tcp(), &mut output).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
}

#[tokio::test]
async fn equal_replicas_pass_even_if_one_is_starting_and_a_differing_or_silent_one_fails() {
    for (other_digest, starting, serves, exit, words) in [
        (0xab, 0, true, None, "PASS: 2 replicas are equal at index 103"),
        (0xab, 2, true, None, "PASS: 2 replicas are equal at index 103"),
        (0xcd, 0, true, Some(Exit::ChecksFailed), "FAIL: replicas differ at index 103"),
        (0xab, 0, false, Some(Exit::ChecksFailed), "FAIL: n2 could not be asked; the others are equal at index 103"),
    ] {
        let (mut first, mut second) = (fake(), fake());
        first.membership.nodes.truncate(2);
        second.membership.nodes.truncate(2);
        (second.membership.answered_by_id, second.digest) = (2, other_digest);
        second.starting.store(starting, Relaxed);
        if serves {
            first.membership.nodes[1].address = second.serve().await.to_string();
        }
        let address = first.serve().await;
        let (ended, captured) = admin(address, "verify").await;
        assert_eq!(ended.err().map(|failure| failure.exit), exit);
        assert_eq!(captured.data().lines().last(), Some(words));
    }
}

#[tokio::test]
async fn a_backup_appears_whole_private_and_never_over_another_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.backup");
    let address = fake().serve().await;
    let (ended, captured) = admin(address, &format!("backup {}", file.display())).await;
    assert_eq!(ended, Ok(()));
    assert_eq!(captured.data(), format!("backup written: {}, 7 bytes\n", file.display()));
    assert_eq!(std::fs::read(&file).unwrap(), b"archive");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");

    let (ended, _) = admin(address, &format!("backup {}", file.display())).await;
    assert_eq!(ended.unwrap_err().exit, Exit::Conflict);
}

#[tokio::test]
async fn a_backup_without_a_leader_is_made_and_said_to_be_one_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.backup");
    let mut fake = fake();
    (fake.membership.leader_id, fake.membership.has_quorum) = (0, false);
    let address = fake.serve().await;
    let (ended, captured) = admin(address, &format!("backup {}", file.display())).await;
    assert_eq!(ended, Ok(()));
    assert!(captured.talk().starts_with("warning: no leader was found"), "{}", captured.talk());
    assert_eq!(std::fs::read(&file).unwrap(), b"archive");
}

#[tokio::test]
async fn a_plan_needs_no_cluster_and_speaks_as_the_contract_says() {
    let plan = |zones: &'static str| async move {
        let args = Args::try_parse_from(["chat-admin", "plan", "--zones", zones]).unwrap();
        let (mut output, captured) = Output::captured(false);
        (run(args, Dialer::tcp(), &mut output).await, captured.data())
    };
    let (ended, data) = plan("a=3,b=2").await;
    assert_eq!(ended, Ok(()));
    assert_eq!(
        data,
        "5 voters, quorum 3
  survives any 2 nodes
  zone b lost (n4 n5): writes go on, then no further failure
  zone a lost (n1 n2 n3): WRITES STOP, 2 voters left of 3 needed
  two zones can never survive the loss of either; 2+2+1 over three zones survives any 2 nodes and any 1 zone
"
    );
    assert_eq!(plan("a=3,A=2").await.0.unwrap_err().exit, Exit::Usage);
    assert_eq!(plan("a=60,b=5").await.0.unwrap_err().exit, Exit::Usage);
}
