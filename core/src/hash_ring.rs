//! Which scheduler owns a task: consistent hashing.

use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use crate::id::TaskId;

/// Points each node has on the ring: at 128 the largest share of 10 nodes is about 1.2 of the mean.
pub const POINTS_PER_NODE: u32 = 128;

/// A ring of named nodes. A task belongs to the node whose point comes first at or after the
/// task's own place; removing one of n nodes moves only that node's tasks, about 1/n of all.
///
/// The places are specified, so that every implementation agrees: node `name` has the points
/// `xxh3_64(name bytes, then i as 4 bytes little-endian)` for i in `0..POINTS_PER_NODE`; a task's
/// place is the first 8 bytes of its id, big-endian. Equal points: the smaller name first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashRing {
    nodes: Vec<String>,
    points: Vec<(u64, u32)>,
}

impl HashRing {
    /// The ring of these nodes; order and repetitions do not matter.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut nodes: Vec<String> = names.into_iter().collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut points = Vec::with_capacity(nodes.len() * POINTS_PER_NODE as usize);
        for (node, name) in nodes.iter().enumerate() {
            let mut key = name.clone().into_bytes();
            for replica in 0..POINTS_PER_NODE {
                key.truncate(name.len());
                key.extend_from_slice(&replica.to_le_bytes());
                points.push((xxh3_64(&key), node as u32));
            }
        }
        points.sort_unstable();
        Self { nodes, points }
    }

    /// The node that owns a task; `None` on an empty ring.
    pub fn owner(&self, task: &TaskId) -> Option<&str> {
        self.owners(task).next()
    }

    /// All nodes in the order in which they own a task: the owner, then who takes over if it is
    /// lost, and so on.
    pub fn owners(&self, task: &TaskId) -> impl Iterator<Item = &str> {
        let start = self.points.partition_point(|(point, _)| *point < place(task));
        let (before, after) = self.points.split_at(start);
        let mut seen = alloc::vec![false; self.nodes.len()];
        after.iter().chain(before).filter_map(move |(_, node)| {
            let is_new = !core::mem::replace(&mut seen[*node as usize], true);
            is_new.then(|| self.nodes[*node as usize].as_str())
        })
    }

    /// The nodes, sorted.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }
}

fn place(task: &TaskId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *task.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::format;

    use super::*;
    use crate::rng::Rng;

    fn tasks(count: usize) -> impl Iterator<Item = TaskId> {
        let mut rng = Rng::new(1);
        (0..count).map(move |_| TaskId::from_bytes(core::array::from_fn(|_| rng.next_u64() as u8)))
    }

    fn ring(nodes: u32) -> HashRing {
        HashRing::new((0..nodes).map(|node| format!("10.0.0.{node}:8002")))
    }

    /// Frozen, and computed once more by another implementation of xxh3: other versions of this
    /// project have to agree on who owns what.
    #[test]
    fn golden_owners() {
        let ring = ring(5);
        assert_eq!(ring.points[0], (9_444_540_392_362_513, 3));
        let golden = [(0, 3), (1 << 63, 2), (0x0123_4567_89ab_cdef, 3), (u64::MAX, 3), (0x5555_5555_5555_5555, 3)];
        for (place, owner) in golden {
            let mut id = [0xee; TaskId::LEN];
            id[..8].copy_from_slice(&u64::to_be_bytes(place));
            assert_eq!(ring.owner(&TaskId::from_bytes(id)), Some(format!("10.0.0.{owner}:8002").as_str()));
        }
    }

    #[test]
    fn shares_are_balanced() {
        let ring = ring(10);
        let mut counts = [0_u32; 10];
        for task in tasks(20_000) {
            let owner = ring.owner(&task).unwrap();
            counts[ring.nodes().iter().position(|node| node == owner).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (1400..2700).contains(count)), "{counts:?}");
    }

    #[test]
    fn losing_a_node_moves_only_its_tasks_to_the_next_owner() {
        let all = ring(10);
        let rest = HashRing::new(all.nodes().iter().filter(|node| *node != "10.0.0.3:8002").cloned());
        for task in tasks(2_000) {
            let owners: Vec<&str> = all.owners(&task).collect();
            let expected = if owners[0] == "10.0.0.3:8002" { owners[1] } else { owners[0] };
            assert_eq!(rest.owner(&task), Some(expected));
            assert_eq!(owners.len(), 10);
        }
    }

    #[test]
    fn empty_and_repeated_nodes() {
        let task = tasks(1).next().unwrap();
        assert_eq!(HashRing::default().owner(&task), None);
        assert_eq!(HashRing::new(["a".to_owned(), "a".to_owned()]), HashRing::new(["a".to_owned()]));
    }
}
