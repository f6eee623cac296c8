//! The scheduler: jobs and pipelines, their journal, and the API through which clients reach them.

pub mod auth;
pub mod jobs;
pub mod pipeline;
pub mod service;
pub mod settings;

pub use service::{CatalogReader, Parts, RawReader, Rows, SqlRunner, serve};
pub use settings::Settings;
