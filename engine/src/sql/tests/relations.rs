use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
use datafusion::execution::SessionState;

use crate::sql::testing::{batch, failure, query, session};

/// Four rows: groups `a`, `a`, `b` and one that is null throughout.
fn state() -> SessionState {
    let table = batch(vec![
        ("g", Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("b"), None])) as ArrayRef),
        ("i", Arc::new(Int32Array::from(vec![Some(1), Some(4), Some(2), None]))),
        ("d", Arc::new(Float64Array::from(vec![Some(0.5), Some(2.5), Some(1.0), None]))),
        ("s", Arc::new(StringArray::from(vec![Some("x"), None, Some("z"), None]))),
    ]);
    session("UTC", vec![("r", table)])
}

#[tokio::test]
async fn aggregates_are_sparks() {
    let state = state();
    for (aggregate, expected) in [
        ("count(*)", "4"),
        ("count(i)", "3"),
        ("count(1)", "4"),
        ("count(DISTINCT g)", "2"),
        ("count(DISTINCT g, s)", "2"),
        ("sum(i)", "7"),
        ("avg(i)", "2.3333333333333335"),
        ("mean(d)", "1.3333333333333333"),
        ("round(avg(i), 2)", "2.33"),
        ("min(s)", "x"),
        ("max(i)", "4"),
        ("median(i)", "2.0"),
        ("median(d)", "1.0"),
        ("percentile(i, 0.5)", "2.0"),
        ("percentile(i, 0)", "1.0"),
        ("percentile_approx(i, 0.5)", "2"),
        ("approx_percentile(d, 0.5, 100)", "1.0"),
        ("stddev(i)", "1.5275252316519468"),
        ("stddev_pop(i)", "1.247219128924647"),
        ("variance(i)", "2.3333333333333335"),
        ("approx_count_distinct(g)", "2"),
        ("max_by(s, d)", "null"),
        ("max_by(g, i)", "a"),
        ("min_by(i, d)", "1"),
        ("max_by(g, i) FILTER (WHERE i < 3)", "b"),
        ("count_if(i > 1)", "2"),
        ("sum(IF(i > 1, 1, 0))", "2"),
        ("bool_and(i > 0)", "true"),
        ("every(i > 1)", "false"),
        ("some(i > 3)", "true"),
        ("sort_array(collect_list(g))", "[a, a, b]"),
        ("sort_array(collect_set(g))", "[a, b]"),
        ("size(collect_list(s))", "2"),
        ("sort_array(array_agg(i))", "[1, 2, 4]"),
        ("first(s, true) IS NOT NULL", "true"),
        ("sum(DISTINCT i)", "7"),
        ("CAST(avg(i) AS int)", "2"),
        ("any_value(1)", "1"),
        ("corr(i, d)", "0.9958705948858224"),
    ] {
        assert_eq!(query(&state, &format!("SELECT {aggregate} AS v FROM t.r")).await, [expected], "{aggregate}");
    }
    let groups = "SELECT g, count(*) AS n, collect_list(i) AS l, median(d) AS m FROM t.r GROUP BY g ORDER BY g";
    assert_eq!(query(&state, groups).await, ["null | 1 | [] | null", "a | 2 | [1, 4] | 1.5", "b | 1 | [2] | 1.0"]);
}

#[tokio::test]
async fn queries_are_sparks() {
    let state = state();
    for (sql, expected) in [
        ("SELECT i FROM t.r ORDER BY i", vec!["null", "1", "2", "4"]),
        ("SELECT i FROM t.r ORDER BY i DESC", vec!["4", "2", "1", "null"]),
        ("SELECT g FROM t.r GROUP BY 1 ORDER BY 1 DESC LIMIT 2", vec!["b", "a"]),
        ("SELECT g AS k, sum(i) AS total FROM t.r GROUP BY k HAVING total > 2 ORDER BY k", vec!["a | 5"]),
        ("SELECT i FROM t.r WHERE s <=> NULL ORDER BY i LIMIT 5 OFFSET 1", vec!["4"]),
        ("SELECT a.i, b.i AS j FROM t.r a LEFT SEMI JOIN t.r c ON a.i = c.i JOIN t.r b USING (g) WHERE a.i = 1 ORDER BY j", vec!["1 | 1", "1 | 4"]),
        ("SELECT i FROM t.r a LEFT ANTI JOIN (SELECT i FROM t.r WHERE i > 1) b ON a.i = b.i ORDER BY i", vec!["null", "1"]),
        ("SELECT i FROM t.r WHERE i NOT IN (SELECT i FROM t.r WHERE i > 1) ORDER BY 1", vec!["1"]),
        ("SELECT i FROM t.r x WHERE EXISTS (SELECT 1 FROM t.r y WHERE y.g = x.g AND y.i > x.i)", vec!["1"]),
        ("SELECT i, (SELECT max(i) FROM t.r) AS m FROM t.r WHERE i = 2", vec!["2 | 4"]),
        (
            "SELECT i, row_number() OVER (PARTITION BY g ORDER BY i DESC) AS n, lag(i, 1, 0) OVER (ORDER BY i) AS l,
                    sum(i) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM t.r WHERE i IS NOT NULL ORDER BY i",
            vec!["1 | 2 | 0 | 1", "2 | 1 | 1 | 3", "4 | 1 | 2 | 6"],
        ),
        ("SELECT g, ntile(2) OVER (ORDER BY i) AS n FROM t.r WHERE i > 1 ORDER BY i", vec!["b | 1", "a | 2"]),
        ("SELECT explode(array(i, 10)) AS x FROM t.r WHERE i < 3 ORDER BY x", vec!["1", "2", "10", "10"]),
        ("SELECT g, explode(collect_list(i)) AS x FROM t.r WHERE g = 'a' GROUP BY g ORDER BY x", vec!["a | 1", "a | 4"]),
        ("SELECT i FROM t.r WHERE i > 3 UNION ALL SELECT 9 ORDER BY 1", vec!["4", "9"]),
        ("SELECT i FROM t.r EXCEPT SELECT 4 ORDER BY 1", vec!["null", "1", "2"]),
        ("SELECT * EXCEPT (d, s) FROM t.r WHERE i = 1", vec!["a | 1"]),
        ("SELECT g, i, count(*) AS n FROM t.r GROUP BY GROUPING SETS ((g), (i)) HAVING count(*) > 1", vec!["a | null | 2"]),
        ("SELECT count(*) AS n FROM t.r, t.r AS q", vec!["16"]),
        ("SELECT i FROM (VALUES (1), (2)) AS v(i) WHERE i = 2", vec!["2"]),
        ("SELECT sum(CAST(d AS int)) AS a, sum(CAST(d AS double)) AS b, sum(int(d)) + sum(CAST(d AS bigint)) AS c FROM t.r", vec!["3 | 4.0 | 6"]),
        ("SELECT CAST(d AS int), count(*) AS n FROM t.r GROUP BY CAST(d AS int) ORDER BY CAST(d AS int) DESC LIMIT 1", vec!["2 | 1"]),
        ("SELECT `g` AS `G x` FROM `t`.`r` AS `Q` WHERE q.`I` = 1", vec!["a"]),
        ("SELECT max(i) - min(i) AS `range` FROM t.r GROUP BY g HAVING count(*) > 1", vec!["3"]),
    ] {
        assert_eq!(query(&state, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn long_and_deep_sql_does_not_overflow_the_stack() {
    let state = state();
    let sum = |n: usize| format!("SELECT {} AS s FROM t.r WHERE i = 1", vec!["i"; n].join(" + "));
    assert_eq!(query(&state, &sum(200)).await, ["200"]);
    let any = |n: usize| (0..n).map(|i| format!("i = {i}")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(query(&state, &format!("SELECT i FROM t.r WHERE {} ORDER BY i", any(200))).await, ["1", "2", "4"]);
    let nested = |n: usize| format!("SELECT {}i{} AS s FROM t.r WHERE i = 1", "abs(".repeat(n), ")".repeat(n));
    assert_eq!(query(&state, &nested(30)).await, ["1"]);
    let list: Vec<_> = (0..5000).map(|i| i.to_string()).collect();
    assert_eq!(
        query(&state, &format!("SELECT i FROM t.r WHERE i IN ({}) ORDER BY i", list.join(", "))).await,
        ["1", "2", "4"]
    );
    let cases: String = (0..300).map(|i| format!(" WHEN i = {i} THEN {i}")).collect();
    assert_eq!(query(&state, &format!("SELECT CASE{cases} END AS v FROM t.r WHERE i = 4")).await, ["4"]);
    for sql in
        [sum(5000), format!("SELECT i FROM t.r WHERE {}", any(5000)), format!("SELECT {}1 AS x", "- ".repeat(9000))]
    {
        let error = failure(&state, &sql).await;
        assert!(error.message.contains("operators in a row"), "{error}");
    }
    assert!(failure(&state, &nested(5000)).await.message.contains("nests deeper"));
}
