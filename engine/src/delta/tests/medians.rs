//! Queries whose medians are found in passes give what they give in one.

use std::{collections::BTreeSet, sync::Arc};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::{logical_expr::LogicalPlan, physical_plan::collect};

use super::{Lake, name, render, text_views};
use crate::{
    delta::{CommitLabel, SchemaPolicy, catalog},
    sql::{self, Medians},
};

const IN_PASSES: [&str; 10] = [
    "SELECT median(x) AS m, sum(CASE WHEN k % 2 = 0 THEN 0 ELSE x END) AS s FROM t.values",
    "SELECT max(CASE WHEN k % 2 = 0 THEN 1 ELSE 0.5 END) AS c, median(x) AS m, min(CAST(k AS decimal(9, 2))) AS d FROM t.values",
    "SELECT median(x) AS m FROM t.values WHERE k < year(now())",
    "SELECT median(x) AS m FROM t.values",
    "SELECT round(median(x) / 3, 2) AS a, count(*) AS n, median(y) AS b, max(k) AS k FROM t.values WHERE k % 7 < 4",
    "SELECT median(x + y) AS m, sum(k) AS k FROM (SELECT x, y, k FROM t.values WHERE x IS NOT NULL) v",
    "SELECT median(CAST(k AS double)) AS m FROM t.values WHERE k < 0",
    "SELECT a.m, b.m AS n FROM (SELECT median(x) AS m FROM t.values) a CROSS JOIN (SELECT median(y) AS m FROM t.values) b",
    "WITH m AS (SELECT median(x) AS x FROM t.values) SELECT count(*) AS above FROM t.values v JOIN m ON v.x > m.x",
    "SELECT median(k) AS m, median(x) AS x, median(x) + 1 AS more, avg(x) AS mean FROM t.values HAVING count(*) > 5",
];

const AT_ONCE: [&str; 8] = [
    "SELECT median(x + random() * 0) AS m FROM t.values",
    "SELECT median(x) AS m, array_join(sort_array(collect_set(CAST(y AS string))), ' ') AS ys FROM t.values",
    "SELECT median(x) AS m FROM t.values WHERE random() >= 0",
    "SELECT median(x) AS m FROM t.values WHERE k > (SELECT avg(y) FROM t.values)",
    "SELECT k % 3 AS g, median(x) AS m FROM t.values GROUP BY k % 3",
    "SELECT median(DISTINCT y) AS m FROM t.values",
    "SELECT median(a.x) AS m FROM t.values a JOIN t.values b ON a.k = b.k",
    "SELECT median(x) FILTER (WHERE k > 9) AS m FROM t.values",
];

#[tokio::test(flavor = "multi_thread")]
async fn medians_in_passes_are_those_of_one() {
    let lake = Lake { vectors: true, ..Lake::new() };
    let (table, label) = (name("t.values"), CommitLabel::default());
    let rows = |range: std::ops::Range<i64>| {
        let x = range.clone().map(|k| (k % 13 != 5).then_some((k * 7919 % 5003) as f64 / 8.0));
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("k", Arc::new(Int64Array::from_iter_values(range.clone())), true),
            ("x", Arc::new(x.collect::<Float64Array>()), true),
            ("y", Arc::new(Float64Array::from_iter_values(range.map(|k| (k % 5) as f64))), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    // Of many files, of which a sample has some.
    let parts = (0..20).map(|part| rows(part * 150..(part + 1) * 150)).collect();
    lake.overwrite(&table, parts, SchemaPolicy::Same, &label).await.unwrap();
    lake.merge(&table, vec![rows(500..800), rows(2900..3100)], &["k"], SchemaPolicy::Same, &label).await.unwrap();
    catalog::register(&lake.session, &lake.storage, &BTreeSet::from([table])).await.unwrap();
    let state = text_views::session(&lake, 1 << 20);
    for text in IN_PASSES.iter().chain(&AT_ONCE) {
        let plan = sql::plan_select(&state, &sql::parse_select(text, "").unwrap()).await.unwrap();
        let run = async |plan: LogicalPlan| {
            let physical = sql::physical_plan(&state, &plan).await.unwrap();
            collect(physical, state.task_ctx()).await.unwrap()
        };
        let expected = run(plan.clone()).await;
        assert!(Medians::of(&plan, 3_101).unwrap().is_none(), "{text}");
        let whole = plan;
        for rows in [3_100, 300] {
            let (mut plan, mut found, mut passes) = (whole.clone(), 0, 0);
            while let Some(mut medians) = Medians::of(&plan, rows).unwrap() {
                while let Some(pass) = medians.pass().unwrap() {
                    medians.take(&run(pass).await).unwrap();
                    passes += 1;
                }
                plan = medians.into_plan().unwrap();
                found += 1;
            }
            assert_eq!(found > 0, IN_PASSES.contains(text), "{text}");
            // A pass holds all values here. Files have keys of their own: where these are the values, the sample may mislead.
            let most = match rows {
                300 if text.contains("median(k)") => 3,
                300 => 2,
                _ => 1,
            };
            assert!((most.min(2) * found..=most * found).contains(&passes), "{text}: {passes} passes");
            let answer = run(plan).await;
            let types = |batches: &[RecordBatch]| {
                let fields = batches[0].schema().fields().clone();
                fields.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect::<Vec<_>>()
            };
            assert_eq!((render(&answer), types(&answer)), (render(&expected), types(&expected)), "{text}");
        }
    }
}
