//! Racing and repeated commits, schema changes, history.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use deltalake_core::kernel::{Action, CommitInfo};
use object_store::ObjectStoreExt;

use super::{Lake, name, text};
use crate::{
    delta::{CommitLabel, SchemaPolicy, Table, Txn, WriteSpec, catalog, commit, schema},
    error::Code,
};

fn batch(keys: &[i64], value: &str) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from(keys.to_vec())) as ArrayRef, true),
        ("v", Arc::new(StringArray::from(vec![value; keys.len()])) as ArrayRef, true),
    ])
    .unwrap()
}

fn label(txn: Option<(&str, i64)>) -> CommitLabel {
    CommitLabel {
        job_id: "job-7".to_string(),
        txn: txn.map(|(app_id, version)| Txn { app_id: app_id.to_string(), version }),
        ..CommitLabel::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_commits_of_the_same_work_land_once() {
    let lake = Arc::new(Lake::new());
    let table = name("a.race");
    for round in 0..3 {
        // Round 0 races for the creation, the others for the next version.
        let base = Table::open(&lake.storage, &table).await.unwrap();
        let schema = schema::to_delta(&batch(&[1], "x").schema()).unwrap();
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..8i64 {
            let spec = WriteSpec::new(&lake.storage, &table, &schema, &[]);
            let written = lake.write(spec, vec![batch(&[racer], "x")]).await.unwrap();
            let (lake, table, base, schema) = (lake.clone(), table.clone(), base.clone(), schema.clone());
            racers.spawn(async move {
                let label = label(Some(("source", round)));
                match base {
                    None => {
                        commit::create(&lake.storage, &table, &schema, &Default::default(), written.files, &label).await
                    }
                    Some(base) => commit::overwrite(&base, &schema, written.files, &label).await,
                }
            });
        }
        let outcomes: Vec<_> = racers.join_all().await.into_iter().map(|outcome| outcome.unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|committed| !committed.already_applied).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(|committed| committed.version == round as u64), "{outcomes:?}");
        assert_eq!(lake.rows(&table).await.len(), 1);
        assert_eq!(catalog::open(&lake.storage, &table).await.unwrap().applied("source").await.unwrap(), Some(round));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_work_is_applied_once_and_newer_work_again() {
    let lake = Lake::new();
    let table = name("a.txn");
    let first =
        lake.overwrite(&table, vec![batch(&[1], "x")], SchemaPolicy::Same, &label(Some(("s", 1)))).await.unwrap();
    assert!(!first.already_applied);
    let again =
        lake.overwrite(&table, vec![batch(&[2], "y")], SchemaPolicy::Same, &label(Some(("s", 1)))).await.unwrap();
    assert!(again.already_applied && again.version == 0);
    let merged =
        lake.merge(&table, vec![batch(&[2], "z")], &["k"], SchemaPolicy::Same, &label(Some(("s", 2)))).await.unwrap();
    assert!(!merged.0.already_applied);
    let again =
        lake.merge(&table, vec![batch(&[2], "!")], &["k"], SchemaPolicy::Same, &label(Some(("s", 2)))).await.unwrap();
    assert!(again.0.already_applied);
    assert_eq!(lake.rows(&table).await, ["1|x", "2|z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_writer_is_a_conflict_and_a_note_is_none() {
    let lake = Lake::new();
    let table = name("a.conflict");
    lake.overwrite(&table, vec![batch(&[1], "x")], SchemaPolicy::Same, &label(None)).await.unwrap();
    let stale = catalog::open(&lake.storage, &table).await.unwrap();
    let spec = WriteSpec::new(&lake.storage, &table, &stale.schema(), &[]);
    let ours = lake.write(spec, vec![batch(&[3], "ours")]).await.unwrap().files;

    // VACUUM and the like leave commits without a change.
    let note = serde_json::to_string(&Action::CommitInfo(CommitInfo::default())).unwrap();
    let log = lake.storage.table_path(&table).join("_delta_log");
    lake.storage.store().put(&log.clone().join("00000000000000000001.json"), note.into()).await.unwrap();
    let committed = commit::overwrite(&stale, &stale.schema(), ours.clone(), &label(None)).await.unwrap();
    assert_eq!((committed.version, committed.already_applied), (2, false));

    // An append by the library, which an overwrite that were moved past it would miss.
    let stale = catalog::open(&lake.storage, &table).await.unwrap();
    stale.to_delta().await.unwrap().write(vec![batch(&[9], "theirs")]).await.unwrap();
    let error = commit::overwrite(&stale, &stale.schema(), ours, &label(Some(("s", 1)))).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert!(text(&error).contains("a.conflict (version 3)"), "{error}");
    assert_eq!(lake.rows(&table).await, ["3|ours", "9|theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_in_the_commit_that_needs_them() {
    let lake = Lake::new();
    let table = name("a.evolves");
    lake.overwrite(&table, vec![batch(&[1, 2], "x"), batch(&[3], "x")], SchemaPolicy::Same, &label(None))
        .await
        .unwrap();
    let id = catalog::open(&lake.storage, &table).await.unwrap().snapshot().metadata().id().to_string();
    let wider = RecordBatch::try_from_iter_with_nullable([
        ("more", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef, true),
        ("v", Arc::new(StringArray::from(vec!["new", "new"])) as ArrayRef, true),
        ("k", Arc::new(Int64Array::from(vec![2, 4])) as ArrayRef, true),
    ])
    .unwrap();
    let strict = lake.merge(&table, vec![wider.clone()], &["k"], SchemaPolicy::Same, &label(None)).await.unwrap_err();
    assert_eq!(strict.code, Code::SchemaMismatch);
    lake.merge(&table, vec![wider], &["k"], SchemaPolicy::AddColumns, &label(None)).await.unwrap();
    assert_eq!(lake.rows(&table).await, ["1|x|NULL", "2|new|7", "3|x|NULL", "4|new|8"]);
    let evolved = catalog::open(&lake.storage, &table).await.unwrap();
    assert_eq!((evolved.version(), evolved.snapshot().metadata().id()), (1, id.as_str()));

    // A question's result replaces columns too; the table stays the same table.
    let other = RecordBatch::try_from_iter([("only", Arc::new(StringArray::from(vec!["one"])) as ArrayRef)]).unwrap();
    lake.overwrite(&table, vec![other], SchemaPolicy::Replace, &label(None)).await.unwrap();
    assert_eq!(lake.rows(&table).await, ["one"]);
    assert_eq!(catalog::open(&lake.storage, &table).await.unwrap().snapshot().metadata().id(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_description_tell_what_happened() {
    let lake = Lake::new();
    let table = name("a.told");
    lake.overwrite(&table, vec![batch(&[1, 2], "x")], SchemaPolicy::Same, &label(None)).await.unwrap();
    lake.merge(&table, vec![batch(&[2, 3, 4], "y")], &["k"], SchemaPolicy::Same, &label(Some(("s", 5)))).await.unwrap();
    let opened = catalog::open(&lake.storage, &table).await.unwrap();
    let history = catalog::history(&opened, 10).await.unwrap();
    let [merge, write] = history.as_slice() else { panic!("{history:?}") };
    assert_eq!((merge.version, merge.operation.as_str(), merge.job_id.as_str()), (1, "MERGE", "job-7"));
    assert!(merge.engine.starts_with("trireme/") && merge.time.is_some());
    assert_eq!(merge.parameters["predicate"], "target.`k` = source.`k`");
    let metric = |key: &str| merge.metrics[key].as_str();
    assert_eq!((metric("numTargetRowsInserted"), metric("numTargetRowsUpdated")), ("2", "1"));
    assert_eq!((metric("numTargetRowsCopied"), metric("numOutputRows")), ("1", "4"));
    assert_eq!((metric("numTargetFilesAdded"), metric("numTargetFilesRemoved")), ("2", "1"));
    assert_eq!((write.operation.as_str(), write.metrics["numOutputRows"].as_str()), ("WRITE", "2"));
    assert_eq!(catalog::history(&opened, 1).await.unwrap().len(), 1);

    let told = catalog::describe(&opened).unwrap();
    assert_eq!((told.version, told.rows, told.files, told.protocol), (1, Some(4), 2, (1, 2)));
    let columns: Vec<_> = told.columns.iter().map(|column| (column.name.as_str(), column.type_name.as_str())).collect();
    assert_eq!(columns, [("k", "bigint"), ("v", "string")]);

    // A folder without a log is no table.
    lake.storage.store().put(&lake.storage.path("tables/a/none/x"), "x".into()).await.unwrap();
    lake.overwrite(&name("b.other"), vec![batch(&[1], "x")], SchemaPolicy::Same, &label(None)).await.unwrap();
    assert_eq!(catalog::list(&lake.storage).await.unwrap(), [table, name("b.other")]);
    for (wrong, hint) in [("a.tolt", "a.told"), ("c.other", "b.other"), ("x.nothing_like_it", "tables list")] {
        let error = catalog::open(&lake.storage, &name(wrong)).await.unwrap_err();
        assert_eq!(error.code, Code::TableNotFound);
        assert!(error.hint.contains(hint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_come_every_ten_versions_and_are_read() {
    let lake = Lake::new();
    let table = name("a.checkpoints");
    for version in 0..=10 {
        let committed = lake
            .overwrite(&table, vec![batch(&[version], "x")], SchemaPolicy::Same, &label(Some(("s", version))))
            .await
            .unwrap();
        let made = commit::checkpoint_when_due(&lake.storage, &table, committed.version).await;
        assert_eq!(made, version == 10, "version {version}");
    }
    let log = lake.storage.table_path(&table).join("_delta_log");
    for version in 0..=10 {
        // Only the checkpoint is left.
        lake.storage.store().delete(&log.clone().join(format!("{version:020}.json"))).await.unwrap();
    }
    assert_eq!(lake.rows(&table).await, ["10|x"]);
    let opened = catalog::open(&lake.storage, &table).await.unwrap();
    assert_eq!(opened.applied("s").await.unwrap(), Some(10));
    assert_eq!(opened.files().unwrap().rows(), Some(1));
    assert!(!commit::checkpoint_when_due(&lake.storage, &name("a.none"), 10).await);
}
