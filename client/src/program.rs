//! The program: reads the command line, finds or starts a scheduler, runs the command, says how it ended.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::error::ErrorKind;
use trireme_proto::v1::job_spec::Spec;

use crate::{
    arguments::{Arguments, Command, Global, OutputFormat, RawCommand},
    commands::{self, Context},
    connection::{DEFAULT_URL, Scheduler, token_from_environment},
    embedded::{Embedded, Settings},
    error::{Error, Exit, Result},
    functions,
    grid::Layout,
    interrupt::Interrupt,
    json::ErrorDocument,
    output::{Output, Style, printable},
    pipeline,
    progress::Progress,
    spec,
};

/// Runs a command line, the program's name first. Call it on the program's main thread, in a runtime that stays on it: embedded children
/// end with the thread that started them.
pub async fn run(line: Vec<OsString>) -> Exit {
    let mut output = Output::stdout();
    let arguments = match Arguments::read(&line) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, &line, &mut output),
    };
    let format = arguments.global.output;
    Layout::stdout(arguments.global.vertical).establish();
    let ended = execute(arguments, &mut output).await;
    let ended = ended.and_then(|exit| output.flush().map(|()| exit));
    ended.unwrap_or_else(|error| {
        let exit = error.exit();
        report(error, format, &mut output);
        exit
    })
}

/// A command line that is wrong, or asks for help.
fn refuse(error: &clap::Error, line: &[OsString], output: &mut Output) -> Exit {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !help && wants_json(line) {
        let text = error.render().to_string();
        let (message, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let message = message.strip_prefix("error: ").unwrap_or(message);
        report(Error::new("usage", message).hint(rest.trim()), OutputFormat::Json, output);
    } else {
        // Its reader may have gone.
        error.print().ok();
    }
    if help { Exit::Done } else { Exit::Usage }
}

/// Whether a line that can't be read asks for JSON.
fn wants_json(line: &[OsString]) -> bool {
    line.iter().any(|word| word == "--output=json")
        || line.windows(2).any(|words| words[0] == "--output" && words[1] == "json")
}

/// Says what went wrong: in JSON as a document on stdout, else on stderr.
fn report(error: Error, format: OutputFormat, output: &mut Output) {
    match format {
        // When stdout can't be written to, the exit code still says it.
        OutputFormat::Json => {
            output.json(&ErrorDocument::from(error)).and_then(|()| output.flush()).ok();
        }
        OutputFormat::Text => say(&error),
    }
}

/// Writes an error for people to stderr.
pub(crate) fn say(error: &Error) {
    let style = Style::of(&io::stderr());
    // Lines are ours, a child's log for example; what is between them may come from anywhere.
    let lines = |text: &str| text.lines().map(printable).collect::<Vec<_>>().join("\n");
    let mut text = format!("{} {}\n", style.failure("error:"), lines(&error.message));
    if !error.hint.is_empty() {
        text.push_str(&format!("{} {}\n", style.hint("hint:"), lines(&error.hint)));
    }
    io::stderr().write_all(text.as_bytes()).ok();
}

async fn execute(arguments: Arguments, output: &mut Output) -> Result<Exit> {
    let Arguments { global, command } = arguments;
    // The list is part of the program.
    if let Command::Sql { functions: true, .. } = &command {
        functions::list(output, global.output)?;
        return Ok(Exit::Done);
    }
    // What is wrong on this side is found before anything is started.
    let spec = spec_of(&command, global.embedded)?;
    let token = token_from_environment()?;
    let interrupt =
        Interrupt::listen().map_err(|error| Error::new("internal", format!("can't listen to signals: {error}")))?;

    if !global.embedded {
        let url = global.scheduler.as_deref().unwrap_or(DEFAULT_URL);
        let scheduler = tokio::select! {
            connected = Scheduler::connect(url, token.as_deref()) => connected?,
            error = stopped(&interrupt) => return Err(error),
        };
        return run_command(command, spec, scheduler, &global, output, &interrupt).await;
    }

    let settings = settings(&global)?;
    let progress = Progress::stderr();
    progress.say(&format!("starting a scheduler and {} executors over {}", settings.executors, settings.storage));
    let mut embedded = tokio::select! {
        started = Embedded::start(&settings, token.as_deref()) => started?,
        error = stopped(&interrupt) => return Err(error),
    };
    let scheduler = embedded.scheduler();
    let ended = tokio::select! {
        ended = run_command(command, spec, scheduler, &global, output, &interrupt) => ended,
        error = embedded.scheduler_ended() => Err(error),
    };
    embedded.stop(&interrupt).await;
    ended
}

/// The spec of a command that submits a job.
fn spec_of(command: &Command, embedded: bool) -> Result<Option<Spec>> {
    Ok(Some(match command {
        Command::Run { file, only, versions, force } => {
            let versions = spec::range(versions)?;
            let selected = pipeline::select(pipeline::read(file, embedded)?, only)?;
            Spec::Pipeline(pipeline::with_versions(selected, versions, *force))
        }
        Command::Download { from, to, format, credentials, checksum, text } => {
            let (credentials, checksum) = (credentials.as_deref(), checksum.as_deref());
            spec::download(from, to, *format, credentials, checksum, text, embedded)?
        }
        Command::Raw(RawCommand::Adopt { source, format, text }) => spec::adopt(source, *format, text)?,
        Command::Load { table, primary_key } => spec::load(table, primary_key)?,
        Command::Merge { table, primary_key, versions, clauses } => spec::merge(table, primary_key, versions, clauses)?,
        Command::Question { sql, table, sort_by } => spec::question(sql, table, sort_by)?,
        Command::Optimize { table, z_order, target_size, retired_percent } => {
            spec::optimize(table, z_order, *target_size, *retired_percent)?
        }
        Command::Raw(raw) => {
            // What is wrong with it is said before anything is started.
            spec::mark(raw)?;
            return Ok(None);
        }
        Command::Sql { .. } | Command::Jobs(_) | Command::Tables(_) => return Ok(None),
    }))
}

async fn run_command(
    command: Command,
    spec: Option<Spec>,
    scheduler: Scheduler,
    global: &Global,
    output: &mut Output,
    interrupt: &Interrupt,
) -> Result<Exit> {
    let mut context = Context { scheduler, output, format: global.output, interrupt };
    let terminated = async {
        interrupt.terminated().await;
        Err(terminated())
    };
    match (command, spec) {
        // It cancels its job when it is interrupted.
        (_, Some(spec)) => tokio::select! {
            ended = commands::submit(&mut context, spec) => ended,
            ended = terminated => ended,
        },
        (command, None) => tokio::select! {
            ended = commands::look(&mut context, command) => ended,
            ended = terminated => ended,
        },
    }
}

fn terminated() -> Error {
    Error::new("terminated", "terminated; a job that was submitted is left to the scheduler")
        .hint("`trireme jobs list` shows the jobs")
}

/// Waits for a signal that ends the program while there is nothing to cancel.
async fn stopped(interrupt: &Interrupt) -> Error {
    tokio::select! {
        () = interrupt.wait() => Error::interrupted("interrupted before anything was submitted"),
        () = interrupt.terminated() => terminated(),
    }
}

fn settings(global: &Global) -> Result<Settings> {
    let program = std::env::current_exe()
        .map_err(|error| Error::new("start-failed", format!("can't find the folder of this program: {error}")))?;
    Ok(Settings {
        executors: global.executors.unwrap_or(2),
        vcores: global.vcores.unwrap_or(1),
        memory_pool_size: global.memory_pool_size.clone().unwrap_or_else(|| "1GB".to_string()),
        storage: storage_url(global.storage.as_deref().unwrap_or("trireme-data"))?,
        binaries: program.parent().map(Path::to_path_buf).unwrap_or_else(PathBuf::new),
    })
}

/// A folder as a URL; a URL as it is.
fn storage_url(storage: &str) -> Result<String> {
    if storage.contains("://") {
        return Ok(storage.to_string());
    }
    let wrong = |why: String| {
        Error::invalid(format!("the storage `{storage}` {why}"))
            .hint("give a folder or a URL such as s3://bucket/prefix")
    };
    let folder = std::path::absolute(storage).map_err(|error| wrong(format!("is no folder: {error}")))?;
    if folder.exists() && !folder.is_dir() {
        return Err(wrong("is a file".to_string()));
    }
    Ok(url::Url::from_directory_path(&folder).map_err(|()| wrong("is no folder".to_string()))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_a_folder_or_a_url() {
        assert_eq!(storage_url("s3://b/p").unwrap(), "s3://b/p");
        assert_eq!(storage_url("/data/a lake").unwrap(), "file:///data/a%20lake/");
        assert!(storage_url("x").unwrap().starts_with("file:///"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(storage_url(file.path().to_str().unwrap()).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn json_is_wanted_even_by_a_wrong_line() {
        let line = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(wants_json(&line(&["trireme", "x", "--output", "json"])));
        assert!(wants_json(&line(&["trireme", "--output=json", "x"])));
        assert!(!wants_json(&line(&["trireme", "json", "--output"])));
    }
}
