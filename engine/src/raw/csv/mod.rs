//! Reads CSV text into Arrow columns.

pub(crate) mod decoder;
pub mod header;
