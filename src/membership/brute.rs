//! Compares the figures with brute force, which tries every subset of nodes and of zones.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Change, Layout, Node, Verdict, judge};
use crate::types::NodeId;

/// Whether writes go on when the nodes `lost` fail too.
fn works(layout: &Layout, lost: &BTreeSet<NodeId>) -> bool {
    layout.voter_sets().iter().all(|set| {
        let up = set.iter().filter(|id| !lost.contains(id) && layout.node(**id).is_some_and(|node| node.healthy));
        up.count() * 2 > set.len()
    })
}

/// How many of `items`, whichever, may be lost. Each item is a set of nodes.
fn survivable(layout: &Layout, items: &[BTreeSet<NodeId>]) -> usize {
    let fewest_fatal = (0_u32..1 << items.len())
        .filter(|mask| {
            let lost = (0..items.len()).filter(|bit| mask >> bit & 1 == 1).flat_map(|bit| items[bit].clone());
            !works(layout, &lost.collect())
        })
        .map(|mask| mask.count_ones() as usize)
        .min();
    fewest_fatal.map_or(items.len(), |fatal| fatal.saturating_sub(1))
}

fn each_node(layout: &Layout) -> Vec<BTreeSet<NodeId>> {
    layout.nodes().iter().filter(|node| node.healthy).map(|node| [node.id].into()).collect()
}

fn each_zone(layout: &Layout) -> Vec<(String, BTreeSet<NodeId>)> {
    let named: BTreeSet<&str> =
        layout.voters().map(|node| node.zone.as_str()).filter(|zone| !zone.is_empty()).collect();
    let members = |zone: &str| layout.nodes().iter().filter(|node| node.zone == zone).map(|node| node.id).collect();
    named.into_iter().map(|zone| (zone.to_owned(), members(zone))).collect()
}

const NODES: usize = 9;

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (prop::sample::select(vec!["", "a", "b", "c", "d"]), prop::bool::weighted(0.75));
    prop::collection::vec(node, 1..=NODES).prop_map(|nodes| {
        let named = |(id, (zone, healthy)): (NodeId, (&str, bool))| Node {
            id,
            name: format!("n{id}"),
            zone: zone.to_owned(),
            healthy,
        };
        (1..).zip(nodes).map(named).collect()
    })
}

fn subset(of: usize) -> impl Strategy<Value = BTreeSet<NodeId>> {
    prop::collection::btree_set(1..=of as NodeId, 1..=of)
}

fn settled() -> impl Strategy<Value = Layout> {
    nodes().prop_flat_map(|nodes| subset(nodes.len()).prop_map(move |voters| Layout::new(nodes.clone(), voters)))
}

fn any_layout() -> impl Strategy<Value = Layout> {
    let joint = nodes().prop_flat_map(|nodes| {
        let sets = (subset(nodes.len()), subset(nodes.len()));
        sets.prop_map(move |(old, new)| Layout::joint(nodes.clone(), old, new))
    });
    prop_oneof![settled(), joint]
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = 1..=NODES as NodeId;
    let fresh = (prop::sample::select(vec!["", "a", "b", "e"]), prop::bool::weighted(0.8))
        .prop_map(|(zone, healthy)| Node { id: 100, name: "n100".to_owned(), zone: zone.to_owned(), healthy });
    prop_oneof![
        fresh.clone().prop_map(Change::Add),
        fresh.clone().prop_map(Change::AddLearner),
        id.clone().prop_map(Change::Remove),
        (id.clone(), fresh).prop_map(|(old, new)| Change::Replace { old, new }),
        id.clone().prop_map(Change::Promote),
        id.prop_map(Change::Demote),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_figures_equal_those_of_trying_every_subset(layout in any_layout()) {
        let tolerance = layout.tolerance();
        let now = works(&layout, &BTreeSet::new());
        prop_assert_eq!(tolerance.has_quorum(), now);
        prop_assert_eq!(tolerance.survives_any_nodes, survivable(&layout, &each_node(&layout)));
        let designed = layout.all_healthy();
        prop_assert_eq!(tolerance.designed_nodes, survivable(&designed, &each_node(&designed)));
        let zones = each_zone(&layout);
        let members: Vec<_> = zones.iter().map(|(_, members)| members.clone()).collect();
        prop_assert_eq!(tolerance.survives_any_zones, survivable(&layout, &members));

        let fatal_nodes: Vec<String> = layout
            .nodes()
            .iter()
            .filter(|node| now && !works(&layout, &[node.id].into()))
            .map(|node| node.name.clone())
            .collect();
        prop_assert_eq!(&tolerance.fatal_nodes, &fatal_nodes);
        let fatal_zones: Vec<&String> =
            zones.iter().filter(|(_, lost)| now && !works(&layout, lost)).map(|(zone, _)| zone).collect();
        prop_assert_eq!(tolerance.fatal_zones.iter().collect::<Vec<_>>(), fatal_zones);
    }

    #[test]
    fn what_each_zones_loss_leaves_equals_trying_it(layout in any_layout()) {
        let tolerance = layout.tolerance();
        for (loss, (zone, lost)) in tolerance.zones.iter().zip(each_zone(&layout)) {
            let without: Vec<Node> = layout
                .nodes()
                .iter()
                .map(|node| Node { healthy: node.healthy && !lost.contains(&node.id), ..node.clone() })
                .collect();
            let sets = layout.voter_sets();
            let rest = Layout::joint(without, sets[0].clone(), sets[sets.len() - 1].clone());
            let goes_on = works(&rest, &BTreeSet::new());
            prop_assert_eq!(&loss.zone, &zone);
            prop_assert_eq!(loss.then_any_nodes, goes_on.then(|| survivable(&rest, &each_node(&rest))));
        }
    }

    #[test]
    fn a_change_is_allowed_exactly_if_majorities_answer_before_and_after(layout in settled(), change in any_change()) {
        let verdict = judge(&layout, &change);
        let Ok(after) = layout.after(&change) else {
            prop_assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
            return Ok(());
        };
        let none = BTreeSet::new();
        if after == layout {
            prop_assert!(matches!(verdict, Verdict::Ok { .. }), "{verdict:?}");
            return Ok(());
        }
        let silent_voter = after.voters().any(|node| !node.healthy && !layout.is_voter(node.id));
        let safe = works(&layout, &none) && works(&after, &none) && !silent_voter;
        prop_assert_eq!(!matches!(verdict, Verdict::Refused { .. }), safe, "{:?}", verdict);
        if safe {
            let (was, will_be) = (layout.tolerance(), after.tolerance());
            let falls = will_be.survives_any_nodes < was.survives_any_nodes;
            prop_assert_eq!(matches!(verdict, Verdict::NeedsFlag { .. }), falls);
            let takes_away = matches!(change, Change::Remove(_) | Change::Demote(_));
            prop_assert!(!falls || takes_away, "only removing or demoting lowers the tolerance");
            if takes_away && will_be.survives_any_zones < was.survives_any_zones {
                // What a removal does to zones needs no flag of its own: where nodes without a zone outvote the
                // others, only the count of zones shrinks with the last voter of one.
                prop_assert!(falls || layout.voters().any(|node| node.zone.is_empty()));
            }
        }
    }
}

#[test]
fn the_largest_layout_is_judged_at_once() {
    let zones: Vec<String> = (0..8).map(|zone| format!("z{zone}")).collect();
    let layout = Layout::of_zones(zones.iter().map(|zone| (zone.as_str(), 8)));
    let tolerance = layout.tolerance();
    assert_eq!((tolerance.survives_any_nodes, tolerance.survives_any_zones), (31, 3));
    let one_more = Node { id: 65, name: "n65".into(), zone: "z0".into(), healthy: true };
    assert!(matches!(judge(&layout, &Change::Add(one_more)), Verdict::Refused { .. }));
}
