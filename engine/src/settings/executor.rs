//! Settings of `trireme-executor`.

use std::{path::PathBuf, time::Duration};

use super::{LogSettings, parse_duration, parse_size};

/// Runs the tasks of a Trireme cluster.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
#[command(name = "trireme-executor", version)]
pub struct ExecutorSettings {
    /// The scheduler to join, as `host:port` of its Ballista listener
    #[arg(long, default_value = "127.0.0.1:50050", value_parser = parse_host_and_port)]
    pub scheduler: HostAndPort,

    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub bind_host: String,

    /// Name or address by which the scheduler and other executors reach this one
    #[arg(long, default_value = "127.0.0.1")]
    pub external_host: String,

    /// Port on which other executors and the scheduler fetch results (Arrow Flight); 0 takes any free one
    #[arg(long, default_value_t = 50052)]
    pub port: u16,

    /// Port on which the scheduler gives out tasks; 0 takes any free one
    #[arg(long, default_value_t = 50053)]
    pub grpc_port: u16,

    /// Tasks at one time; 0 is one for every core
    #[arg(long, default_value_t = 0)]
    pub vcores: usize,

    /// Memory for the operators of all tasks together, such as 2GB; what does not fit is spilled to the work folder. Unset: a share of this machine's memory
    #[arg(long, value_parser = parse_size)]
    pub memory_pool_size: Option<u64>,

    /// Folder for shuffle and spill files. Unset: a fresh temporary one
    #[arg(long)]
    pub work_dir: Option<PathBuf>,

    /// Storage root, the scheduler's: a folder, file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix
    #[arg(long)]
    pub storage: String,

    /// Time between signs of life to the scheduler
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub heartbeat: Duration,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogSettings,
}

/// Where a peer listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAndPort {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

fn parse_host_and_port(text: &str) -> Result<HostAndPort, String> {
    text.rsplit_once(':')
        .and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
            let port = port.parse().ok().filter(|port| *port != 0)?;
            (!host.is_empty()).then_some(HostAndPort { host, port })
        })
        .ok_or_else(|| "not host:port, such as trireme-ballista:50050".to_string())
}
