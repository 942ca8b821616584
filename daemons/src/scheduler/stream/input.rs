//! What a host's events mean to the machine.

use df_api::convert::{self, Malformed};
use df_api::scheduler::host_event::Event as Up;
use df_core::scheduler::{Input, PeerKey, SourceFailure};

/// The session an event belongs to; `None` if it names a grant.
pub(super) const fn session_of(event: &Up) -> Option<u64> {
    Some(match event {
        Up::Register(register) => register.session,
        Up::PlanLearned(learned) => learned.session,
        Up::SourceStarted(started) => started.session,
        Up::SourceProgressed(progressed) => progressed.session,
        Up::SourceStored(stored) => stored.session,
        Up::SourceEnded(ended) => ended.session,
        Up::SourceFailed(failed) => failed.session,
        Up::PieceHeld(held) => held.session,
        Up::PieceLost(lost) => lost.session,
        Up::PeerDone(done) => done.session,
        Up::PeerStopped(stopped) => stopped.session,
        Up::PeerLeft(left) => left.session,
        Up::Host(_)
        | Up::Deletions(_)
        | Up::NearlyFinished(_)
        | Up::Progressed(_)
        | Up::PieceFinished(_)
        | Up::PieceFailed(_) => return None,
    })
}

/// An event of a session as an input about its peer.
pub(super) fn peer_input(peer: PeerKey, event: Up) -> Result<Input, Malformed> {
    Ok(match event {
        Up::PlanLearned(learned) => Input::PlanLearned {
            peer,
            plan: convert::plan(learned.plan.unwrap_or_default())?,
            is_ranged: learned.is_ranged,
            version: learned.version,
        },
        Up::SourceStarted(started) => Input::SourceStarted { peer, piece: started.piece },
        Up::SourceProgressed(_) => Input::SourceProgressed { peer },
        Up::SourceStored(stored) => {
            Input::SourceStored { peer, piece: stored.piece, digest: convert::piece_digest(&stored.blake3)? }
        }
        Up::SourceEnded(_) => Input::SourceEnded { peer },
        Up::SourceFailed(failed) => Input::SourceFailed {
            peer,
            failure: SourceFailure { is_final: failed.is_final, is_changed: failed.is_changed },
        },
        Up::PieceHeld(held) => Input::PieceHeld { peer, piece: held.piece },
        Up::PieceLost(lost) => Input::PieceLost { peer, piece: lost.piece },
        Up::PeerDone(_) => Input::PeerDone { peer },
        Up::PeerStopped(_) => Input::PeerStopped { peer },
        Up::PeerLeft(_) => Input::PeerLeft { peer },
        Up::Host(_)
        | Up::Register(_)
        | Up::Deletions(_)
        | Up::NearlyFinished(_)
        | Up::Progressed(_)
        | Up::PieceFinished(_)
        | Up::PieceFailed(_) => {
            return Err(Malformed("not an event of a session".to_owned()));
        }
    })
}
