//! The life of tasks and peers: the states of Dragonfly's own vocabulary and the legal steps.

/// A task as its scheduler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TaskState {
    /// Known, but nobody has begun to fetch it.
    #[default]
    Pending,
    /// Being fetched by somebody.
    Running,
    /// At least one peer has all of it.
    Succeeded,
    /// The last attempt failed and no peer has all of it.
    Failed,
}

/// A peer: one host's part in one task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PeerState {
    /// Registered, has not been told anything.
    #[default]
    Pending,
    /// Downloading from other peers.
    Running,
    /// Downloading from the source (and from peers).
    BackToSource,
    /// Has all pieces and serves them.
    Succeeded,
    /// Gave up; serves what it has.
    Failed,
    /// Gone. Final.
    Left,
}

impl TaskState {
    /// Whether a task may go from this state to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        use TaskState::{Failed, Pending, Running, Succeeded};
        matches!(
            (self, next),
            (Pending, Running | Succeeded | Failed)
                | (Running, Succeeded | Failed | Pending)
                | (Succeeded, Running | Pending)
                | (Failed, Running | Succeeded | Pending)
        )
    }
}

impl PeerState {
    /// Whether a peer may go from this state to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        use PeerState::{BackToSource, Failed, Left, Pending, Running, Succeeded};
        matches!(
            (self, next),
            (Pending, Running | BackToSource | Succeeded | Failed | Left)
                | (Running, BackToSource | Succeeded | Failed | Left)
                | (BackToSource, Running | Succeeded | Failed | Left)
                | (Succeeded, Left | Failed)
                | (Failed, Running | Left)
        )
    }

    /// Whether the peer still wants pieces.
    pub const fn is_downloading(self) -> bool {
        matches!(self, Self::Running | Self::BackToSource)
    }

    /// Goes to `next`; panics on a step the life of a peer does not have, which is a bug.
    pub fn step(&mut self, next: Self) {
        debug_assert!(*self == next || self.may_become(next), "a peer cannot go from {self:?} to {next:?}");
        *self = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_left() {
        use PeerState::{BackToSource, Failed, Left, Pending, Running, Succeeded};
        for next in [Pending, Running, BackToSource, Succeeded, Failed, Left] {
            assert!(!Left.may_become(next));
            assert!(!next.may_become(Pending));
        }
    }

    #[test]
    fn no_state_follows_itself() {
        use TaskState::{Failed, Pending, Running, Succeeded};
        assert!([Pending, Running, Succeeded, Failed].into_iter().all(|state| !state.may_become(state)));
    }
}
