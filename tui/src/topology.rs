//! Who gets a task from whom, as a tree: each host under the parent that sends it most.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Edge, Mark, Role, State, TaskPeer, TaskView};

/// Lines of a tree that are shown at most.
const LINE_LIMIT: usize = 2000;

/// One host in the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Branch {
    /// The host's id.
    pub host: String,
    /// Its name.
    pub hostname: String,
    /// What it is; `None` for the source.
    pub role: Option<Role>,
    /// Where it stands.
    pub idc: String,
    /// The lines that lead to it.
    pub rails: String,
    /// How much it has.
    pub done_per_mille: u32,
    /// What it gets over this edge.
    pub rate_bytes_per_sec: u64,
    /// Hosts right under it.
    pub children: usize,
    /// Hosts below it that are folded away.
    pub folded: usize,
    /// Whether what it gets is little beside what its siblings get.
    pub is_slow: bool,
    /// How the edge to it is.
    pub edge: State,
    /// How the host is.
    pub state: State,
}

struct Growing<'a> {
    peers: BTreeMap<&'a str, &'a TaskPeer>,
    children: BTreeMap<&'a str, Vec<&'a Edge>>,
    folded: &'a BTreeSet<String>,
    seen: BTreeSet<&'a str>,
    branches: Vec<Branch>,
}

/// The tree of a task, source first; `folded` are hosts whose children are hidden. Every host is in it
/// once: hosts nobody sends to now stand under the source without a rate.
pub fn grow(view: &TaskView, folded: &BTreeSet<String>) -> Vec<Branch> {
    let mut best: BTreeMap<&str, &Edge> = BTreeMap::new();
    for edge in &view.edges {
        let weight = |edge: &Edge| (edge.transfers, edge.rate_bytes_per_sec, edge.pieces);
        let held = best.entry(&edge.child).or_insert(edge);
        if weight(edge) > weight(held) {
            *held = edge;
        }
    }
    let mut children: BTreeMap<&str, Vec<&Edge>> = BTreeMap::new();
    for edge in best.values() {
        children.entry(&edge.parent).or_default().push(edge);
    }
    for siblings in children.values_mut() {
        siblings.sort_by(|one, other| {
            let rank = |edge: &Edge| std::cmp::Reverse(edge.rate_bytes_per_sec);
            (rank(one), &one.child).cmp(&(rank(other), &other.child))
        });
    }
    let source = Branch {
        host: String::new(),
        hostname: "source".to_owned(),
        role: None,
        idc: String::new(),
        rails: String::new(),
        done_per_mille: 1000,
        rate_bytes_per_sec: view.task.source_bytes_per_sec,
        children: children.get("").map_or(0, Vec::len),
        folded: 0,
        is_slow: false,
        edge: State::default(),
        state: State::default(),
    };
    let peers = view.peers.iter().map(|peer| (peer.host.as_str(), peer)).collect();
    let mut growing = Growing { peers, children, folded, seen: BTreeSet::from([""]), branches: vec![source] };
    growing.under("", "");
    // Roots of their own: seeds that have it all, and hosts that wait. Mutual parents, where two hosts
    // feed each other, hang on whichever comes first.
    let peers = view.peers.iter().map(|peer| peer.host.as_str());
    let parents: Vec<&str> = growing.children.keys().copied().collect();
    for host in parents.into_iter().chain(peers) {
        if !best.get(host).is_some_and(|edge| growing.peers.contains_key(edge.parent.as_str()) && edge.parent != host) {
            growing.root(host);
        }
    }
    for peer in &view.peers {
        growing.root(&peer.host);
    }
    growing.branches
}

impl<'a> Growing<'a> {
    fn root(&mut self, host: &'a str) {
        if !self.seen.contains(host) {
            self.branch(host, None, String::new(), 0);
            self.under(host, "");
        }
    }

    /// Draws what is below `parent`; recursion ends because every host is drawn once, and is as deep
    /// as the swarm.
    fn under(&mut self, parent: &'a str, rails: &str) {
        if self.branches.len() >= LINE_LIMIT {
            return;
        }
        let mut edges = self.children.get(parent).cloned().unwrap_or_default();
        edges.retain(|edge| !self.seen.contains(edge.child.as_str()));
        if self.folded.contains(parent) {
            let hidden = self.hide(&edges);
            if let Some(branch) = self.branches.last_mut() {
                branch.folded = hidden;
            }
            return;
        }
        let fastest = edges.iter().map(|edge| edge.rate_bytes_per_sec).max().unwrap_or_default();
        let last = edges.len().saturating_sub(1);
        for (at, edge) in edges.into_iter().enumerate() {
            if self.seen.contains(edge.child.as_str()) {
                continue;
            }
            let (fork, rail) = if at == last { ("└─", "  ") } else { ("├─", "│ ") };
            self.branch(&edge.child, Some(edge), format!("{rails}{fork}"), fastest);
            self.under(&edge.child, &format!("{rails}{rail}"));
        }
    }

    /// Takes note of everything below, and counts it.
    fn hide(&mut self, edges: &[&'a Edge]) -> usize {
        let mut hidden = 0;
        let mut queue: Vec<&Edge> = edges.to_vec();
        while let Some(edge) = queue.pop() {
            if self.seen.insert(&edge.child) {
                hidden += 1;
                queue.extend(self.children.get(edge.child.as_str()).into_iter().flatten());
            }
        }
        hidden
    }

    fn branch(&mut self, host: &'a str, edge: Option<&Edge>, rails: String, fastest: u64) {
        self.seen.insert(host);
        let peer = self.peers.get(host);
        let rate_bytes_per_sec = edge.map_or(0, |edge| edge.rate_bytes_per_sec);
        self.branches.push(Branch {
            host: host.to_owned(),
            hostname: peer.map_or_else(|| host.get(..8).unwrap_or(host).to_owned(), |peer| peer.hostname.clone()),
            role: Some(peer.map_or(Role::Peer, |peer| peer.role)),
            idc: peer.map(|peer| peer.idc.clone()).unwrap_or_default(),
            rails,
            done_per_mille: peer.map_or(0, |peer| peer.done_per_mille),
            rate_bytes_per_sec,
            children: self.children.get(host).map_or(0, Vec::len),
            folded: 0,
            // An eighth of the fastest sibling is what somebody would want to look into.
            is_slow: rate_bytes_per_sec > 0 && rate_bytes_per_sec < fastest / 8,
            edge: edge.map_or_else(State::default, |edge| edge.state.clone()),
            state: peer.map_or_else(State::default, |peer| peer.state.clone()),
        });
    }
}

impl Branch {
    /// Whether the edge to it failed, or the host is out of use.
    pub fn is_broken(&self) -> bool {
        self.edge.mark == Mark::Bad || self.state.mark == Mark::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(edges: &[(&str, &str, u64)], peers: &[&str]) -> TaskView {
        let peer =
            |host: &&str| TaskPeer { host: (*host).to_owned(), hostname: (*host).to_owned(), ..TaskPeer::default() };
        let edge = |(parent, child, rate): &(&str, &str, u64)| Edge {
            parent: (*parent).to_owned(),
            child: (*child).to_owned(),
            rate_bytes_per_sec: *rate,
            ..Edge::default()
        };
        TaskView {
            edges: edges.iter().map(edge).collect(),
            peers: peers.iter().map(peer).collect(),
            ..TaskView::default()
        }
    }

    fn drawn(view: &TaskView, folded: &[&str]) -> Vec<String> {
        let folded = folded.iter().map(|host| (*host).to_owned()).collect();
        grow(view, &folded).iter().map(|branch| format!("{}{}", branch.rails, branch.hostname)).collect()
    }

    #[test]
    fn each_host_hangs_on_the_parent_that_sends_it_most() {
        let view = view(
            &[("", "s", 9), ("s", "a", 5), ("s", "b", 7), ("a", "b", 8), ("b", "c", 1)],
            &["s", "a", "b", "c", "d"],
        );
        assert_eq!(drawn(&view, &[]), ["source", "└─s", "  └─a", "    └─b", "      └─c", "d"]);
        let folded = grow(&view, &BTreeSet::from(["a".to_owned()]));
        assert_eq!(folded.iter().map(|branch| branch.folded).collect::<Vec<_>>(), [0, 0, 2, 0]);
    }

    #[test]
    fn hosts_that_feed_each_other_are_drawn_once() {
        let view = view(&[("a", "b", 5), ("b", "a", 5)], &["a", "b"]);
        assert_eq!(drawn(&view, &[]), ["source", "a", "└─b"]);
        assert_eq!(drawn(&self::view(&[("a", "a", 1)], &["a"]), &[]), ["source", "a"]);
    }

    #[test]
    fn an_edge_is_slow_beside_much_faster_siblings() {
        let grown = grow(&view(&[("", "a", 80), ("", "b", 9), ("", "c", 0)], &["a", "b", "c"]), &BTreeSet::new());
        assert_eq!(grown.iter().map(|branch| branch.is_slow).collect::<Vec<_>>(), [false, false, true, false]);
    }
}
