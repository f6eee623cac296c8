//! The raw zone and its text: downloads that find record-aligned splits on the way, a scan that reads any raw file in parallel, and schema inference.
//!
//! [`fetch`] streams an origin into a version's folder through a [`scanner`]; [`zone`] makes the version visible by its [`manifest`]; [`table`] plans a
//! scan of it, one [`source`] piece a split; [`infer`] tells its columns.

pub mod adopt;
pub(crate) mod archive;
pub mod charset;
pub mod codec;
pub(crate) mod csv;
pub(crate) mod decimal;
pub mod dialect;
pub mod fetch;
pub mod infer;
pub(crate) mod intake;
pub(crate) mod json;
pub mod manifest;
pub mod marks;
pub(crate) mod packed;
pub(crate) mod piece;
pub mod places;
mod prune;
pub mod report;
pub mod scanner;
pub mod source;
pub mod stored;
pub mod table;
pub mod task;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod upload;
pub mod zone;

pub use adopt::{Adoption, adopt_outcomes, adopt_plan};
pub use charset::Charset;
pub use dialect::{CsvOptions, Dialect, GivenOptions, TextOptions};
pub use fetch::{AllowedOrigins, Checksum, FetchOutcome, FetchRequest, Fetched, Previous, Seen, Slice, fetch};
pub use infer::{JsonType, Kind, Observed, RawSchema};
pub use intake::CopyPolicy;
pub use manifest::{Compression, Delivered, JsonLayout, Manifest, Part, RawFormat, Split};
pub use marks::{Deliveries, Dropped, Mark};
pub use report::{FieldReport, KindReport, SchemaReport, schema_report};
pub use source::{RawSource, Tells};
pub use table::{RawTable, known_columns};
pub use task::{download_outcomes, download_plan, infer_plan, inferred_schema, list_plan, listed_files};
pub use zone::RawZone;
