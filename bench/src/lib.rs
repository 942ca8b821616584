//! Measures: what the benches in `benches/` share.

use df_core::piece::{PieceNumber, PiecePlan};

/// A content of this many pieces of one byte.
pub fn content(pieces: u32) -> PiecePlan {
    PiecePlan::with_piece_len(u64::from(pieces), 1).expect("a plan within the limits")
}

/// Piece `number` of a content that has it.
pub fn piece(content: &PiecePlan, number: u32) -> PieceNumber {
    content.number(number).expect("a piece of the content")
}
