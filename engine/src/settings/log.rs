//! Settings of the log, which every binary has.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct LogSettings {
    /// Level, or levels by module: `info`, `debug`, `info,trireme_scheduler=debug`
    // The kernel logs as an error that a table does not exist yet; its errors come back to us anyway.
    #[arg(long, default_value = "info,buoyant_kernel=off,object_store=warn", value_parser = parse_filter)]
    pub log: String,

    /// Form of the lines on stderr
    #[arg(long, default_value = "text", value_enum)]
    pub log_format: LogFormat,
}

fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_string()).map_err(|error| error.to_string())
}

impl LogSettings {
    /// Sends this process's log to stderr. Later calls do nothing.
    pub fn start(&self) {
        let lines =
            fmt().with_env_filter(EnvFilter::new(&self.log)).with_writer(stderr).with_ansi(stderr().is_terminal());
        let _ = match self.log_format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
    }
}
