//! Nodes whose disks are not trusted, and nodes that are stuck.

use super::*;

const WHY: &str = "n2's disk cannot be trusted until n3 is heard: it was copied, moved or restored";

#[tokio::test]
async fn a_node_whose_disk_is_not_trusted_is_named_and_carries_nothing() {
    let mut fake = fake();
    let node = &mut fake.membership.nodes[1];
    (node.condition, node.condition_reason) = ("verifying".into(), WHY.into());
    let address = fake.serve().await.to_string();
    let (ended, captured) = admin(&address, "status").await;
    assert_eq!(ended, Ok(()));
    let data = captured.data();
    assert!(data.contains(&format!("n2 is verifying: {WHY}")), "{data}");
    assert!(data.contains("too few nodes answer here"), "n3 is away, and n2 does not count: {data}");
    let (_, captured) = admin(&address, "verify").await;
    let data = captured.data();
    assert!(data.contains(&format!("verifying: {WHY}")), "{data}");
}
