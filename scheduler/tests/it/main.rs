//! The scheduler's API in process: real sockets and generated clients, a fake instead of the work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod jobs;
mod pipelines;
mod process;
mod restart;
mod world;
