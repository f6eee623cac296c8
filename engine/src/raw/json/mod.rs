//! Reads JSON text into Arrow columns, and infers what columns it has, in one pass over the bytes and only for the fields that are asked for.

pub(crate) mod columns;
pub(crate) mod decoder;
pub(crate) mod lex;
mod map;
pub(crate) mod observe;
pub(crate) mod records;
pub(crate) mod walk;
