//! Delta Lake tables as Trireme uses them: distributed scan and write, merge on read or copy on write, exactly-once commits, catalog.
//!
//! Executors write files that nobody refers to ([`write`]); only the driver commits ([`commit`]). `engine-facts.md`, chapter "deltalake",
//! tells why the library's own scan, write and merge are not used for data.

pub mod actions;
mod bloom;
pub mod catalog;
mod chain;
pub mod clauses;
pub mod codec;
pub mod commit;
mod commit_info;
pub mod content;
pub mod deletion_vector;
mod encodings;
pub mod feature;
mod files;
mod key_file;
mod key_hash;
mod keys;
pub mod layout;
mod masked;
pub mod matching;
pub mod merge;
pub mod nulls;
pub mod optimize;
mod provenance;
pub mod quarantine;
mod row_groups;
pub mod scan;
pub mod schema;
pub mod source;
pub mod stats;
pub mod table;
pub mod write;
pub mod writer;
pub mod written;
pub mod z_order;

#[cfg(test)]
mod tests;

pub use clauses::{ClauseMerge, Clauses};
pub use commit::{CommitLabel, Committed, Txn};
pub use content::{Content, Delivery};
pub use files::DataFiles;
pub use provenance::JobCommits;
pub use scan::DeltaTableScan;
pub use schema::SchemaPolicy;
pub use table::Table;
pub use write::{DeltaWriteExec, WriteSettings, WriteSpec};
pub use written::{WriteOutcome, WriteSummary};
