//! Pieces: how a content is cut, which pieces somebody has, how rare each is, which to take next.

pub mod availability;
pub mod plan;
pub mod selector;
pub mod set;

pub use availability::Availability;
pub use plan::{ByteRange, PieceNumber, PiecePlan, PlanError};
pub use selector::{Order, Selector};
pub use set::PieceSet;
