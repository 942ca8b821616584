//! What of a content is in one zone: so that each piece crosses into it once.

use alloc::vec::Vec;

use crate::piece::{PieceNumber, PieceSet};

/// Copies of each piece in one zone, present or on their way.
#[derive(Debug, Default)]
pub(super) struct ZoneBook {
    pub(super) members: u32,
    copies: Vec<u32>,
    present: PieceSet,
}

impl ZoneBook {
    /// One copy more, or one less.
    pub(super) fn count(&mut self, piece: PieceNumber, is_more: bool) {
        if self.copies.len() <= piece.index() {
            self.copies.resize(piece.index() + 1, 0);
        }
        let copies = &mut self.copies[piece.index()];
        if is_more {
            *copies += 1;
            self.present.insert(piece);
        } else {
            *copies -= 1;
            if *copies == 0 {
                self.present.remove(piece);
            }
        }
    }

    /// Pieces with a copy in the zone or on its way into it.
    pub(super) const fn present(&self) -> &PieceSet {
        &self.present
    }

    /// Copies of one piece.
    pub(super) fn copies(&self, piece: PieceNumber) -> u32 {
        self.copies.get(piece.index()).copied().unwrap_or(0)
    }
}
