//! The Delta project's golden tables, read by our scan: as the project says, or refused; never wrong.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use datafusion::prelude::{ParquetReadOptions, ident};

use super::{Lake, name, render};
use crate::{
    delta::catalog,
    error::{Code, Result},
};

/// Tables that must be read by a reader with more features than ours.
const REFUSED: &[&str] = &[
    "data-reader-timestamp_ntz-id-mode",
    "data-skipping-basic-stats-all-types-columnmapping-name",
    "dv-partitioned-with-checkpoint",
    "table-with-columnmapping-mode-id",
];

fn archives() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/delta-golden");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: there are no golden tables in {}", folder.display());
        return None;
    };
    let mut archives: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect();
    archives.sort();
    Some(archives)
}

/// Rows of the lake's table, through the log and our scan.
async fn read(lake: &Lake, table: &str) -> Result<Vec<String>> {
    let table = name(table);
    catalog::register(&lake.session, &lake.storage, &[table.clone()].into()).await?;
    Ok(render(&lake.sql(&format!("SELECT * FROM {table}")).await?))
}

/// The rows as they must be, columns in the table's order.
async fn expected(lake: &Lake, table: &str, folder: &Path) -> Vec<String> {
    let opened = catalog::open(&lake.storage, &name(table)).await.unwrap();
    let columns: Vec<_> = opened.schema().fields().map(|field| ident(&field.name)).collect();
    let rows = lake.session.read_parquet(folder.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    render(&rows.select(columns).unwrap().collect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_tables_are_read_right_or_refused() {
    let Some(archives) = archives() else { return };
    let unpacked = tempfile::tempdir().unwrap();
    let lake = Lake::new();
    let tables = lake.storage.table_url(&name("golden.x")).unwrap().to_file_path().unwrap();
    let tables = tables.parent().unwrap();
    std::fs::create_dir_all(tables).unwrap();
    let mut passed = 0;
    for archive in &archives {
        let title = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.zst").to_string();
        let status = Command::new("tar")
            .args(["--zstd", "-C"])
            .arg(unpacked.path())
            .arg("-xf")
            .arg(archive)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{title}");
        let folder = unpacked.path().join(&title);
        if !folder.join("delta/_delta_log").exists() {
            continue;
        }
        let table = format!("golden.t_{}", title.to_lowercase().replace('-', "_"));
        std::fs::rename(folder.join("delta"), tables.join(table.trim_start_matches("golden."))).unwrap();
        let found = read(&lake, &table).await;
        match (found, folder.join("expected")) {
            (Ok(rows), content) if content.exists() => {
                let wanted = expected(&lake, &table, &content).await;
                assert!(rows == wanted, "{title}: {} rows instead of {}", rows.len(), wanted.len());
                passed += 1;
            }
            (Err(error), content) if content.exists() => {
                assert_eq!(error.code, Code::UnsupportedTable, "{title}: {error}");
                assert!(REFUSED.contains(&title.as_str()), "{title}: {error}");
            }
            // Broken logs and made-up files: anything but a wrong answer.
            (outcome, _) => println!("{title}: {:?}", outcome.map(|rows| rows.len()).map_err(|error| error.code)),
        }
    }
    assert!(passed >= 40, "{passed} of {} golden tables were read", archives.len());
}
