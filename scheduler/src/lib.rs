//! The scheduler: jobs and pipelines, their journal, the work they do on the cluster, and the API through which clients reach them.

pub mod auth;
pub mod cluster;
pub mod jobs;
pub mod pipeline;
pub mod service;
pub mod settings;
pub mod work;

pub use service::{CatalogReader, Parts, RawReader, Rows, SqlRunner, serve};
pub use settings::Settings;
