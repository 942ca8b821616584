//! Tasks, one of them closely, and contents cached on this node.

use serde::Serialize;

use super::{Role, State};

/// One task in the whole cluster.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Task {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Where its content is from, or the name of a cached content.
    pub url: String,
    /// How it goes.
    pub state: State,
    /// Length of the content; `None` while unknown.
    pub content_length: Option<u64>,
    /// Length of a piece.
    pub piece_length: u64,
    /// How many pieces.
    pub total_pieces: u32,
    /// Sets versions of a URL apart.
    pub tag: String,
    /// Who it is for.
    pub application: String,
    /// Its scheduler.
    pub scheduler: String,
    /// Peers that have or fetch it.
    pub peers: u32,
    /// Those of them that have all of it.
    pub complete_peers: u32,
    /// Those of them that are seed peers.
    pub seeds: u32,
    /// How much of it peers have on average.
    pub done_per_mille: u32,
    /// What its peers receive now.
    pub rate_bytes_per_sec: u64,
    /// What its source sends now.
    pub source_bytes_per_sec: u64,
    /// Bytes its peers received.
    pub download_bytes: u64,
    /// Those of them that its source sent.
    pub source_bytes: u64,
    /// Copies of its rarest piece.
    pub rarest_copies: u32,
    /// When all peers will have it, by its rate.
    pub left_s: Option<u64>,
    /// When its first peer came.
    pub begun_at: u64,
    /// What failed last.
    pub failure: String,
}

impl Task {
    /// What people call it: the last part of its URL that says something.
    pub fn name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.trim_end_matches('/').rsplit('/').find(|part| !part.is_empty()).unwrap_or(&self.id)
    }

    /// The part of its bytes that its source sent.
    pub fn source_per_mille(&self) -> Option<u32> {
        let share = (u128::from(self.source_bytes) * 1000).checked_div(u128::from(self.download_bytes))?;
        u32::try_from(share.min(1000)).ok()
    }
}

/// What one host has of the pieces in one cell of the piece map.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// Nothing.
    #[default]
    None,
    /// One is on its way.
    Asked,
    /// All of them.
    Have,
    /// Some of them.
    Partly,
    /// The last attempt failed.
    Bad,
}

/// The task that is looked at, with its pieces, its peers, and who sends to whom.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct TaskView {
    /// The task.
    pub task: Task,
    /// The host whose pieces are shown.
    pub host: String,
    /// Its name.
    pub hostname: String,
    /// Pieces that one cell stands for.
    pub pieces_per_cell: u32,
    /// What that host has, cell by cell.
    pub cells: Vec<Cell>,
    /// Copies of the rarest piece of each cell.
    pub copies: Vec<u32>,
    /// The rarest pieces that somebody lacks: number and copies, rarest first.
    pub rarest: Vec<(u32, u32)>,
    /// Its peers, those with the least first.
    pub peers: Vec<TaskPeer>,
    /// Who sends to whom.
    pub edges: Vec<Edge>,
    /// Peers that are left out here.
    pub more_peers: u32,
}

impl TaskView {
    /// The peer on this host.
    pub fn peer(&self, host: &str) -> Option<&TaskPeer> {
        self.peers.iter().find(|peer| peer.host == host)
    }
}

/// One peer of the task that is looked at.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct TaskPeer {
    /// Its host's id.
    pub host: String,
    /// Its host's name.
    pub hostname: String,
    /// Peer or seed peer.
    pub role: Role,
    /// Where it stands.
    pub idc: String,
    /// Pieces it has.
    pub held_pieces: u32,
    /// How much it has.
    pub done_per_mille: u32,
    /// What it receives.
    pub download_bytes_per_sec: u64,
    /// What it sends.
    pub upload_bytes_per_sec: u64,
    /// How it is.
    pub state: State,
}

/// One child and one parent of it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Edge {
    /// The parent's host; empty for the source.
    pub parent: String,
    /// Its name.
    pub parent_name: String,
    /// What it is; `None` for the source.
    pub role: Option<Role>,
    /// Where it stands.
    pub idc: String,
    /// The child's host.
    pub child: String,
    /// Pieces on their way.
    pub transfers: u32,
    /// Pieces that came.
    pub pieces: u32,
    /// Pieces that did not.
    pub failures: u32,
    /// What goes over it now.
    pub rate_bytes_per_sec: u64,
    /// How it is.
    pub state: State,
}

/// A content cached on this node.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Content {
    /// What it is called.
    pub cid: String,
    /// The name's tag.
    pub tag: String,
    /// Its task.
    pub task_id: String,
    /// `None` while unknown.
    pub content_length: Option<u64>,
    /// Bytes of it that are here.
    pub stored_bytes: u64,
    /// Whether it is whole.
    pub state: State,
    /// Imported here: not evicted.
    pub is_pinned: bool,
    /// When it came.
    pub created_at: u64,
    /// When it was used last.
    pub used_at: u64,
    /// When it is dropped.
    pub expires_at: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_called_by_the_end_of_its_url() {
        let name = |url: &str| Task { id: "9f".to_owned(), url: url.to_owned(), ..Task::default() }.name().to_owned();
        assert_eq!(name("https://h/a/model.bin?x=1/2#3"), "model.bin");
        assert_eq!(name("https://h/a/"), "a");
        assert_eq!([name(""), name("///")], ["9f", "9f"]);
    }
}
