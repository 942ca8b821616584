//! The plan by which a content is cut into pieces.

use core::fmt;

const MIB: u64 = 1 << 20;

/// Most pieces a plan may have: with it every per-piece table has a known limit
/// (4 Mi pieces of 4 MiB are 16 TiB).
pub const PIECE_COUNT_LIMIT: u32 = 1 << 22;

/// The largest explicit piece length.
pub const PIECE_LEN_LIMIT: u64 = 1 << 30;

/// A piece of a particular [`PiecePlan`], which alone makes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceNumber(u32);

impl PieceNumber {
    /// The number as the wire and tables use it.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as an index of per-piece tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Distance in pieces between two pieces of one content.
    pub const fn distance(self, other: Self) -> u32 {
        self.0.abs_diff(other.0)
    }

    /// A number read back from a table that only holds numbers of the right plan.
    pub(crate) const fn from_table(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Debug for PieceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PieceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A run of bytes of the content: `start` and `len` in bytes, never past 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Number of bytes, may be 0.
    pub len: u64,
}

impl ByteRange {
    /// First byte after the range.
    pub const fn end(self) -> u64 {
        self.start + self.len
    }
}

/// Why a plan cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// The piece length is 0 or above [`PIECE_LEN_LIMIT`].
    PieceLength(u64),
    /// The content would need more than [`PIECE_COUNT_LIMIT`] pieces.
    TooManyPieces {
        /// Content length in bytes.
        content_len: u64,
        /// Piece length in bytes.
        piece_len: u64,
    },
    /// The content's end contradicts pieces already there.
    Contradiction,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PieceLength(len) => write!(f, "piece length {len} is not between 1 and {PIECE_LEN_LIMIT} bytes"),
            Self::TooManyPieces { content_len, piece_len } => {
                write!(f, "{content_len} bytes in pieces of {piece_len} are more than {PIECE_COUNT_LIMIT} pieces")
            }
            Self::Contradiction => f.write_str("the length of the content contradicts the pieces already received"),
        }
    }
}

impl core::error::Error for PlanError {}

/// How a content is cut: all pieces are `piece_len` bytes long but the last, which has the rest.
///
/// While the content's length is unknown (a source that streams) the plan is *open*: every number
/// below [`PIECE_COUNT_LIMIT`] may exist and is taken to be whole, until [`PiecePlan::close`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PiecePlan {
    piece_len: u64,
    content_len: Option<u64>,
}

impl PiecePlan {
    /// The default rule: 4 MiB pieces below 200 MiB, else 2 MiB and one for each full 100 MiB of
    /// content, at most 15 MiB (Dragonfly v1's rule), grown where the content would not fit in
    /// [`PIECE_COUNT_LIMIT`] pieces.
    ///
    /// # Errors
    /// None below 4 PiB: [`PlanError::TooManyPieces`] above.
    pub fn for_content(content_len: u64) -> Result<Self, PlanError> {
        let by_rule = Self::default_piece_len(content_len);
        let to_fit = content_len.div_ceil(u64::from(PIECE_COUNT_LIMIT));
        Self::with_piece_len(content_len, by_rule.max(to_fit.div_ceil(MIB) * MIB).min(PIECE_LEN_LIMIT))
    }

    /// The piece length the default rule gives a content of this length, in bytes.
    pub const fn default_piece_len(content_len: u64) -> u64 {
        if content_len < 200 * MIB {
            return 4 * MIB;
        }
        let mebibytes = content_len / (100 * MIB) + 2;
        (if mebibytes < 15 { mebibytes } else { 15 }) * MIB
    }

    /// A plan with an explicit piece length in bytes.
    ///
    /// # Errors
    /// [`PlanError::PieceLength`] and [`PlanError::TooManyPieces`].
    pub fn with_piece_len(content_len: u64, piece_len: u64) -> Result<Self, PlanError> {
        let mut plan = Self::open(piece_len)?;
        plan.close(content_len)?;
        Ok(plan)
    }

    /// A plan for a content whose length is not known yet.
    ///
    /// # Errors
    /// [`PlanError::PieceLength`].
    pub const fn open(piece_len: u64) -> Result<Self, PlanError> {
        if piece_len == 0 || piece_len > PIECE_LEN_LIMIT {
            return Err(PlanError::PieceLength(piece_len));
        }
        Ok(Self { piece_len, content_len: None })
    }

    /// Tells an open plan where the content ends; repeating the same length is harmless.
    ///
    /// # Errors
    /// [`PlanError::TooManyPieces`], or [`PlanError::Contradiction`] with an earlier length.
    pub fn close(&mut self, content_len: u64) -> Result<(), PlanError> {
        if self.content_len.is_some_and(|known| known != content_len) {
            return Err(PlanError::Contradiction);
        }
        if content_len.div_ceil(self.piece_len) > u64::from(PIECE_COUNT_LIMIT) {
            return Err(PlanError::TooManyPieces { content_len, piece_len: self.piece_len });
        }
        self.content_len = Some(content_len);
        Ok(())
    }

    /// Length of every piece but the last, in bytes.
    pub const fn piece_len(&self) -> u64 {
        self.piece_len
    }

    /// Length of the content in bytes, once known.
    pub const fn content_len(&self) -> Option<u64> {
        self.content_len
    }

    /// Number of pieces, once known; an empty content has none.
    pub const fn count(&self) -> Option<u32> {
        match self.content_len {
            Some(len) => Some(len.div_ceil(self.piece_len) as u32),
            None => None,
        }
    }

    /// The piece with this number, if the content has it.
    pub fn number(&self, number: u32) -> Option<PieceNumber> {
        (number < self.count().unwrap_or(PIECE_COUNT_LIMIT)).then_some(PieceNumber(number))
    }

    /// The piece that contains the byte at `offset`, if the content has it.
    pub fn piece_at(&self, offset: u64) -> Option<PieceNumber> {
        if self.content_len.is_some_and(|len| offset >= len) {
            return None;
        }
        u32::try_from(offset / self.piece_len).ok().and_then(|number| self.number(number))
    }

    /// The bytes of a piece. While the plan is open the last piece is still thought whole.
    pub fn range(&self, piece: PieceNumber) -> ByteRange {
        let start = u64::from(piece.0) * self.piece_len;
        let end = start + self.piece_len;
        ByteRange { start, len: self.content_len.map_or(end, |len| len.min(end)).saturating_sub(start) }
    }

    /// All pieces in order; nothing while the plan is open.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceNumber> + use<> {
        (0..self.count().unwrap_or(0)).map(PieceNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rule_at_its_edges() {
        let table = [
            (0, 4 * MIB, 0),
            (1, 4 * MIB, 1),
            (4 * MIB, 4 * MIB, 1),
            (4 * MIB + 1, 4 * MIB, 2),
            (200 * MIB - 1, 4 * MIB, 50),
            (200 * MIB, 4 * MIB, 50),
            (256 * MIB, 4 * MIB, 64),
            (300 * MIB, 5 * MIB, 60),
            (1300 * MIB, 15 * MIB, 87),
            (100 << 30, 15 * MIB, 6827),
        ];
        for (content, piece, count) in table {
            let plan = PiecePlan::for_content(content).unwrap();
            assert_eq!((plan.piece_len(), plan.count()), (piece, Some(count)), "{content}");
        }
    }

    #[test]
    fn contents_beyond_the_piece_limit_get_longer_pieces_or_a_refusal() {
        let huge = PiecePlan::for_content(1 << 50).unwrap();
        assert!(huge.count().unwrap() <= PIECE_COUNT_LIMIT && huge.piece_len() == 256 * MIB);
        assert!(matches!(PiecePlan::for_content(u64::MAX), Err(PlanError::TooManyPieces { .. })));
        assert!(matches!(PiecePlan::with_piece_len(1 << 40, 1), Err(PlanError::TooManyPieces { .. })));
        assert_eq!(PiecePlan::with_piece_len(1, 0), Err(PlanError::PieceLength(0)));
        assert!(PiecePlan::with_piece_len(1, PIECE_LEN_LIMIT + 1).is_err());
    }

    #[test]
    fn ranges_tile_the_content() {
        for len in [0, 1, 99, 100, 101, 200, 1234] {
            let plan = PiecePlan::with_piece_len(len, 100).unwrap();
            let mut next = 0;
            for piece in plan.pieces() {
                let range = plan.range(piece);
                assert_eq!(range.start, next);
                assert!(range.len > 0);
                assert_eq!(plan.piece_at(range.start), Some(piece));
                assert_eq!(plan.piece_at(range.end() - 1), Some(piece));
                next = range.end();
            }
            assert_eq!(next, len);
            assert_eq!(plan.piece_at(len), None);
            assert_eq!(plan.number(plan.count().unwrap()), None);
        }
    }

    #[test]
    fn an_open_plan_closes_once() {
        let mut plan = PiecePlan::open(10).unwrap();
        let third = plan.number(2).unwrap();
        assert_eq!((plan.count(), plan.range(third).len), (None, 10));
        plan.close(25).unwrap();
        assert_eq!((plan.count(), plan.range(third).len), (Some(3), 5));
        assert_eq!(plan.close(25), Ok(()));
        assert_eq!(plan.close(26), Err(PlanError::Contradiction));
    }
}
