//! `trireme-bench-raw`: reads one raw file on one thread and prints what it took, for `benches/raw/run.py`.
//!
//! Both readers get the same record batches to work on: those raw fields that the expressions use, at every level, and no others.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use arrow::datatypes::{Schema, SchemaRef};
use clap::{Parser, ValueEnum};
use datafusion::{
    datasource::provider_as_source,
    execution::options::{CsvReadOptions, JsonReadOptions},
    logical_expr::LogicalPlanBuilder,
    physical_plan::{ExecutionPlan, execute_stream},
    prelude::SessionContext,
};
use futures::StreamExt;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use tokio_util::sync::CancellationToken;
use trireme_engine::{
    Result, Storage,
    raw::{
        CopyPolicy, FetchOutcome, FetchRequest, Manifest, RawFormat, RawSource, RawTable, RawZone, fetch, infer_plan,
        inferred_schema, known_columns,
    },
    session::{SessionOptions, session_config, session_state},
    sql,
};

/// Reads one raw file on one thread.
#[derive(Debug, Parser)]
struct Arguments {
    /// How far the records go.
    #[arg(long, value_enum)]
    work: Work,
    /// Who reads them.
    #[arg(long, value_enum)]
    reader: Reader,
    /// The file: .json (one array or one object a line) or .csv with a header
    #[arg(long)]
    file: PathBuf,
    /// Column as a SQL expression (repeatable)
    #[arg(short = 't', required = true)]
    columns: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Into Arrow.
    Parse,
    /// And through the expressions.
    Transform,
    /// And into Parquet with ZSTD, in memory.
    Encode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reader {
    /// Ours.
    Trireme,
    /// DataFusion's.
    Datafusion,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments)) {
        Ok(line) => {
            use std::io::Write;
            let _ = writeln!(std::io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<serde_json::Value> {
    let lake = tempfile::tempdir()
        .map_err(|error| trireme_engine::Error::new(trireme_engine::Code::Storage, error.to_string()))?;
    let storage = Storage::open(&lake.path().display().to_string())?;
    let runtime = Arc::default();
    let context = SessionContext::new_with_state(session_state(
        session_config(&SessionOptions { target_partitions: 1, ..SessionOptions::default() }),
        runtime,
    )?);
    context.runtime_env().register_object_store(storage.object_store_url()?.as_ref(), storage.store());

    let started = Instant::now();
    let zone = RawZone::new(storage.clone());
    let manifest = download(&storage, arguments).await?;
    let landed = started.elapsed();
    let started = Instant::now();
    let (schema, inferred) = schema(&zone, &manifest, &context).await?;
    let inferring = inferred.then(|| started.elapsed());
    let table = |schema: SchemaRef| Arc::new(RawTable::new(zone.clone(), manifest.clone(), schema));

    let scan = LogicalPlanBuilder::scan("raw", provider_as_source(table(schema.clone())), None)?;
    let (columns, _) = sql::plan_columns(&context.state(), &schema, &arguments.columns, None)?;
    let transformed = scan.project(columns.clone())?.build()?;
    let physical = context.state().create_physical_plan(&transformed).await?;
    let used = pruned(&physical).unwrap_or_else(|| schema.clone());

    let plan = match (arguments.reader, arguments.work) {
        (Reader::Trireme, Work::Parse) => {
            LogicalPlanBuilder::scan("raw", provider_as_source(table(used)), None)?.build()?
        }
        (Reader::Trireme, _) => transformed,
        (Reader::Datafusion, work) => {
            let path = arguments.file.display().to_string();
            let read = match manifest.format {
                RawFormat::Csv => {
                    context.read_csv(path, CsvReadOptions::new().schema(&schema).newlines_in_values(true)).await?
                }
                _ => context.read_json(path, JsonReadOptions::default().schema(&used)).await?,
            };
            match (work, manifest.format) {
                (Work::Parse, RawFormat::Csv) => {
                    let names: Vec<&str> = used.fields().iter().map(|field| field.name().as_str()).collect();
                    read.select_columns(&names)?.into_unoptimized_plan()
                }
                (Work::Parse, _) => read.into_unoptimized_plan(),
                _ => {
                    let (columns, _) =
                        sql::plan_columns(&context.state(), read.schema().as_arrow(), &arguments.columns, None)?;
                    read.select(columns)?.into_unoptimized_plan()
                }
            }
        }
    };
    let physical = context.state().create_physical_plan(&plan).await?;

    let (cpu, started) = (cpu_seconds(), Instant::now());
    let mut batches = execute_stream(physical, context.task_ctx())?;
    let (mut rows, mut writer) = (0, None);
    while let Some(batch) = batches.next().await.transpose()? {
        rows += batch.num_rows();
        if arguments.work == Work::Encode {
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(encoder(batch.schema())?),
            };
            writer.write(&batch).map_err(datafusion::error::DataFusionError::from)?;
        }
    }
    let encoded = match writer {
        Some(writer) => writer.into_inner().map_err(datafusion::error::DataFusionError::from)?.len(),
        None => 0,
    };
    Ok(serde_json::json!({
        "bytes": manifest.bytes(), "rows": rows, "encoded_bytes": encoded,
        "seconds": started.elapsed().as_secs_f64(), "cpu_seconds": cpu_seconds() - cpu,
        "download_seconds": landed.as_secs_f64(), "infer_seconds": inferring.map(|time| time.as_secs_f64()),
    }))
}

async fn download(storage: &Storage, arguments: &Arguments) -> Result<Manifest> {
    let invalid = |error: &dyn std::fmt::Display| {
        trireme_engine::Error::new(trireme_engine::Code::InvalidSpec, format!("{}: {error}", arguments.file.display()))
    };
    let file = std::fs::canonicalize(&arguments.file).map_err(|error| invalid(&error))?;
    let from = format!("file://{}", file.display());
    let (source, version) = ("bench.raw".parse()?, "20260101T000000000Z".parse()?);
    let request =
        FetchRequest { copy: CopyPolicy::Off, ..FetchRequest::new(storage.root().to_string(), source, version, from) };
    match fetch(&request, &CancellationToken::new(), &|_| {}).await? {
        FetchOutcome::Fetched(fetched) => {
            let manifest =
                Manifest::new(request.source, request.version, fetched.origin, fetched.format, fetched.parts);
            RawZone::new(storage.clone()).publish(&manifest).await?;
            Ok(manifest)
        }
        _ => Err(invalid(&"was not stored")),
    }
}

/// The file's columns, and whether they had to be inferred.
async fn schema(zone: &RawZone, manifest: &Manifest, context: &SessionContext) -> Result<(SchemaRef, bool)> {
    if let Some(known) = known_columns(zone, manifest, None).await? {
        return Ok((known, false));
    }
    let batches = datafusion::physical_plan::collect(infer_plan(zone, manifest, 1, false)?, context.task_ctx()).await?;
    let inferred = inferred_schema(&batches)?;
    Ok((inferred.arrow().unwrap_or_else(|| Arc::new(Schema::empty())), true))
}

/// The fields, at every level, that a plan takes from its raw scan.
fn pruned(plan: &Arc<dyn ExecutionPlan>) -> Option<SchemaRef> {
    let source: Option<&datafusion::datasource::source::DataSourceExec> = plan.downcast_ref();
    match source.and_then(|source| source.downcast_to_file_source::<RawSource>()) {
        Some((_, raw)) => raw.pruned().ok(),
        None => plan.children().into_iter().find_map(pruned),
    }
}

fn encoder(schema: SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
    let level = ZstdLevel::try_new(1).map_err(datafusion::error::DataFusionError::from)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    Ok(ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(datafusion::error::DataFusionError::from)?)
}

/// CPU time of this process so far, user and system, from `/proc/self/stat` in ticks of 10 ms (`proc(5)`).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}
