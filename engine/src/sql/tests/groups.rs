use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Decimal128Array, Float64Array, Int32Array, StringArray, StructArray},
    datatypes::{DataType, Field},
};
use datafusion::execution::SessionState;

use crate::sql::testing::{batch, failure, query, run, session};

fn tables() -> SessionState {
    let text = |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let int = |values: &[Option<i32>]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
    let a = batch(vec![
        ("k", int(&[Some(1), Some(1), Some(2), None, Some(3)])),
        ("s", text(&[Some("x"), Some("y"), Some("x"), Some("x"), None])),
        ("v", int(&[Some(10), None, None, Some(40), Some(50)])),
        ("f", Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), Some(1.5)]))),
    ]);
    let b = batch(vec![
        ("k", int(&[Some(1), Some(1), Some(1), Some(4), None])),
        ("w", text(&[Some("a"), Some("b"), Some("c"), Some("d"), Some("e")])),
    ]);
    session("UTC", vec![("a", a), ("b", b)])
}

async fn all(examples: &[(&str, &[&str])]) {
    let state = tables();
    let mut wrong = Vec::new();
    for (sql, expected) in examples {
        let mut found = match run(&state, sql).await {
            Ok((_, batches)) => crate::sql::testing::rows(&batches),
            Err(error) => vec![format!("{} {}", error.message, error.hint)],
        };
        if !sql.contains("ORDER BY") {
            found.sort();
        }
        if found != *expected {
            wrong.push(format!("{sql}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn groupings_have_all_spellings() {
    let rolled: &[&str] = &[
        "1 | x | 1",
        "1 | y | 1",
        "2 | x | 1",
        "null | x | 1",
        "3 | null | 1",
        "1 | T | 2",
        "2 | T | 1",
        "3 | T | 1",
        "null | T | 1",
        "T | T | 5",
    ];
    let mut rolled: Vec<&str> = rolled.to_vec();
    rolled.sort_unstable();
    let columns = "if(grouping(k) = 1, 'T', k) AS a, if(grouping(s) = 1, 'T', s) AS b, count(*) AS n";
    let with = format!("SELECT {columns} FROM t.a GROUP BY k, s WITH ROLLUP");
    let function = format!("SELECT {columns} FROM t.a GROUP BY ROLLUP(k, s)");
    let sets = format!("SELECT {columns} FROM t.a GROUP BY k, s GROUPING SETS ((k, s), (k), ())");
    all(&[
        (&with, &rolled),
        (&function, &rolled),
        (&sets, &rolled),
        (
            "SELECT s, count(*) AS n FROM t.a GROUP BY 1 WITH CUBE ORDER BY n, s",
            &["null | 1", "y | 1", "x | 3", "null | 5"],
        ),
        (
            "SELECT s, k, grouping_id() AS g FROM t.a WHERE k = 1 GROUP BY s, k WITH CUBE ORDER BY g, s",
            &["x | 1 | 0", "y | 1 | 0", "x | null | 1", "y | null | 1", "null | 1 | 2", "null | null | 3"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn grouping_sets_are_sparks_in_branches_and_over_no_rows() {
    all(&[
        ("SELECT s, count(*) AS n FROM t.a WHERE k > 9 GROUP BY ROLLUP(s)", &[]),
        ("SELECT s, count(*) AS n FROM t.a WHERE k > 9 GROUP BY s WITH CUBE HAVING count(*) >= 0", &[]),
        (
            "SELECT s, count(*) AS n FROM t.a GROUP BY s WITH ROLLUP UNION ALL SELECT w, count(*) FROM t.b WHERE k = 4 GROUP BY w WITH ROLLUP",
            &["d | 1", "null | 1", "null | 1", "null | 5", "x | 3", "y | 1"],
        ),
        ("SELECT f, count(*) AS n FROM t.a GROUP BY ROLLUP(f) ORDER BY n, f", &["1.5 | 1", "0.0 | 2", "NaN | 2", "null | 5"]),
    ])
    .await;
}

#[tokio::test]
async fn floats_are_ordered_as_in_spark() {
    all(&[
        // A zero has no sign and a NaN is the greatest, whatever its sign.
        ("SELECT v FROM t.a ORDER BY f, v DESC", &["10", "null", "50", "40", "null"]),
        ("SELECT v FROM t.a WHERE f > 1 ORDER BY v", &["null", "40", "50"]),
        ("SELECT v FROM t.a WHERE f < 1 ORDER BY v", &["null", "10"]),
        ("SELECT count(*) AS n FROM t.a WHERE f + f IN (NULL, CAST('-0.0' AS double))", &["2"]),
    ])
    .await;
}

#[tokio::test]
async fn floats_are_keys_and_have_extremes_as_in_spark() {
    all(&[
        ("SELECT count(*) AS n FROM t.a GROUP BY f", &["1", "2", "2"]),
        ("SELECT count(DISTINCT f) AS n FROM t.a", &["3"]),
        (
            "SELECT DISTINCT f = 0 AS z, isnan(f) AS n FROM (SELECT DISTINCT f FROM t.a) q",
            &["false | false", "false | true", "true | false"],
        ),
        ("SELECT max(f) AS h, min(f) AS l FROM t.a", &["NaN | 0.0"]),
        ("SELECT max(f) AS h, min(f) AS l FROM t.a WHERE NOT isnan(f) GROUP BY k IS NULL", &["1.5 | 0.0"]),
        ("SELECT count(*) AS n FROM t.a x JOIN t.a y ON x.f = y.f", &["9"]),
        ("SELECT count(*) AS n FROM t.a x JOIN t.a y USING (f)", &["9"]),
        ("SELECT count(*) AS n FROM t.a WHERE f > 1 OR isnan(f)", &["3"]),
        ("SELECT count(*) OVER (PARTITION BY f) AS n FROM t.a", &["1", "2", "2", "2", "2"]),
        ("SELECT f FROM t.a INTERSECT SELECT CAST(0 AS double)", &["0.0"]),
    ])
    .await;
}

#[tokio::test]
async fn set_operations_count_and_widen() {
    all(&[
        ("SELECT k FROM t.a INTERSECT ALL SELECT k FROM t.b", &["1", "1", "null"]),
        ("SELECT k FROM t.b EXCEPT ALL SELECT k FROM t.a", &["1", "4"]),
        ("SELECT k FROM t.b EXCEPT SELECT k FROM t.a", &["4"]),
        ("SELECT k FROM t.b MINUS SELECT k FROM t.a", &["4"]),
        ("SELECT x / 2 AS h FROM (SELECT 1 AS x UNION ALL SELECT 2.5) q", &["0.500000", "1.250000"]),
        ("SELECT 1 AS x UNION SELECT 1.0 UNION SELECT '1'", &["1", "1.0"]),
        ("SELECT v AS x, s FROM t.a WHERE v > 20 UNION ALL SELECT 0, 0 ORDER BY x", &["0 | 0", "40 | x", "50 | null"]),
        ("SELECT * FROM VALUES (1, 'a'), (2.5, NULL) ORDER BY col1", &["1.0 | a", "2.5 | null"]),
        ("SELECT k FROM t.a WHERE k IN (SELECT 1 UNION SELECT 2)", &["1", "1", "2"]),
    ])
    .await;
    let error = failure(&tables(), "SELECT k FROM t.a UNION ALL SELECT true").await;
    assert!(error.message.contains("column 1 of UNION is int on one side and boolean"), "{error}");
    let error = failure(&tables(), "SELECT k FROM t.a UNION ALL SELECT 1, 2").await;
    assert!(error.message.contains("both sides need as many"), "{error}");
}

#[tokio::test]
async fn outer_using_keeps_keys_of_both_sides() {
    all(&[
        (
            "SELECT k, s, w FROM t.a FULL JOIN t.b USING (k) WHERE k IS NULL OR k > 1",
            &["2 | x | null", "3 | null | null", "4 | null | d", "null | null | e", "null | x | null"],
        ),
        ("SELECT * FROM (SELECT k, s FROM t.a WHERE k = 2) l RIGHT JOIN (SELECT k, w FROM t.b WHERE k = 4) r USING (k)", &["4 | null | d"]),
        ("SELECT * FROM (SELECT v, k FROM t.a WHERE k = 2) l JOIN (SELECT 'w' AS w, 2 AS k) r USING (k)", &["2 | null | w"]),
        (
            "SELECT * FROM (SELECT v, k FROM t.a WHERE k = 3) l NATURAL FULL JOIN (SELECT 'w' AS w, 7 AS k) r ORDER BY k",
            &["3 | 50 | null", "7 | null | w"],
        ),
        ("SELECT k, count(*) AS n FROM t.a FULL JOIN t.b USING (k) GROUP BY k ORDER BY k", &["null | 2", "1 | 6", "2 | 1", "3 | 1", "4 | 1"]),
        ("SELECT count(*) AS n FROM t.a x JOIN t.b y ON x.k <=> y.k JOIN t.a z ON z.s = x.s", &["15"]),
    ])
    .await;
}

#[tokio::test]
async fn outer_using_keeps_keys_in_branches() {
    all(&[
        (
            "SELECT k, w FROM t.a FULL JOIN t.b USING (k) WHERE w = 'd' UNION ALL SELECT k, w FROM t.a NATURAL FULL JOIN t.b WHERE w = 'd'",
            &["4 | d", "4 | d"],
        ),
        ("SELECT k, count(*) AS n FROM t.a JOIN t.b USING (k) WHERE k > 0 AND w <> 'a' GROUP BY k HAVING max(k) > 0 ORDER BY k", &["1 | 4"]),
        ("SELECT DISTINCT k + 1 AS n FROM t.a LEFT JOIN t.b USING (k) WHERE k IN (1, 2) ORDER BY n", &["2", "3"]),
        ("SELECT * FROM (SELECT 1 AS x, 2 AS y) NATURAL JOIN (SELECT 1 AS x, 3 AS z)", &["1 | 2 | 3"]),
        ("SELECT * FROM (SELECT 1D AS x, 2 AS y) JOIN (SELECT 1D AS x, 3 AS z) USING (x)", &["1.0 | 2 | 3"]),
    ])
    .await;
}

#[tokio::test]
async fn windows_ignore_nulls() {
    all(&[
        (
            "SELECT s, last_value(v) IGNORE NULLS OVER (ORDER BY k, s) AS l, lag(v) IGNORE NULLS OVER (ORDER BY k, s) AS p,
                    first(v, true) OVER (ORDER BY k DESC, s) AS f FROM t.a ORDER BY k, s",
            &["x | 40 | null | 50", "x | 10 | 40 | 50", "y | 10 | 10 | 50", "x | 10 | 10 | 50", "null | 50 | 10 | 50"],
        ),
        ("SELECT lead(v, 1, 0) IGNORE NULLS OVER (ORDER BY k, s) AS n FROM t.a ORDER BY k, s", &["10", "50", "50", "50", "0"]),
        // What leaves a frame leaves no trace.
        (
            "SELECT i, sum(v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s,
                    avg(v) OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS a
             FROM VALUES (1, 1e20D), (2, 1.0D), (3, double('NaN')), (4, 2.0D), (5, 3.0D), (6, null), (7, null), (8, 4.0D) AS t(i, v) ORDER BY i",
            &["1 | 1e20 | 5e19", "2 | 1e20 | NaN", "3 | NaN | NaN", "4 | NaN | 2.5", "5 | 5.0 | 3.0", "6 | 3.0 | null", "7 | null | 4.0", "8 | 4.0 | 4.0"],
        ),
        (
            "SELECT i, stddev(v) OVER (ORDER BY i ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s,
                    max_by(i, v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS m,
                    percentile(v, 0.5) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS p,
                    min_by(i, v) OVER () AS n, max_by(i, v) OVER (PARTITION BY i % 2 ORDER BY i) AS x
             FROM VALUES (1, 5.0D), (2, 1.0D), (3, 9.0D), (4, null), (5, 3.0D) AS t(i, v) ORDER BY i",
            &[
                "1 | null | 1 | 5.0 | 2 | 1",
                "2 | 2.8284271247461903 | 3 | 3.0 | 2 | 2",
                "3 | 4.0 | 3 | 5.0 | 2 | 3",
                "4 | 5.656854249492381 | 3 | 9.0 | 2 | 2",
                "5 | 4.242640687119285 | 5 | 3.0 | 2 | 3",
            ],
        ),
        (
            "SELECT g, regr_r2(y, x) AS r FROM VALUES ('a', 1, 1), ('a', 1, 2), ('b', 1, 1), ('b', 2, 1), ('c', 1, 1), ('d', 1, 1), ('d', 2, 2), ('d', null, 4)
             AS t(g, y, x) GROUP BY g ORDER BY g",
            &["a | 1.0", "b | null", "c | null", "d | 1.0"],
        ),
        ("SELECT last_value(v) OVER (ORDER BY k, s) AS n FROM t.a ORDER BY k, s", &["40", "10", "null", "null", "50"]),
    ])
    .await;
    for sql in [
        "SELECT count(DISTINCT v) OVER (PARTITION BY s) AS n FROM t.a",
        "SELECT count(*) FILTER (WHERE v > 1) OVER () AS n FROM t.a",
    ] {
        assert!(failure(&tables(), sql).await.message.contains("over a window"), "{sql}");
    }
}

#[tokio::test]
async fn decimals_do_not_wrap_in_sums() {
    let wide = Decimal128Array::from(vec![9 * 10i128.pow(37), 9 * 10i128.pow(37)]).with_precision_and_scale(38, 2);
    let narrow = Decimal128Array::from(vec![100, 101]).with_precision_and_scale(5, 2);
    let table = batch(vec![("w", Arc::new(wide.unwrap())), ("n", Arc::new(narrow.unwrap()))]);
    let state = session("UTC", vec![("d", table)]);
    assert_eq!(
        query(&state, "SELECT sum(w) AS a, sum(n) AS b, avg(n) AS c FROM t.d").await,
        ["null | 2.01 | 1.005000"]
    );
    assert_eq!(query(&state, "SELECT avg(n / 3) AS c FROM t.d").await, ["0.3350000000"]);
    assert_eq!(query(&state, "SELECT sum(w) OVER () AS a FROM t.d LIMIT 1").await, ["null"]);
    assert_eq!(
        query(&state, "SELECT try_sum(x) AS t FROM VALUES (9223372036854775807L), (1L) AS q(x)").await,
        ["null"]
    );
}

#[tokio::test]
async fn aggregates_have_other_names() {
    all(&[
        ("SELECT avg(CAST(v AS decimal(4,1))) AS a, mean(CAST(v AS decimal(4,1))) AS b FROM t.a", &["33.33333 | 33.33333"]),
        (
            "SELECT CAST(avg(i) AS string) AS a, CAST(mean(i) AS string) AS b FROM VALUES (INTERVAL 1 DAY), (INTERVAL 2 DAYS) AS v(i)",
            &["INTERVAL '1 12:00:00' DAY TO SECOND | INTERVAL '1 12:00:00' DAY TO SECOND"],
        ),
        (
            "SELECT extract(DAY FROM median(i)) AS a, extract(DAY FROM approx_percentile(i, 0.5)) AS b FROM VALUES (INTERVAL 1 DAY), (INTERVAL 3 DAYS) AS v(i)",
            &["2 | 1"],
        ),
        ("SELECT collect_set(v) AS a FROM t.a", &["[10, 40, 50]"]),
    ])
    .await;
}

#[tokio::test]
async fn percentiles_are_sparks() {
    let examples: [(&str, &[&str]); 8] = [
        ("SELECT percentile(v, array(0.25, 0.5)) AS p FROM t.a", &["[25.0, 40.0]"]),
        ("SELECT percentile(v, 0.5, k) AS p FROM t.a WHERE k IS NOT NULL", &["50.0"]),
        ("SELECT percentile_approx(v, 0.5) AS p FROM t.a", &["40"]),
        ("SELECT percentile_approx(v, array(0.1, 0.9), 100) AS p FROM t.a", &["[10, 50]"]),
        ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v DESC) AS p FROM t.a", &["40.0"]),
        ("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v) AS p FROM t.a", &["40.0"]),
        ("SELECT mode(s) AS m FROM t.a", &["x"]),
        ("SELECT round(skewness(v), 4) AS a, round(kurtosis(v), 4) AS b FROM t.a", &["-0.528 | -1.5"]),
    ];
    all(&examples).await;
}

#[tokio::test]
async fn structs_have_a_largest_one() {
    let fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![None, Some(2), Some(2), Some(1)])),
        Arc::new(Int32Array::from(vec![Some(9), Some(3), Some(4), None])),
    ];
    let table = batch(vec![("s", Arc::new(StructArray::new(fields.into(), columns, None)))]);
    assert_eq!(table.column(0).len(), 4);
    let state = session("UTC", vec![("s", table)]);
    assert_eq!(query(&state, "SELECT max(s) AS h, min(s) AS l FROM t.s").await, ["{a: 2, b: 4} | {a: null, b: 9}"]);
}
