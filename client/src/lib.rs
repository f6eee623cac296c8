//! The client of Trireme: the `trireme` command, and a small API to talk to a scheduler from Rust.
//!
//! A program connects with [`connection::Scheduler`], submits with [`watch::submit`], waits with [`watch::follow`] and reads answers with
//! [`answer::Answer`]; [`pipeline::read`] turns a pipeline file into a spec. Nothing here depends on DataFusion: the scheduler plans.

pub mod answer;
pub mod connection;
pub mod embedded;
pub mod error;
pub mod interrupt;
pub mod job;
pub mod pipeline;
pub mod program;
pub mod watch;

mod arguments;
mod clauses;
mod commands;
mod functions;
mod grid;
mod json;
mod listing;
mod names;
mod origin;
mod output;
mod progress;
mod report;
mod spec;
mod text;
mod units;
mod value;
