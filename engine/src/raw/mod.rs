//! The raw zone and its text: downloads that find record-aligned splits on the way, a scan that reads any raw file in parallel, and schema inference.
//!
//! [`fetch`] streams an origin into a version's folder through a [`scanner`]; [`zone`] makes the version visible by its [`manifest`]; [`table`] plans a
//! scan of it, one [`source`] piece a split; [`infer`] tells its columns.

pub(crate) mod csv;
pub mod infer;
pub(crate) mod json;
pub mod manifest;
pub(crate) mod piece;
pub mod scanner;
pub(crate) mod text;
pub mod zone;

pub use infer::{JsonType, RawSchema};
pub use manifest::{JsonLayout, Manifest, Part, RawFormat, Split};
pub use zone::RawZone;
