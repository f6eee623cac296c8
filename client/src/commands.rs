//! What the commands do once there is a scheduler.

use arrow::array::RecordBatch;
use tonic::Request;
use trireme_proto::v1::{self, JobState, job_spec::Spec};

use crate::{
    answer::{self, Rows},
    arguments::{Command, JobsCommand, OutputFormat, RawCommand, TablesCommand},
    connection::Scheduler,
    error::{Error, Exit, Result},
    interrupt::Interrupt,
    job::Job,
    json::{
        CommitView, JobView, MarkView, RawVersionView, RunView, SchemaView, SourceView, TableDetailView, TableView,
    },
    listing,
    output::{Output, printable},
    program::say,
    progress::Progress,
    report, spec, units,
    watch::{Ended, OnInterrupt, PATIENCE, follow, submit as submit_job},
};

/// Rows that text output of `sql` holds in memory, to align them.
const TEXT_ROWS: usize = 10_000;

/// What every command needs.
pub struct Context<'a> {
    /// Whom to ask.
    pub scheduler: Scheduler,
    /// Where results go.
    pub output: &'a mut Output,
    /// How results are written.
    pub format: OutputFormat,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
}

impl Context<'_> {
    fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// A listing: an object a line, or a table.
    fn list<'m, M, V: From<&'m M> + serde::Serialize>(
        &mut self,
        items: &'m [M],
        text: fn(&[M]) -> String,
    ) -> Result<()> {
        if !self.is_json() {
            return self.output.line(text(items));
        }
        items.iter().try_for_each(|item| self.output.json(&V::from(item)))
    }
}

/// Submits a job, waits for its end with progress, and prints what it did. Ctrl-C cancels it.
pub async fn submit(context: &mut Context<'_>, spec: Spec) -> Result<Exit> {
    let job = submit_job(&context.scheduler, spec, context.interrupt).await?;
    let mut progress = Progress::stderr();
    progress.see(&job);
    follow_to_end(context, &job.id, OnInterrupt::Cancel, progress).await
}

/// Follows a job to its end with progress, and prints what it did.
async fn follow_to_end(
    context: &mut Context<'_>,
    id: &str,
    on_interrupt: OnInterrupt,
    mut progress: Progress,
) -> Result<Exit> {
    let ended = follow(&context.scheduler, id, context.interrupt, on_interrupt, PATIENCE, |job| {
        progress.see(job);
        true
    })
    .await;
    progress.clear();
    match ended? {
        Some(ended) => conclude(context, &ended),
        None => Ok(Exit::Done),
    }
}

/// Prints what a job did; what failed goes to stderr too.
fn conclude(context: &mut Context<'_>, ended: &Ended) -> Result<Exit> {
    let exit = Job(&ended.job).exit();
    let is_pipeline = ended.job.kind == "pipeline";
    if context.is_json() {
        if is_pipeline {
            context.output.json(&RunView::new(ended))?;
        } else {
            context.output.json(&JobView::new(&ended.job))?;
        }
        return Ok(exit);
    }
    context.output.line(if is_pipeline { report::parts(ended) } else { report::single(&ended.job) })?;
    for job in ended.parts.iter().chain([&ended.job]) {
        match report::answer(job, context.output.style()) {
            Ok(None) => {}
            Ok(Some(answer)) => {
                context.output.line("")?;
                context.output.line(answer)?;
            }
            // The work is committed, whatever can be shown of it.
            Err(error) => context.output.line(format!("\n{}: {}", printable(&job.name), error.message))?,
        }
    }
    context.output.flush()?;
    if exit != Exit::Done {
        failures(ended).iter().for_each(say);
    }
    Ok(exit)
}

/// An error for each part that failed, or the job's own.
fn failures(ended: &Ended) -> Vec<Error> {
    let named = |job: &v1::Job| {
        let error = Error::of_job(job).unwrap_or_else(|| Error::new("failed", Job(job).state()));
        let message = format!("{} {}: {}", job.kind, job.name, error.message);
        Error { message, ..error }
    };
    let failed = |part: &&v1::Job| matches!(part.state(), JobState::Failed | JobState::Cancelled);
    let parts: Vec<_> = ended.parts.iter().filter(failed).map(named).collect();
    if parts.is_empty() { vec![named(&ended.job)] } else { parts }
}

/// Runs a command that submits nothing. Ctrl-C ends it.
pub async fn look(context: &mut Context<'_>, command: Command) -> Result<Exit> {
    if let Command::Jobs(JobsCommand::Watch { id }) = &command {
        return watch(context, id).await;
    }
    let interrupt = context.interrupt;
    tokio::select! {
        ended = ask(context, command) => ended.map(|()| Exit::Done),
        () = interrupt.wait() => Err(Error::interrupted("interrupted")),
    }
}

async fn ask(context: &mut Context<'_>, command: Command) -> Result<()> {
    let scheduler = context.scheduler.clone();
    match command {
        Command::Sql { sql, .. } => rows(context, sql.unwrap_or_default()).await,
        Command::Raw(RawCommand::List) => {
            let found = scheduler.answer(scheduler.raw().list_sources(v1::ListSourcesRequest {})).await?;
            context.list::<_, SourceView>(&found.sources, listing::sources)
        }
        Command::Raw(RawCommand::Show { source }) if source.contains('@') => {
            let (source, version) = source.split_once('@').unwrap_or((&source, ""));
            let version = if version == "current" { "" } else { version };
            let request = v1::DescribeVersionRequest { source: source.to_string(), version: version.to_string() };
            let found = scheduler.answer(scheduler.raw().describe_version(request)).await?;
            if context.is_json() {
                return context.output.json(&SchemaView::from(&found));
            }
            context.output.line(listing::schema(&found, context.output.style()))
        }
        Command::Raw(RawCommand::Show { source }) => {
            let found = scheduler.answer(scheduler.raw().list_versions(v1::ListVersionsRequest { source })).await?;
            context.list::<_, RawVersionView>(&found.versions, listing::raw_versions)
        }
        Command::Raw(raw) => {
            let request = spec::mark(&raw)?;
            let Some(request) = request else {
                return Err(Error::new("internal", "this command is no question to the scheduler"));
            };
            let name = format!("{}@{}", request.source, request.version);
            let is_taken_back = request.action() == v1::MarkAction::Unskip;
            let mark = scheduler.answer(scheduler.raw().mark_version(request)).await?.mark.unwrap_or_default();
            if context.is_json() {
                return context.output.json(&MarkView::from(&mark));
            }
            let told = if is_taken_back {
                format!("is read again; it was {}", mark.told)
            } else {
                format!("is {}", mark.told)
            };
            context.output.line(format!("{name} {told}"))
        }
        Command::Tables(TablesCommand::List) => {
            let found = scheduler.answer(scheduler.catalog().list_tables(v1::ListTablesRequest {})).await?;
            context.list::<_, TableView>(&found.tables, listing::tables)
        }
        Command::Tables(TablesCommand::Show { table: name }) => {
            let found = scheduler.answer(scheduler.catalog().describe_table(v1::DescribeTableRequest { name })).await?;
            if context.is_json() {
                return context.output.json(&TableDetailView::from(&found));
            }
            context.output.line(listing::table(&found, context.output.style()))
        }
        Command::Tables(TablesCommand::History { table: name, limit }) => {
            let request = v1::TableHistoryRequest { name, limit };
            let found = scheduler.answer(scheduler.catalog().table_history(request)).await?;
            context.list::<_, CommitView>(&found.commits, listing::commits)
        }
        Command::Jobs(JobsCommand::List { limit, parts }) => {
            let request = v1::ListJobsRequest { limit, include_parts: parts };
            let found = scheduler.answer(scheduler.jobs().list(request)).await?;
            if context.is_json() {
                return found.jobs.iter().try_for_each(|job| context.output.json(&JobView::new(job)));
            }
            context.output.line(report::jobs(&found.jobs))
        }
        Command::Jobs(JobsCommand::Show { id }) => {
            let job = get(&scheduler, id).await?;
            if context.is_json() {
                return context.output.json(&JobView::new(&job));
            }
            let mut parts = Vec::with_capacity(job.parts.len());
            for id in &job.parts {
                parts.push(get(&scheduler, id.clone()).await?);
            }
            context.output.line(report::details(&job, &parts, context.output.style())?)
        }
        Command::Jobs(JobsCommand::Cancel { id }) => {
            let job = scheduler.answer(scheduler.jobs().cancel(v1::CancelJobRequest { id })).await?;
            if context.is_json() {
                return context.output.json(&JobView::new(&job));
            }
            context.output.line(format!("job {}: {}", job.id, Job(&job).result()))
        }
        Command::Jobs(JobsCommand::Watch { .. })
        | Command::Run { .. }
        | Command::Download { .. }
        | Command::Load { .. }
        | Command::Merge { .. }
        | Command::Question { .. }
        | Command::Optimize { .. } => Err(Error::new("internal", "this command is no question to the scheduler")),
    }
}

async fn get(scheduler: &Scheduler, id: String) -> Result<v1::Job> {
    scheduler.answer(scheduler.jobs().get(v1::GetJobRequest { id })).await
}

/// Follows a job: an object a change in JSON, else progress, and in the end what it did. The program ends as the job does.
async fn watch(context: &mut Context<'_>, id: &str) -> Result<Exit> {
    if context.is_json() {
        let (scheduler, interrupt) = (context.scheduler.clone(), context.interrupt);
        let mut written = Ok(());
        let output = &mut *context.output;
        let ended = follow(&scheduler, id, interrupt, OnInterrupt::Leave, PATIENCE, |job| {
            written = output.json(&JobView::new(job)).and_then(|()| output.flush());
            written.is_ok() && !output.is_closed()
        })
        .await?;
        written?;
        return Ok(ended.map_or(Exit::Done, |ended| Job(&ended.job).exit()));
    }
    follow_to_end(context, id, OnInterrupt::Leave, Progress::stderr()).await
}

/// Prints the rows of a SELECT: JSON as they come, text aligned and thus held in memory.
async fn rows(context: &mut Context<'_>, sql: String) -> Result<()> {
    let scheduler = context.scheduler.clone();
    let request = Request::new(v1::SqlRequest { sql });
    let mut stream = scheduler.query().sql(request).await.map_err(|status| scheduler.error(&status))?.into_inner();
    let mut rows = Rows::new();
    let mut shown: Vec<RecordBatch> = Vec::new();
    let mut room = TEXT_ROWS;
    let mut cut = false;
    while let Some(message) = stream.message().await.map_err(|status| scheduler.error(&status))? {
        for batch in rows.decode(message.ipc)? {
            if context.is_json() {
                context.output.write(&answer::json_lines(&batch)?)?;
            } else {
                cut |= batch.num_rows() > room;
                let taken = batch.slice(0, batch.num_rows().min(room));
                room -= taken.num_rows();
                shown.push(taken);
            }
        }
        context.output.flush()?;
        if cut || context.output.is_closed() {
            break;
        }
    }
    if context.is_json() {
        return if context.output.is_closed() { Ok(()) } else { rows.finish() };
    }
    let schema = rows.schema();
    if !cut {
        rows.finish()?;
    }
    let schema = schema.ok_or_else(|| Error::new("internal", "the scheduler sent no rows, not even their columns"))?;
    context.output.line(answer::text(&schema, &shown)?)?;
    context.output.flush()?;
    if cut {
        let rows = units::count(TEXT_ROWS as u64);
        Progress::stderr().say(&format!("only the first {rows} rows are shown; --output json prints all"));
    }
    Ok(())
}
