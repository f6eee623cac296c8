//! Settings of `trireme-scheduler`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use tokio::net::{TcpListener, lookup_host};
use trireme_engine::{
    Result,
    raw::CopyPolicy,
    settings::{LogSettings, invalid, parse_duration, parse_share, parse_size, parse_time_zone, read_secret, variable},
};

use crate::{auth::ApiToken, jobs::JobOptions};

/// Plans and commits the jobs of a Trireme cluster, and serves its API.
#[derive(Debug, Clone, PartialEq, clap::Parser)]
#[command(name = "trireme-scheduler", version)]
pub struct Settings {
    /// Address to listen on, for clients and for executors
    #[arg(long, default_value = "127.0.0.1")]
    pub bind_host: String,

    /// Name or address by which executors reach this scheduler
    #[arg(long, default_value = "127.0.0.1")]
    pub external_host: String,

    /// Port for executors; it knows no authentication, so keep it inside the cluster's network; 0 takes any free one
    #[arg(long, default_value_t = 50050)]
    pub ballista_port: u16,

    /// Port for clients; 0 takes any free one
    #[arg(long, default_value_t = 50051)]
    pub api_port: u16,

    /// Storage root: a folder, file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix; credentials come from the environment
    #[arg(long)]
    pub storage: String,

    /// Token that clients must show; required when the API listens on more than loopback. Not taken as a flag
    #[arg(long, hide_env_values = true)]
    pub api_token: Option<ApiToken>,

    /// File that holds the token, instead of api_token
    #[arg(long)]
    pub api_token_file: Option<PathBuf>,

    /// Whether the API may listen on more than loopback without a token
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set)]
    pub insecure_api: bool,

    /// URL prefixes that downloads may read from, comma-separated, such as ftp://vendor.example/,file:///srv/inbox/; `*` allows all
    #[arg(long, value_delimiter = ',')]
    pub allowed_origins: Vec<String>,

    /// Executors that must be registered before the cluster calls itself ready
    #[arg(long, default_value_t = 1)]
    pub min_executors: usize,

    /// Silence after which an executor is taken for dead; several heartbeats of an executor
    #[arg(long, default_value = "8s", value_parser = parse_duration)]
    pub executor_timeout: Duration,

    /// Longest time that one job may run
    #[arg(long, default_value = "6h", value_parser = parse_duration)]
    pub job_deadline: Duration,

    /// Jobs that run at one time; others wait
    #[arg(long, default_value = "8", value_parser = parse_count)]
    pub max_running_jobs: usize,

    /// Age at which a job that has ended is removed from the journal
    #[arg(long, default_value = "30days", value_parser = parse_duration)]
    pub job_retention: Duration,

    /// Times that a job's distributed work is run again after an executor was lost
    #[arg(long, default_value_t = 5)]
    pub work_retries: u32,

    /// Partitions of a shuffle; 0 is one for every vcore of the cluster
    #[arg(long, default_value_t = 0)]
    pub target_partitions: usize,

    /// Bytes of tables that are worth a task of their own: a query over fewer has fewer partitions
    #[arg(long, default_value = "4MiB", value_parser = parse_size)]
    pub task_bytes: u64,

    /// Bytes of a join's smaller side up to which it goes to every executor whole; above, both sides are shuffled
    #[arg(long, default_value = "64MiB", value_parser = parse_size)]
    pub broadcast_bytes: u64,

    /// Raw bytes between two places where a task may begin to read
    #[arg(long, default_value = "16MiB", value_parser = parse_size)]
    pub split_size: u64,

    /// Size of the ranges in which a larger file is downloaded by several executors, where its origin sends ranges; 0 is never
    #[arg(long, default_value = "256MiB", value_parser = parse_size)]
    pub range_size: u64,

    /// Silence after which a download's origin is taken for broken, and asked again
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub origin_timeout: Duration,
    /// Which deliveries get a seekable copy beside them, from which their splits are read in parallel
    #[arg(long, value_enum, default_value = "compressed")]
    pub raw_seekable_copy: CopyPolicy,

    /// Size of a table's data files
    #[arg(long, default_value = "128MiB", value_parser = parse_size)]
    pub target_file_size: u64,

    /// False positives of the Bloom filters of key columns, by which small merges pass over files; 0: no filters, 0.0001: 2.6 bytes a row
    #[arg(long, default_value = "0.0001", value_parser = parse_share)]
    pub key_bloom_fpp: f64,
    /// Memory of an executor that the keys of a merge may take (19 bytes a row of the source, 11 where the key is one number or moment); more are looked for in turns, and so are
    /// those that an executor has no room for
    #[arg(long, default_value = "384MiB", value_parser = parse_size)]
    pub merge_keys_memory: u64,

    /// Small files of a table, below half of target_file_size, from which on a merge is followed by an optimization; 0 is never
    #[arg(long, default_value_t = 32)]
    pub auto_optimize_small_files: usize,

    /// Percent of a table's rows that are retired from which on a merge is followed by an optimization; 0 is never
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub auto_optimize_retired_percent: u32,

    /// Time zone of timestamps that have no offset, and of date functions
    #[arg(long, default_value = "UTC", value_parser = parse_time_zone)]
    pub time_zone: String,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogSettings,
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "not a number above zero".to_string())
}

impl Settings {
    /// The API's token. Errors: none where one is needed, two, or a file that holds none.
    pub fn token(&self) -> Result<Option<ApiToken>> {
        let token =
            match (&self.api_token, &self.api_token_file) {
                (Some(_), Some(_)) => return Err(invalid("api_token_file", "given together with `api_token`")),
                (Some(token), None) => Some(token.clone()),
                (None, Some(path)) => {
                    let token = read_secret("api_token_file", path)?;
                    Some(token.parse().map_err(|problem| {
                        invalid("api_token_file", format!("{}: the token {problem}", path.display()))
                    })?)
                }
                (None, None) => None,
            };
        if token.is_none() && !self.insecure_api && !is_loopback(&self.bind_host) {
            return Err(invalid(
                "api_token",
                format!("has no value, and the API listens on {}, which others can reach", self.bind_host),
            )
            .hint(format!(
                "set {} or --api-token-file; --insecure-api opens the API to everybody",
                variable("api_token")
            )));
        }
        Ok(token)
    }

    /// How jobs are run.
    pub fn jobs(&self) -> JobOptions {
        JobOptions {
            max_running: self.max_running_jobs,
            deadline: self.job_deadline,
            retention: self.job_retention,
            ..JobOptions::default()
        }
    }

    /// The API's socket. Errors name the setting: an address that is not this machine's, a port that is taken.
    pub async fn bind_api(&self) -> Result<TcpListener> {
        bind("api_port", &self.bind_host, self.api_port).await
    }
}

/// A socket at an address and port out of the settings; `port_key` names the port's.
pub async fn bind(port_key: &str, host: &str, port: u16) -> Result<TcpListener> {
    let unknown = |problem: String| invalid("bind_host", format!("`{host}`: {problem}"));
    let mut addresses = lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?;
    let address = addresses.next().ok_or_else(|| unknown("has no address".to_string()))?;
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => invalid(port_key, format!("address {address} is in use"))
            .hint(format!("stop what has the address in use, or set another port with {}", variable(port_key))),
        std::io::ErrorKind::AddrNotAvailable => unknown("is not an address of this machine".to_string()),
        _ => invalid(port_key, format!("can't listen on {address}: {error}")),
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use trireme_engine::{Code, settings::Refusal};

    use super::*;

    fn settings(flags: &[&str], environment: &[(&str, &str)]) -> Result<Settings> {
        let args = ["trireme-scheduler", "--storage=/x"].iter().chain(flags).map(Into::into);
        let variable = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        match trireme_engine::settings::read(args, variable) {
            Ok(settings) => Ok(settings),
            Err(Refusal::Invalid(error)) => Err(error),
            Err(Refusal::Asked(text)) => panic!("{text}"),
        }
    }

    fn refused(flags: &[&str], environment: &[(&str, &str)]) -> String {
        settings(flags, environment).and_then(|settings| settings.token()).unwrap_err().message
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let defaults = settings(&[], &[]).unwrap();
        assert_eq!((defaults.ballista_port, defaults.api_port, defaults.min_executors), (50050, 50051, 1));
        assert_eq!((defaults.split_size, defaults.target_file_size), (16 << 20, 128 << 20));
        assert_eq!(defaults.raw_seekable_copy, CopyPolicy::Compressed);
        assert_eq!(settings(&["--raw-seekable-copy=all"], &[]).unwrap().raw_seekable_copy, CopyPolicy::All);
        assert_eq!((defaults.executor_timeout.as_secs(), defaults.job_deadline.as_secs()), (8, 21_600));
        assert_eq!((defaults.max_running_jobs, defaults.job_retention.as_secs()), (8, 2_592_000));
        assert_eq!(
            (defaults.time_zone.as_str(), defaults.insecure_api, defaults.allowed_origins),
            ("UTC", false, vec![])
        );
    }

    #[test]
    fn an_api_that_others_can_reach_wants_a_token() {
        for host in ["0.0.0.0", "::", "192.0.2.1", "scheduler.example"] {
            let flag = format!("--bind-host={host}");
            assert!(refused(&[&flag], &[]).starts_with("setting `api_token`: has no value"), "{host}");
            assert!(settings(&[&flag, "--insecure-api"], &[]).unwrap().token().unwrap().is_none());
            assert!(settings(&[&flag], &[("TRIREME_API_TOKEN", "t")]).unwrap().token().unwrap().is_some());
            assert!(refused(&[&flag, "--insecure-api=false"], &[]).starts_with("setting `api_token`"));
        }
        for host in ["127.0.0.1", "127.8.8.8", "::1", "localhost"] {
            assert!(settings(&[&format!("--bind-host={host}")], &[]).unwrap().token().unwrap().is_none(), "{host}");
        }
    }

    #[test]
    fn a_token_comes_from_one_place_and_can_be_sent() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let flag = format!("--api-token-file={}", file.path().display());
        assert!(refused(&[&flag], &[]).ends_with("the token is empty"));
        writeln!(file, "secret-1").unwrap();
        let from_file = settings(&[&flag], &[]).unwrap().token().unwrap();
        assert_eq!(from_file, Some("secret-1".parse().unwrap()));
        assert!(refused(&[&flag], &[("TRIREME_API_TOKEN", "t")]).contains("together"));
        assert!(refused(&["--api-token-file=/no/such"], &[]).starts_with("setting `api_token_file`: /no/such: "));
        let message = refused(&[], &[("TRIREME_API_TOKEN", "naïve secret")]);
        assert_eq!(message, "setting `api_token`: has characters other than visible ASCII, from TRIREME_API_TOKEN");
        let debug = format!("{:?}", settings(&[], &[("TRIREME_API_TOKEN", "hush")]).unwrap());
        assert!(debug.contains("ApiToken(…)") && !debug.contains("hush"));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = bind("api_port", "127.0.0.1", 0).await.unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind("api_port", "127.0.0.1", taken.port()).await.unwrap_err();
        assert_eq!(error.message, format!("setting `api_port`: address {taken} is in use"));
        assert_eq!(error.code, Code::InvalidSpec);
        let error = bind("api_port", "192.0.2.1", 0).await.unwrap_err();
        assert!(error.message.starts_with("setting `bind_host`: `192.0.2.1`: "), "{}", error.message);
    }
}
