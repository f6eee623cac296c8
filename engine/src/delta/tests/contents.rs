//! What counts as applied, by logs that this build, earlier ones and other engines wrote.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use deltalake_core::protocol::SaveMode;
use object_store::ObjectStoreExt;

use super::{Lake, name};
use crate::{
    TableName,
    delta::{CommitLabel, Content, Delivery, SchemaPolicy, Table, Txn, catalog, commit},
};

const VERSION: &str = "20261122T201533123Z";

fn batch(key: i64) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("k", Arc::new(Int64Array::from(vec![key])) as ArrayRef, true)]).unwrap()
}

fn delivery(replaces: bool, version: &str, digest: &str) -> Delivery {
    let (source, version) = ("a.s".parse().unwrap(), version.parse().unwrap());
    Delivery { digest: digest.to_string(), replaces, ..Delivery::new(source, version) }
}

fn label(delivery: Delivery) -> CommitLabel {
    CommitLabel { delivery: Some(delivery), ..CommitLabel::default() }
}

async fn is_applied(lake: &Lake, table: &TableName, delivery: &Delivery) -> bool {
    let table = catalog::open(&lake.storage, table).await.unwrap();
    delivery.is_applied(&table, &Content::of(&table).await.unwrap()).await.unwrap()
}

async fn overwrite_by_another(lake: &Lake, table: &TableName, mode: SaveMode) {
    let table = catalog::open(&lake.storage, table).await.unwrap();
    table.to_delta().await.unwrap().write(vec![batch(9)]).with_save_mode(mode).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_stays_applied_until_it_is_replaced_or_gone_over() {
    let lake = Lake::new();
    let table = name("a.merged");
    let (one, two) = (delivery(false, VERSION, "x"), delivery(false, "20261123T000000000Z", "x"));
    lake.overwrite(&table, vec![batch(1)], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let merge = async |key, delivery: &Delivery| {
        let label = label(delivery.clone());
        lake.merge(&table, vec![batch(key)], &["k"], SchemaPolicy::Same, &label).await.unwrap().0.already_applied
    };
    assert!(!is_applied(&lake, &table, &one).await);
    assert!(!merge(2, &one).await && merge(2, &one).await);
    assert!(!merge(3, &two).await);
    assert!(is_applied(&lake, &table, &one).await && is_applied(&lake, &table, &two).await);
    // The older one with another spec: its rows went over those of the newer.
    let other = delivery(false, VERSION, "y");
    assert!(!merge(2, &other).await);
    assert!(is_applied(&lake, &table, &other).await);
    assert!(!is_applied(&lake, &table, &one).await && !is_applied(&lake, &table, &two).await);
    assert!(!merge(3, &two).await);
    overwrite_by_another(&lake, &table, SaveMode::Append).await;
    assert!(is_applied(&lake, &table, &two).await);
    // Marks are in checkpoints, too, when the commits are gone.
    let held = catalog::open(&lake.storage, &table).await.unwrap();
    assert!(Content::of(&held).await.unwrap().newest(&held, &two.source).await.unwrap() == Some(two.version.number()));
    overwrite_by_another(&lake, &table, SaveMode::Overwrite).await;
    assert!(!is_applied(&lake, &table, &two).await && !is_applied(&lake, &table, &other).await);
    let held = catalog::open(&lake.storage, &table).await.unwrap();
    assert_eq!(Content::of(&held).await.unwrap().newest(&held, &two.source).await.unwrap(), None);
    // The next commit notes that, and what follows is in the new epoch.
    assert!(!merge(2, &one).await && merge(2, &one).await);
    assert!(!is_applied(&lake, &table, &two).await);
    let force = Delivery { force: true, ..one.clone() };
    assert!(!merge(2, &force).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_what_the_table_holds_and_nothing_else() {
    let lake = Lake::new();
    let table = name("a.loaded");
    let (one, two) = (delivery(true, VERSION, "x"), delivery(true, VERSION, "y"));
    let load = async |key, delivery: &Delivery| {
        let label = label(delivery.clone());
        lake.overwrite(&table, vec![batch(key)], SchemaPolicy::Same, &label).await.unwrap().already_applied
    };
    assert!(!load(1, &one).await && load(1, &one).await);
    assert!(!load(2, &two).await && !load(1, &one).await);
    assert!(!is_applied(&lake, &table, &two).await);
    let opened = catalog::open(&lake.storage, &table).await.unwrap();
    commit::nothing(&opened, &label(delivery(false, VERSION, "x"))).await.unwrap();
    assert!(!is_applied(&lake, &table, &one).await, "whoever merges no row says so, too");
    assert!(!load(1, &one).await);
    overwrite_by_another(&lake, &table, SaveMode::Append).await;
    assert!(!is_applied(&lake, &table, &one).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_builds_applied_is_recognised() {
    let lake = Lake::new();
    let table = name("a.old");
    let (load, merge) = (delivery(true, VERSION, "x"), delivery(false, VERSION, "x"));
    let number = load.version.number();
    lake.overwrite(&table, vec![batch(1)], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let first = lake.storage.table_path(&table).join("_delta_log").join("00000000000000000000.json");
    let text = lake.storage.store().get(&first).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("trireme:")).collect();
    let old = format!(r#"{{"txn":{{"appId":"trireme:load:a.s:x","version":{number}}}}}"#);
    lines.push(&old);
    lake.storage.store().put(&first, lines.join("\n").into()).await.unwrap();
    assert!(is_applied(&lake, &table, &load).await);
    assert!(!is_applied(&lake, &table, &delivery(true, VERSION, "y")).await);
    // As an earlier build merged.
    let opened = Table::require(&lake.storage, &table).await.unwrap();
    let txn = Some(Txn { app_id: format!("trireme:merge:a.s@{VERSION}:x"), version: number });
    let spec = crate::delta::WriteSpec::new(&lake.storage, &table, &opened.schema(), &[]);
    let files = lake.write(spec, vec![batch(2)]).await.unwrap().files;
    commit::append(&opened, files, &CommitLabel { txn, ..CommitLabel::default() }).await.unwrap();
    assert!(is_applied(&lake, &table, &merge).await && !is_applied(&lake, &table, &load).await);
    overwrite_by_another(&lake, &table, SaveMode::Append).await;
    assert!(is_applied(&lake, &table, &merge).await);
    overwrite_by_another(&lake, &table, SaveMode::Overwrite).await;
    assert!(!is_applied(&lake, &table, &merge).await);
}
