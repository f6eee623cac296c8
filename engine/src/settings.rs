//! Settings of the server binaries, read through one mechanism: flag > `TRIREME_*` environment > `--config FILE` > default.
//!
//! A binary declares its settings once, as a [`clap::Parser`] struct: the field is the key, its doc comment the description, its
//! `default_value` the default. The flag (`--api-port`), the environment variable (`TRIREME_API_PORT`) and the key in the file
//! (`api_port`) all come from the field's name, and `--help` lists them. A field with `hide_env_values` is a secret: it is never
//! taken from a flag, which every user of the machine could read, and never echoed.

mod executor;
mod log;
mod value;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Display,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use serde_json::Value;

pub use executor::ExecutorSettings;
pub use log::{LogFormat, LogSettings};
pub use value::{parse_duration, parse_share, parse_size, parse_time_zone};

use crate::error::{Code, Error, Result};

/// Exit code of a process whose settings are refused (`EX_USAGE` of sysexits.h).
pub const EXIT_BAD_SETTINGS: i32 = 64;

/// Why [`read`] gave no settings.
#[derive(Debug)]
pub enum Refusal {
    /// `--help` or `--version` was asked for; holds the text to print.
    Asked(clap::Error),
    /// A setting is missing, unknown or wrong; the message names the key and where the value came from.
    Invalid(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Invalid(error)
    }
}

/// The settings of this process. Ends it when there are none to give: with 0 after `--help`, with 64 when a setting is refused.
pub fn load<S: clap::Parser>() -> S {
    match read(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(settings) => settings,
        Err(Refusal::Asked(text)) => text.exit(),
        Err(Refusal::Invalid(error)) => refuse(&error),
    }
}

/// Says on stderr what is wrong with the settings and ends the process with 64.
pub fn refuse(error: &Error) -> ! {
    explain(error);
    std::process::exit(EXIT_BAD_SETTINGS)
}

/// Says on stderr why a process can't go on: the error, and what to do about it.
pub fn explain(error: &Error) {
    eprintln!("error: {}", error.message);
    if !error.hint.is_empty() {
        eprintln!("hint: {}", error.hint);
    }
}

/// An error about one setting: `` setting `key`: problem ``.
pub fn invalid(key: &str, problem: impl Display) -> Error {
    Error::new(Code::InvalidSpec, format!("setting `{key}`: {problem}"))
}

/// The environment variable of a setting.
pub fn variable(key: &str) -> String {
    format!("TRIREME_{}", key.to_ascii_uppercase())
}

fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Reads settings from `args` (the program's name first), an environment and the file that `--config` names.
pub fn read<S: clap::Parser>(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<S, Refusal> {
    let command = described(S::command());
    let mut args: Vec<OsString> = args.into_iter().collect();
    // Errors are ignored in this pass, which only asks what the flags say; the second one reports them.
    let flags = command.clone().ignore_errors(true).try_get_matches_from(&args).map_err(Refusal::Asked)?;
    let mut lower = from_file(&command, config_path(&flags, &environment)?)?;
    lower.extend(from_environment(&command, &environment)?);

    let secrets: Vec<&str> = settings(&command).filter(|arg| arg.is_hide_env_values_set()).map(key).collect();
    for key in &secrets {
        if given(&flags, key) {
            return Err(invalid(key, "a secret is not taken from a flag, which every user of this machine can read")
                .hint(format!("set {} or `{key}:` in the file that --config names", variable(key)))
                .into());
        }
    }
    let overridden: Vec<&str> = settings(&command).map(key).filter(|key| given(&flags, key)).collect();
    lower.retain(|key, _| !overridden.contains(&key.as_str()));
    args.extend(lower.iter().map(|(key, given)| OsString::from(format!("{}={}", flag(key), given.value))));
    let matches = command.clone().try_get_matches_from(args).map_err(|error| named(&error, &lower, &secrets))?;
    Ok(S::from_arg_matches(&matches).map_err(|error| named(&error, &lower, &secrets))?)
}

/// A value below the flags: its text, and where it was found.
struct Given {
    value: String,
    from: String,
}

fn key(arg: &Arg) -> &str {
    arg.get_id().as_str()
}

/// All settings but `--config`, `--help` and `--version`.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !matches!(key(arg), "config" | "help" | "version"))
}

fn given(flags: &ArgMatches, key: &str) -> bool {
    flags.value_source(key) == Some(ValueSource::CommandLine)
}

/// The command with `--config`, and with every setting's environment variable in its help.
fn described(command: Command) -> Command {
    let config =
        Arg::new("config").long("config").value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help(
            "YAML file with settings by their key, such as `api_port: 50051`; flags and environment come before it",
        );
    command.arg(config).mut_args(|arg| {
        if matches!(key(&arg), "help" | "version") {
            return arg;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = format!("{help} [env: {}]", variable(key(&arg)));
        arg.help(help)
    })
}

fn text(value: OsString, name: &str) -> Result<String, Error> {
    value.into_string().map_err(|_| Error::new(Code::InvalidSpec, format!("{name} is not UTF-8 text")))
}

fn config_path(flags: &ArgMatches, environment: &impl Fn(&str) -> Option<OsString>) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = flags.get_one::<PathBuf>("config") {
        return Ok(Some(path.clone()));
    }
    let name = variable("config");
    Ok(environment(&name).map(|path| text(path, &name)).transpose()?.map(PathBuf::from))
}

fn from_environment(
    command: &Command,
    environment: &impl Fn(&str) -> Option<OsString>,
) -> Result<BTreeMap<String, Given>, Error> {
    let mut found = BTreeMap::new();
    for arg in settings(command) {
        let name = variable(key(arg));
        if let Some(value) = environment(&name) {
            let value = text(value, &name)?;
            found.insert(key(arg).to_string(), Given { value, from: name });
        }
    }
    Ok(found)
}

fn from_file(command: &Command, path: Option<PathBuf>) -> Result<BTreeMap<String, Given>, Error> {
    let Some(path) = path else { return Ok(BTreeMap::new()) };
    let problem = |problem: String| invalid("config", format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| problem(error.to_string()))?;
    // A file with nothing but comments is null.
    let values: Option<BTreeMap<String, Value>> =
        serde_saphyr::from_str(&text).map_err(|error| problem(error.to_string()))?;
    let mut found = BTreeMap::new();
    for (name, value) in values.unwrap_or_default() {
        if !settings(command).any(|arg| key(arg) == name) {
            let keys = settings(command).map(key).collect::<Vec<_>>().join(", ");
            return Err(
                invalid(&name, format!("no such setting, from {}", path.display())).hint(format!("there are {keys}"))
            );
        }
        let value = one_line(&value, &name, &path)?;
        found.insert(name, Given { value, from: path.display().to_string() });
    }
    Ok(found)
}

/// A YAML value as its flag would be written.
fn one_line(value: &Value, name: &str, path: &Path) -> Result<String, Error> {
    let refused = |what| Err(invalid(name, format!("{what} where one value belongs, from {}", path.display())));
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| one_line(item, name, path)).collect();
            Ok(items?.join(","))
        }
        Value::Null => refused("nothing"),
        Value::Object(_) => refused("a mapping"),
    }
}

/// Says of clap's error which setting it is about and where its value came from.
fn named(error: &clap::Error, lower: &BTreeMap<String, Given>, secrets: &[&str]) -> Error {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        Some(ContextValue::Strings(arguments)) => arguments.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let flag = argument.split([' ', '=']).next().unwrap_or_default().to_string();
    let key = flag.trim_start_matches('-').replace('-', "_");
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            invalid(&key, "has no value and no default").hint(format!("give {flag} or {}", variable(&key)))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let from = lower.get(&key).map_or(flag, |given| given.from.clone());
            let mut problem = match error.get(ContextKind::InvalidValue) {
                Some(value) if !secrets.contains(&key.as_str()) => format!("`{value}`: "),
                _ => String::new(),
            };
            problem += &match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
                (Some(cause), _) => cause.to_string(),
                (None, Some(ContextValue::Strings(allowed))) if !allowed.is_empty() => {
                    format!("not one of {}", allowed.join(", "))
                }
                _ => "not a value for it".to_string(),
            };
            invalid(&key, format!("{problem}, from {from}"))
        }
        ErrorKind::UnknownArgument => {
            Error::new(Code::InvalidSpec, format!("no such flag: {argument}")).hint("--help lists them")
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Error::new(Code::InvalidSpec, line.to_string()).hint("see --help")
        }
    }
}

/// A private file's content without its line end, such as a mounted secret.
pub fn read_secret(key: &str, path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| invalid(key, format!("{}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

#[cfg(test)]
mod tests;
