//! Parts that views are made of.

pub(crate) mod curve;
pub(crate) mod fields;
pub(crate) mod strip;
pub(crate) mod table;
