//! Pieces of a task on their way into the store: claimed, written, kept or dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use df_api::failure::{Code, Failure};
use df_core::id::PieceDigest;
use df_core::piece::PieceNumber;

use super::{PieceState, StoredTask};
use crate::peer::store::disk_failure;
use crate::peer::store::journal::{Fact, PieceFact};
use crate::peer::store::piece::{Incoming, PieceWriter};
use crate::sync::lock;

impl StoredTask {
    /// How a piece is to be had.
    pub fn piece(&self, piece: PieceNumber) -> PieceState {
        let books = lock(&self.books);
        match books.incoming.get(&piece) {
            // Of a task that is gone, whoever is being served still gets what is whole.
            _ if books.held.contains(piece) => PieceState::Held,
            _ if books.is_gone => PieceState::Missing,
            Some(incoming) => PieceState::Incoming(incoming.clone()),
            None => PieceState::Missing,
        }
    }

    /// The right to write a piece; `None` if it is there or somebody else writes it.
    pub fn begin(self: &Arc<Self>, piece: PieceNumber) -> Option<PieceWriter> {
        let incoming = {
            let mut books = lock(&self.books);
            let range = books.plan?.range(piece);
            if books.is_gone || books.held.contains(piece) || books.incoming.contains_key(&piece) {
                return None;
            }
            let incoming = Arc::new(Incoming::new(range, books.download));
            books.incoming.insert(piece, incoming.clone());
            incoming
        };
        self.changed();
        Some(PieceWriter::new(self.clone(), piece, incoming))
    }

    /// All bytes of a piece are there. If its download has ended meanwhile nobody will say what is to
    /// become of it: then it is dropped.
    pub(in crate::peer) fn arrived(&self, piece: PieceNumber, incoming: &Incoming) {
        let is_wanted = {
            let books = lock(&self.books);
            incoming.has_arrived.store(true, Ordering::Release);
            incoming.download == books.download
        };
        if !is_wanted {
            self.drop_piece(piece);
        }
    }

    /// A download is over, and with it the interest in pieces that have arrived and were not kept:
    /// the next one gets them anew. Those that are still being written fail by themselves.
    pub(in crate::peer) fn end_download(&self) {
        let mut gone = Vec::new();
        {
            let mut books = lock(&self.books);
            books.download += 1;
            books.incoming.retain(|_, incoming| {
                let has_arrived = incoming.has_arrived.load(Ordering::Acquire);
                if has_arrived {
                    gone.push(incoming.clone());
                }
                !has_arrived
            });
        }
        gone.iter().for_each(|incoming| incoming.failed());
        self.changed();
    }

    /// Makes a piece that has arrived and was verified part of the content.
    ///
    /// # Errors
    /// When the journal cannot be written, or the piece was dropped meanwhile; it has failed then.
    pub fn keep(&self, piece: PieceNumber, digest: PieceDigest) -> Result<(), Failure> {
        let kept = {
            let mut books = lock(&self.books);
            let Some(incoming) = books.incoming.remove(&piece) else {
                let dropped = || Failure::new(Code::Internal, "a piece was dropped before it was kept");
                return if books.held.contains(piece) { Ok(()) } else { Err(dropped()) };
            };
            let written = books.journal.append(Fact::Piece(PieceFact::new(piece.get(), digest)));
            if written.is_ok() {
                books.held.insert(piece);
                books.digests.insert(piece.get(), digest);
                books.is_durable = false;
                books.held_bytes += books.plan.map_or(0, |plan| plan.range(piece).len);
                books.seal(&*self.file);
                incoming.kept();
            } else {
                incoming.failed();
            }
            written
        };
        self.changed();
        kept.map_err(|e| disk_failure("write", &self.journal_path, &e))
    }

    /// A piece that was arriving is of no use.
    pub fn drop_piece(&self, piece: PieceNumber) {
        let incoming = lock(&self.books).incoming.remove(&piece);
        if let Some(incoming) = incoming {
            incoming.failed();
            self.changed();
        }
    }

    /// The same of a piece that somebody else may have begun anew: that is left alone.
    pub(in crate::peer) fn drop_incoming(&self, piece: PieceNumber, incoming: &Arc<Incoming>) {
        let is_it = lock(&self.books).incoming.get(&piece).is_some_and(|known| Arc::ptr_eq(known, incoming));
        if is_it {
            self.drop_piece(piece);
        }
    }
}
