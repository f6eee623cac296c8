//! Reads CSV text into Arrow columns.

pub(crate) mod decoder;
mod ends;
pub mod header;
