use std::{collections::HashMap, io::Write, time::Duration};

use clap::{CommandFactory, Parser};

use super::*;

/// Settings of a binary that has one of each kind.
#[derive(Debug, PartialEq, Parser)]
#[command(name = "trial")]
struct Trial {
    /// Port to listen on
    #[arg(long, default_value_t = 50051)]
    api_port: u16,
    /// Where things are
    #[arg(long)]
    storage: String,
    /// Memory
    #[arg(long, value_parser = parse_size)]
    memory_pool_size: Option<u64>,
    /// Patience
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    patience: Duration,
    /// Prefixes
    #[arg(long, value_delimiter = ',')]
    allowed_origins: Vec<String>,
    /// Zone
    #[arg(long, default_value = "UTC", value_parser = parse_time_zone)]
    time_zone: String,
    /// Token
    #[arg(long, hide_env_values = true, value_parser = |text: &str| match text { "" => Err("is empty"), _ => Ok(text.to_string()) })]
    api_token: Option<String>,
    /// Log
    #[command(flatten)]
    log: LogSettings,
}

/// A command line: a program's name, then `flags`.
fn command_line(flags: &[&str]) -> Vec<OsString> {
    ["trial"].iter().chain(flags).map(OsString::from).collect()
}

fn trial(flags: &[&str], environment: &[(&str, &str)]) -> Result<Trial, Refusal> {
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    read(command_line(flags), |name| environment.get(name).map(OsString::from))
}

/// The message and hint of the refusal.
fn refused(flags: &[&str], environment: &[(&str, &str)]) -> (String, String) {
    match trial(flags, environment) {
        Err(Refusal::Invalid(error)) => (error.message, error.hint),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let flag = format!("--config={}", file.path().display());
    (file, flag)
}

#[test]
fn a_flag_comes_before_the_environment_the_file_and_the_default() {
    let (_file, config) = file("api_port: 3\nstorage: /file\npatience: 1h\nallowed_origins: [s3://a/, ftp://b/]\n");
    let environment = [("TRIREME_API_PORT", "2"), ("TRIREME_STORAGE", "/environment")];
    let all = trial(&["--api-port", "1", &config], &environment).unwrap();
    assert_eq!((all.api_port, all.storage.as_str(), all.patience), (1, "/environment", Duration::from_secs(3600)));
    assert_eq!(all.allowed_origins, ["s3://a/", "ftp://b/"]);
    assert_eq!((all.time_zone.as_str(), all.memory_pool_size, all.api_token), ("UTC", None, None));

    let environment = [("TRIREME_CONFIG", config.trim_start_matches("--config=")), ("TRIREME_LOG_FORMAT", "json")];
    let lower = trial(&[], &environment).unwrap();
    assert_eq!((lower.api_port, lower.storage.as_str(), lower.log.log_format), (3, "/file", LogFormat::Json));
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_its_origin() {
    let storage = ("TRIREME_STORAGE", "/x");
    let message = |flags: &[&str], more: (&'static str, &'static str)| refused(flags, &[storage, more]).0;
    assert_eq!(
        message(&[], ("TRIREME_MEMORY_POOL_SIZE", "lots")),
        "setting `memory_pool_size`: `lots`: not a size, such as 512MiB or 2GB, from TRIREME_MEMORY_POOL_SIZE"
    );
    assert_eq!(
        message(&["--patience", "30"], ("", "")),
        "setting `patience`: `30`: not a duration, such as 30s, 5m or 6h, from --patience"
    );
    assert_eq!(
        message(&["--log-format=xml"], ("", "")),
        "setting `log_format`: `xml`: not one of text, json, from --log-format"
    );
    assert!(message(&["--api-port=99999"], ("", "")).starts_with("setting `api_port`: `99999`: "));
    assert!(message(&["--time-zone=Mars"], ("", "")).contains("setting `time_zone`: `Mars`: not a time zone"));
    assert!(message(&[], ("TRIREME_LOG", "a=b=c")).starts_with("setting `log`: "));

    let (_file, config) = file("patience: soon");
    let path = config.trim_start_matches("--config=");
    assert_eq!(
        message(&[&config], ("", "")),
        format!("setting `patience`: `soon`: not a duration, such as 30s, 5m or 6h, from {path}")
    );
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let (message, hint) = refused(&[], &[]);
    assert_eq!(message, "setting `storage`: has no value and no default");
    assert_eq!(hint, "give --storage or TRIREME_STORAGE");
    assert!(refused(&["--storage=/x", "--api-prt=1"], &[]).0.starts_with("no such flag: --api-prt"));

    let (_file, config) = file("storage: /x\napi-port: 1\n");
    let (message, hint) = refused(&[&config], &[]);
    assert!(message.starts_with("setting `api-port`: no such setting, from /"), "{message}");
    assert!(hint.contains("api_port"), "{hint}");

    for (text, problem) in [("storage: {a: 1}", "a mapping"), ("storage:", "nothing")] {
        let (_file, config) = file(text);
        assert!(
            refused(&[&config], &[]).0.starts_with(&format!("setting `storage`: {problem} where one value belongs"))
        );
    }
    let (_file, config) = file("storage: [");
    assert!(refused(&[&config], &[]).0.starts_with("setting `config`: /"));
    assert!(refused(&["--config=/no/such/file"], &[]).0.starts_with("setting `config`: /no/such/file: "));
}

#[test]
fn a_secret_comes_from_the_environment_or_the_file_and_is_never_shown() {
    let token = |flags: &[&str], environment: &[(&str, &str)]| trial(flags, environment).unwrap().api_token;
    assert_eq!(token(&["--storage=/x"], &[("TRIREME_API_TOKEN", "hush")]).unwrap(), "hush");
    let (_file, config) = file("api_token: hush\nstorage: /x");
    assert_eq!(token(&[&config], &[]).unwrap(), "hush");

    let (message, hint) = refused(&["--storage=/x", "--api-token=hush"], &[]);
    assert!(message.starts_with("setting `api_token`: a secret is not taken from a flag"), "{message}");
    assert!(hint.contains("TRIREME_API_TOKEN") && !message.contains("hush") && !hint.contains("hush"));
    let (message, _) = refused(&["--storage=/x"], &[("TRIREME_API_TOKEN", "")]);
    assert_eq!(message, "setting `api_token`: is empty, from TRIREME_API_TOKEN");

    let Err(Refusal::Asked(help)) = trial(&["--help"], &[("TRIREME_API_TOKEN", "hush")]) else { panic!() };
    assert!(!help.to_string().contains("hush"));
}

#[test]
fn help_lists_every_setting_with_its_variable_and_default() {
    let Err(Refusal::Asked(help)) = trial(&["--help"], &[]) else { panic!() };
    let help = help.to_string();
    for arg in settings(&Trial::command()) {
        assert!(help.contains(&flag(key(arg))) && help.contains(&variable(key(arg))), "{help}");
    }
    assert!(help.contains("[default: 50051]") && help.contains("--config <FILE>") && help.contains("TRIREME_CONFIG"));
}

#[test]
fn sizes_and_durations_have_units() {
    for (text, bytes) in [("2GB", 2_000_000_000), ("512MiB", 536_870_912), ("64 KiB", 65_536), ("10", 10)] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for (text, seconds) in [("30s", 30), ("5m", 300), ("6h", 21_600), ("30days", 2_592_000)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for bad in ["", "0", "-1GB", "2XB", "GB"] {
        assert!(parse_size(bad).is_err(), "{bad}");
    }
    for bad in ["", "0s", "-1s", "5", "5 parsecs"] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
    for zone in ["UTC", "+01:00", "Europe/Vienna"] {
        assert!(parse_time_zone(zone).is_ok(), "{zone}");
    }
}

#[test]
fn an_executor_joins_by_host_and_port() {
    let read = |flags: &[&str]| read::<ExecutorSettings>(command_line(flags), |_| None);
    let settings = read(&["--storage=/x", "--scheduler=[::1]:7", "--memory-pool-size=2GB"]).unwrap();
    assert_eq!((settings.scheduler.host.as_str(), settings.scheduler.port), ("::1", 7));
    assert_eq!((settings.memory_pool_size, settings.heartbeat), (Some(2_000_000_000), Duration::from_secs(2)));
    for bad in ["host", "host:0", ":1", "host:x"] {
        assert!(read(&["--storage=/x", &format!("--scheduler={bad}")]).is_err(), "{bad}");
    }
}
