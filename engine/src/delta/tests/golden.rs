//! The Delta project's golden tables, read by our scan as the project says, or refused where the protocol asks for that; never wrong.

use std::{
    hash::{DefaultHasher, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use arrow::{
    array::{Array, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, Schema},
    row::{RowConverter, SortField},
};
use datafusion::{
    common::ScalarValue,
    datasource::MemTable,
    prelude::{DataFrame, ParquetReadOptions, ident, lit},
};

use super::{Lake, name, render};
use crate::{
    delta::{catalog, schema},
    error::{Code, Error, Result},
};

/// Tables that come without content: they exercise the log alone. What a reader must do with each.
const WITHOUT_CONTENT: &[(&str, Outcome)] = &[
    // Removed again under another spelling of the same absolute path. The library replays paths as they are written, so the file, which
    // was never there, counts as live: reading says that it is missing.
    ("canonicalized-paths-normal-a", Outcome::Fails(Code::Storage)),
    ("canonicalized-paths-normal-b", Outcome::Fails(Code::Storage)),
    ("canonicalized-paths-special-b", Outcome::Fails(Code::Storage)),
    // Made-up file names over a good log.
    ("checkpoint", Outcome::Fails(Code::Storage)),
    // "A Delta table must have a protocol and a metadata action", and a schema in it.
    ("data-reader-absolute-paths-escaped-chars", Outcome::Fails(Code::UnsupportedTable)),
    ("deltalog-commit-info", Outcome::Fails(Code::UnsupportedTable)),
    ("deltalog-state-reconstruction-from-checkpoint-missing-metadata", Outcome::Fails(Code::UnsupportedTable)),
    ("deltalog-state-reconstruction-from-checkpoint-missing-protocol", Outcome::Fails(Code::UnsupportedTable)),
    ("deltalog-state-reconstruction-without-protocol", Outcome::Fails(Code::UnsupportedTable)),
    ("update-deleted-directory", Outcome::Fails(Code::UnsupportedTable)),
    // Versions of the log must follow one another without a gap.
    ("versions-not-contiguous", Outcome::Fails(Code::UnsupportedTable)),
    // A folder of tables of another connector's tests.
    ("deltatbl-column-names-case-insensitive", Outcome::Rows(10)),
    ("deltatbl-deleted-path", Outcome::Rows(10)),
    ("deltatbl-incorrect-format-config", Outcome::Rows(10)),
    ("deltatbl-map-types-correctly", Outcome::Rows(1)),
    ("deltatbl-non-partitioned", Outcome::Rows(10)),
    ("deltatbl-not-allow-write", Outcome::Rows(10)),
    ("deltatbl-partition-prune", Outcome::Rows(5)),
    ("deltatbl-partitioned", Outcome::Rows(10)),
    ("deltatbl-schema-match", Outcome::Rows(10)),
    ("deltatbl-special-chars-in-partition-column", Outcome::Rows(10)),
    ("deltatbl-touch-files-needed-for-partitioned", Outcome::Rows(10)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Rows(usize),
    Fails(Code),
}

fn archives() -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("TRIREME_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let folder = shared.join("data/delta-golden");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no golden tables in {}; TRIREME_SHARED=DIR says where they are", folder.display());
        return None;
    };
    let mut archives: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect();
    archives.sort();
    Some(archives)
}

/// A table in the lake's place for tables, and where its content is, if it came with one.
struct Golden {
    title: String,
    table: String,
    content: Option<PathBuf>,
}

/// Unpacks an archive and moves its tables into the lake.
fn unpack(archive: &Path, folder: &Path, lake: &Path) -> Vec<Golden> {
    let title = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.zst").to_string();
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-C"]).arg(folder).arg("-xf").arg(archive).stderr(Stdio::null());
    assert!(tar.status().unwrap().success(), "{title}");
    let (delta, content) = (folder.join(&title).join("delta"), folder.join(&title).join("expected"));
    let tables = if delta.join("_delta_log").exists() {
        vec![(title, delta)]
    } else {
        let tables = std::fs::read_dir(&delta).unwrap().map(|entry| entry.unwrap().path());
        tables.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), path)).collect()
    };
    tables
        .into_iter()
        .map(|(title, delta)| {
            let table = format!("t_{}", title.to_lowercase().replace('-', "_"));
            std::fs::rename(delta, lake.join(&table)).unwrap();
            Golden { title, table: format!("golden.{table}"), content: content.exists().then(|| content.clone()) }
        })
        .collect()
}

/// The lake's table, through the log, our scan, its bytes and several partitions.
async fn read(lake: &Lake, table: &str) -> Result<Vec<RecordBatch>> {
    let table = name(table);
    catalog::register(&lake.session, &lake.storage, &[table.clone()].into()).await?;
    lake.sql(&format!("SELECT * FROM {table}")).await
}

fn types(batches: &[RecordBatch]) -> Vec<(String, String)> {
    let schema = schema::to_delta(&batches[0].schema()).unwrap();
    schema.fields().map(|field| (field.name.clone(), schema::type_name(&field.data_type))).collect()
}

/// Rows and columns must be the content's: the same rows, each as often, of the same types.
async fn compare(lake: &Lake, table: &str, content: &Path, found: &[RecordBatch]) -> std::result::Result<(), String> {
    let opened = catalog::open(&lake.storage, &name(table)).await.unwrap();
    let columns: Vec<_> = opened.schema().fields().map(|field| ident(&field.name)).collect();
    let content = lake.session.read_parquet(content.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let empty = RecordBatch::new_empty(content.clone().select(columns.clone()).unwrap().schema().inner().clone());
    let mut content = content.select(columns).unwrap().collect().await.unwrap();
    content.push(empty);
    let mut all = found.to_vec();
    all.push(RecordBatch::new_empty(opened.arrow_schema().unwrap()));
    if found.iter().any(|batch| batch.schema().fields() != all.last().unwrap().schema().fields()) {
        return Err(format!("columns {:?} instead of the table's", found[0].schema()));
    }
    if types(&all) != types(&content) {
        return Err(format!("columns {:?} instead of {:?}", types(&all), types(&content)));
    }
    if found.iter().map(RecordBatch::num_rows).sum::<usize>() > 100_000 {
        let same = fingerprint(found, &all[0].schema()) == fingerprint(&content, &all[0].schema());
        return if same { Ok(()) } else { Err("other rows".to_string()) };
    }
    let (rows, wanted) = (render(found), render(&content));
    match rows == wanted {
        true => Ok(()),
        false => Err(format!("{} rows instead of {}, or others:\n{rows:#?}\n{wanted:#?}", rows.len(), wanted.len())),
    }
}

/// The number of rows and two sums of their hashes: the same for the same rows, each as often, in any order.
fn fingerprint(batches: &[RecordBatch], schema: &Schema) -> (usize, u64, u64) {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).unwrap();
    let mut sums = (0, 0u64, 0u64);
    for batch in batches {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns: Vec<_> = columns.map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
        for row in converter.convert_columns(&columns).unwrap().iter() {
            let hash = |seed: u64| {
                let mut hasher = DefaultHasher::new();
                hasher.write_u64(seed);
                hasher.write(row.as_ref());
                hasher.finish()
            };
            sums = (sums.0 + 1, sums.1.wrapping_add(hash(1)), sums.2.wrapping_add(hash(2)));
        }
    }
    sums
}

async fn count(lake: &Lake, rows: DataFrame) -> usize {
    let plan = rows.select_columns(&[]).unwrap().into_optimized_plan().unwrap();
    lake.query(&plan).await.unwrap().iter().map(RecordBatch::num_rows).sum()
}

/// A filter that reaches files, row groups and pages must give what it gives over the rows themselves.
async fn compare_filtered(lake: &Lake, table: &str, found: &[RecordBatch]) -> std::result::Result<(), String> {
    let Some(first) = found.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
    let all = concat_batches(&first.schema(), found).unwrap();
    let memory = Arc::new(MemTable::try_new(all.schema(), vec![vec![all.clone()]]).unwrap());
    for (field, column) in all.schema().fields().iter().zip(all.columns()).take(8) {
        if field.data_type().is_nested() || matches!(field.data_type(), DataType::Binary) {
            continue;
        }
        let value = ScalarValue::try_from_array(column, column.len() / 2).unwrap();
        let filter = match value.is_null() {
            true => ident(field.name()).is_null(),
            false => ident(field.name()).eq(lit(value)),
        };
        let scanned = lake.session.table(name(table).to_string()).await.unwrap().filter(filter.clone()).unwrap();
        let scanned = count(lake, scanned).await;
        let wanted = lake.session.read_table(memory.clone()).unwrap().filter(filter.clone()).unwrap();
        let wanted = wanted.count().await.unwrap();
        if scanned != wanted {
            return Err(format!("{scanned} rows instead of {wanted} where {filter}"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_tables_are_read_right_or_refused() {
    let Some(archives) = archives() else { return };
    let unpacked = tempfile::tempdir().unwrap();
    let lake = Lake::new();
    let tables = lake.storage.table_url(&name("golden.x")).unwrap().to_file_path().unwrap();
    let tables = tables.parent().unwrap();
    std::fs::create_dir_all(tables).unwrap();
    let (mut passed, mut with_content, mut failures) = (0, 0, Vec::new());
    for Golden { title, table, content } in archives.iter().flat_map(|path| unpack(path, unpacked.path(), tables)) {
        let found = read(&lake, &table).await;
        let shown = match &found {
            Ok(batches) => format!("{} rows", batches.iter().map(RecordBatch::num_rows).sum::<usize>()),
            Err(Error { code, message, .. }) => format!("{code:?}: {message}"),
        };
        let outcome = match (&found, &content) {
            (Ok(batches), Some(content)) => match compare(&lake, &table, content, batches).await {
                Ok(()) => compare_filtered(&lake, &table, batches).await,
                failure => failure,
            },
            (Err(_), Some(_)) => Err(shown.clone()),
            (_, None) => {
                let seen = match &found {
                    Ok(batches) => Outcome::Rows(batches.iter().map(RecordBatch::num_rows).sum()),
                    Err(error) => Outcome::Fails(error.code),
                };
                match WITHOUT_CONTENT.iter().find(|(known, _)| *known == title) {
                    Some((_, wanted)) if seen == *wanted => Ok(()),
                    Some((_, wanted)) => Err(format!("{shown} instead of {wanted:?}")),
                    None => Err(format!("{shown}, and nobody says what is right")),
                }
            }
        };
        with_content += usize::from(content.is_some());
        passed += usize::from(content.is_some() && outcome.is_ok());
        let verdict = match (&outcome, &found) {
            (Err(_), _) => "FAIL",
            (Ok(()), Err(_)) => "refuse",
            (Ok(()), Ok(_)) => "pass",
        };
        println!("{verdict:6} {title}: {shown}");
        if let Err(what) = outcome {
            failures.push(format!("{title}: {what}"));
        }
    }
    println!("{passed} of {with_content} tables with content were read right");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((passed, with_content), (48, 48));
}
