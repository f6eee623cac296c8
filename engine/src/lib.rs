//! What scheduler and executor must share to the byte: session, storage, raw formats, plan nodes and their codec, Delta scan, write and commit.

pub mod delta;
pub mod depth;
pub mod error;
pub mod names;
pub mod plan;
pub mod raw;
pub mod session;
pub mod settings;
pub mod sql;
pub mod storage;

pub use error::{Code, Error, Result};
pub use names::{RawVersion, SourceName, TableName};
pub use storage::Storage;
