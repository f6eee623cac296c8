//! The gRPC contract of Trireme, `trireme.v1`: its messages, clients and servers, generated from `proto/`.
//!
//! Nothing here depends on the rest of Trireme, so any Rust program can talk to a scheduler with this crate alone.

mod functions;

pub use functions::{SqlFunction, sql_functions};

/// Messages, clients and servers of `trireme.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod v1 {
    include!("generated/trireme.v1.rs");
}

/// The protos as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
