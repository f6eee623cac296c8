//! Queries whose texts are views give what they give with texts.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::DataType,
};
use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    execution::SessionState,
    physical_plan::{ExecutionPlan, collect},
};

use super::{Lake, name, render};
use crate::{
    delta::{CommitLabel, SchemaPolicy, catalog},
    session::{CATALOG, SessionOptions, session_config, session_state},
    sql,
};

const VIEWS: [&str; 14] = [
    "SELECT CASE WHEN k > 5 THEN 1 ELSE name END AS x FROM t.people WHERE k > 0",
    "SELECT t.name, p.k FROM t.towns t RIGHT JOIN t.people p ON t.name = p.city WHERE p.k < 500",
    "SELECT * FROM t.people WHERE city < 'H'",
    "SELECT city, count(*) AS n, count(DISTINCT name) AS names, min(name) AS a, max(Note) AS z FROM t.people GROUP BY city",
    "SELECT a.name, b.city, a.k + b.k AS k FROM t.people a JOIN t.people b ON a.name = b.city WHERE a.k < 300",
    "SELECT p.city, count(t.name) AS n FROM t.people p LEFT JOIN t.towns t ON t.name = p.city GROUP BY p.city",
    "SELECT k FROM t.people WHERE note LIKE '%7%' AND city IN ('Graz', 'Upper Sandusky, Ohio', '') OR name > 'name 29'",
    "SELECT DISTINCT name AS text FROM t.people UNION SELECT city FROM t.people UNION ALL SELECT 'a text that is not short'",
    "SELECT CASE WHEN k % 3 = 0 THEN name WHEN k % 3 = 1 THEN 'none of these' END AS text, note IS NULL AS none FROM t.people WHERE name > 'name 2'",
    "SELECT k, name FROM t.people WHERE city = (SELECT max(name) FROM t.towns) AND name <> 'name 1'",
    "SELECT k FROM t.people WHERE city NOT IN (SELECT name FROM t.towns WHERE name IS NOT NULL) AND name BETWEEN 'name 1' AND 'name 2'",
    "SELECT count(DISTINCT city) AS cities, max(name) AS last, avg(k) AS k FROM t.people WHERE k % 10 < 8",
    "SELECT name AS text, k FROM t.people WHERE NOT (city = name) AND EXISTS (SELECT 1 FROM t.towns)",
    "SELECT count(*) AS n FROM (SELECT name, city, note FROM t.people GROUP BY name, city, note)",
];

const TEXTS: [&str; 9] = [
    "SELECT NULL AS x FROM t.people WHERE k > 3190 UNION ALL SELECT note FROM t.people",
    "SELECT k AS x FROM t.people WHERE k > 0 UNION SELECT name FROM t.people",
    "SELECT * FROM t.people",
    "SELECT upper(name) AS text FROM t.people WHERE k > 7",
    "SELECT name || city AS text FROM t.people",
    "SELECT size(collect_set(city)) AS cities FROM t.people",
    "SELECT k FROM t.people WHERE CAST(substr(name, 6) AS int) > 20",
    "SELECT name, k FROM t.people ORDER BY name, k LIMIT 2000",
    "SELECT name, row_number() OVER (PARTITION BY city ORDER BY k) AS n FROM t.people",
];

/// Both sides are shuffled where they are too large to be broadcast: views of whole pages are too large to be shuffled.
const SHUFFLED: &str = "SELECT count(*) AS n FROM t.people a JOIN t.people b ON a.note = b.note AND a.name < b.name";

async fn lake() -> Lake {
    let lake = Lake { vectors: true, ..Lake::new() };
    let (people, towns, label) = (name("t.people"), name("t.towns"), CommitLabel::default());
    let cities =
        [Some("Graz"), Some("Upper Sandusky, Ohio"), None, Some(""), Some("Åkersberga på svenska"), Some("name 7")];
    let rows = |range: std::ops::Range<i64>| {
        let text = |k: i64| (k % 11 != 3).then(|| format!("note {} of a person that is somewhere", k % 40));
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("k", Arc::new(Int64Array::from_iter_values(range.clone())), true),
            (
                "name",
                Arc::new(StringArray::from_iter_values(range.clone().map(|k| format!("name {}", k * 7919 % 311)))),
                true,
            ),
            ("city", Arc::new(range.clone().map(|k| cities[k as usize % cities.len()]).collect::<StringArray>()), true),
            ("Note", Arc::new(range.map(text).collect::<StringArray>()), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    lake.overwrite(&people, vec![rows(0..1000), rows(1000..3000)], SchemaPolicy::Same, &label).await.unwrap();
    lake.merge(&people, vec![rows(500..1100), rows(2900..3200)], &["k"], SchemaPolicy::Same, &label).await.unwrap();
    let town: ArrayRef =
        Arc::new(StringArray::from(vec![Some("Graz"), Some("Upper Sandusky, Ohio"), None, Some("Oulu")]));
    let town = RecordBatch::try_from_iter_with_nullable([("name", town, true)]).unwrap();
    lake.overwrite(&towns, vec![town], SchemaPolicy::Same, &label).await.unwrap();
    catalog::register(&lake.session, &lake.storage, &BTreeSet::from([people, towns])).await.unwrap();
    lake
}

/// A session over the lake's tables with Spark's meanings and scans of several partitions; joins broadcast up to so many bytes.
pub(super) fn session(lake: &Lake, broadcast: u64) -> SessionState {
    let options = SessionOptions { target_partitions: 3, ..SessionOptions::default() };
    let config = session_config(&options)
        .set_usize("datafusion.optimizer.repartition_file_min_size", 1)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", broadcast)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", broadcast);
    let state = session_state(config, lake.session.runtime_env()).unwrap();
    let catalog = lake.session.state().config_options().catalog.default_catalog.clone();
    let tables = lake.session.catalog(&catalog).unwrap().schema("t").unwrap();
    state.catalog_list().catalog(CATALOG).unwrap().register_schema("t", tables).unwrap();
    state
}

/// Whether a plan's scans read texts as views.
fn reads_views(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            let config = scan.data_source().downcast_ref::<FileScanConfig>().unwrap();
            found |= config.file_schema().fields().iter().any(|field| field.data_type() == &DataType::Utf8View);
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found
}

/// Plans a query both ways, and checks that it gives the same; whether texts were views.
async fn compare(state: &SessionState, text: &str) -> bool {
    let plan = sql::plan_select(state, &sql::parse_select(text, "").unwrap()).await.unwrap();
    let plain = state.create_physical_plan(&plan).await.unwrap();
    let viewed = sql::physical_plan(state, &plan).await.unwrap();
    let views = reads_views(&viewed);
    assert!(!reads_views(&plain), "{text}");
    let types = |plan: &Arc<dyn ExecutionPlan>| {
        plan.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
    };
    assert_eq!(types(&viewed), types(&plain), "{text}");
    let expected = render(&collect(plain, state.task_ctx()).await.unwrap());
    assert!(!expected.is_empty(), "{text}");
    assert_eq!(render(&collect(viewed, state.task_ctx()).await.unwrap()), expected, "{text}");
    views
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_give_the_same_with_texts_as_views() {
    let lake = lake().await;
    let (broadcasting, shuffling) = (session(&lake, 1 << 20), session(&lake, 0));
    for (text, views) in VIEWS.iter().map(|text| (*text, true)).chain(TEXTS.iter().map(|text| (*text, false))) {
        // What mixes types has texts as views only where the planner has made one type of them before.
        let viewed = compare(&broadcasting, text).await;
        assert!(viewed || !views, "{text}");
        compare(&shuffling, text).await;
    }
    assert!(compare(&broadcasting, SHUFFLED).await && !compare(&shuffling, SHUFFLED).await);
}
