//! Random histories of merges, overwrites and optimizations against a plain model and the library's own merge.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::prelude::col;
use deltalake_core::{DeltaTable, protocol::SaveMode};
use proptest::{collection::btree_map, prelude::*, test_runner::Config};

use super::{Lake, name};
use crate::delta::{CommitLabel, SchemaPolicy, Table, optimize::Limits};

/// Key (its second part may be null in an overwrite, and matches nothing then) to value.
type Rows = BTreeMap<(i64, Option<String>), String>;

#[derive(Debug, Clone)]
enum Step {
    Merge(Rows),
    Overwrite(Rows),
    /// With a target size, and how many percent of a file must be retired.
    Optimize(Limits),
}

fn rows(nulls: bool) -> impl Strategy<Value = Rows> {
    let part = prop_oneof![8 => Just(Some("a".to_string())), 8 => Just(Some("zz".to_string())),
        u32::from(nulls) => Just(None)];
    btree_map((-6i64..6, part), "[a-c]{1,2}", 1..10)
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![4 => rows(false).prop_map(Step::Merge), 1 => rows(true).prop_map(Step::Overwrite),
    3 => (1000..20_000u64, 1..100u32).prop_map(|(target_bytes, retired_percent)| {
        Step::Optimize(Limits { target_bytes, retired_percent })
    })];
    (rows(true), prop::collection::vec(step, 1..6)).prop_map(|(first, mut steps)| {
        steps.insert(0, Step::Overwrite(first));
        steps
    })
}

/// The rows as `parts` batches, each a file with its own key range.
fn batches(rows: &Rows, parts: usize) -> Vec<RecordBatch> {
    let rows: Vec<_> = rows.iter().collect();
    rows.chunks(rows.len().div_ceil(parts))
        .map(|rows| {
            RecordBatch::try_from_iter_with_nullable([
                ("k", Arc::new(rows.iter().map(|((k, _), _)| *k).collect::<Int64Array>()) as _, true),
                ("part", Arc::new(rows.iter().map(|((_, p), _)| p.clone()).collect::<StringArray>()) as _, true),
                ("value", Arc::new(rows.iter().map(|(_, v)| Some(v.as_str())).collect::<StringArray>()) as _, true),
            ])
            .unwrap()
        })
        .collect()
}

fn expected(rows: &Rows) -> Vec<String> {
    let mut lines: Vec<_> =
        rows.iter().map(|((k, part), v)| format!("{k}|{}|{v}", part.as_deref().unwrap_or("NULL"))).collect();
    lines.sort();
    lines
}

/// The same step by the library, on a table of its own.
async fn by_library(lake: &Lake, oracle: DeltaTable, step: &Step) -> DeltaTable {
    match step {
        Step::Overwrite(rows) => oracle.write(batches(rows, 1)).with_save_mode(SaveMode::Overwrite).await.unwrap(),
        Step::Merge(rows) => {
            let [source] = batches(rows, 1).try_into().unwrap();
            let source = lake.session.read_batch(source).unwrap();
            let on = col("target.k").eq(col("source.k")).and(col("target.part").eq(col("source.part")));
            let merge = oracle.merge(source, on).with_source_alias("source").with_target_alias("target");
            let merge = merge.when_matched_update(|update| update.update("value", col("source.value"))).unwrap();
            let merge = merge
                .when_not_matched_insert(|insert| {
                    ["k", "part", "value"]
                        .into_iter()
                        .fold(insert, |insert, name| insert.set(name, col(format!("source.{name}"))))
                })
                .unwrap();
            merge.await.unwrap().0
        }
        Step::Optimize(_) => oracle,
    }
}

async fn replay(steps: Vec<Step>, vectors: bool, slices: u64) {
    let mut lake = Lake { vectors, key_bytes: 19 * 10 / slices, ..Lake::new() };
    lake.settings.key_bloom_fpp = 0.01;
    let (ours, theirs) = (name("test.ours"), name("test.theirs"));
    let mut model = Rows::new();
    let mut oracle: Option<DeltaTable> = None;
    for (at, step) in steps.iter().enumerate() {
        let label = CommitLabel::default();
        match step {
            Step::Overwrite(rows) => {
                model = rows.clone();
                lake.overwrite(&ours, batches(rows, 3), SchemaPolicy::Same, &label).await.unwrap();
            }
            Step::Merge(rows) => {
                let replaced = rows.keys().filter(|key| model.contains_key(key)).count() as u64;
                model.extend(rows.clone());
                let (_, counts) =
                    lake.merge(&ours, batches(rows, 2), &["k", "part"], SchemaPolicy::Same, &label).await.unwrap();
                assert_eq!((counts.updated, counts.inserted), (replaced, rows.len() as u64 - replaced), "step {at}");
            }
            Step::Optimize(limits) => {
                let table = Table::require(&lake.storage, &ours).await.unwrap();
                let parts = lake.rewrite(&table, *limits).await.unwrap();
                if !parts.is_empty() {
                    lake.land(&table, &parts, *limits).await.unwrap();
                }
            }
        }
        oracle = Some(match oracle.take() {
            Some(oracle) => by_library(&lake, oracle, step).await,
            None => {
                let Step::Overwrite(rows) = step else { unreachable!("a history begins with an overwrite") };
                lake.overwrite(&theirs, batches(rows, 1), SchemaPolicy::Same, &label).await.unwrap();
                Table::require(&lake.storage, &theirs).await.unwrap().to_delta().await.unwrap()
            }
        });
        let found = lake.rows(&ours).await;
        assert_eq!(found, expected(&model), "step {at} against the model");
        assert_eq!(found, lake.rows(&theirs).await, "step {at} against the library");
    }
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    #[test]
    fn merges_overwrites_and_optimizations_give_what_a_map_and_the_library_give(
        steps in history(), vectors in any::<bool>(), slices in 1..4u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(replay(steps, vectors, slices));
    }
}
