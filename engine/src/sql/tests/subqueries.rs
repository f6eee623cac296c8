use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use datafusion::execution::SessionState;

use crate::sql::testing::{batch, failure, query, rows, run, session};

fn state() -> SessionState {
    let ints = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let a = batch(vec![
        ("id", ints(vec![Some(1), Some(2), Some(3), None])),
        ("v", ints(vec![Some(10), Some(20), None, Some(40)])),
    ]);
    let b = batch(vec![
        ("k", ints(vec![Some(2), None, Some(3), Some(3)])),
        ("g", ints(vec![Some(1), Some(9), Some(2), None])),
        ("t", Arc::new(StringArray::from(vec![Some("2"), Some("x"), None, Some("03")]))),
    ]);
    let none = batch(vec![("k", ints(vec![])), ("g", ints(vec![]))]);
    session("UTC", vec![("a", a), ("b", b), ("none", none)])
}

async fn ids(state: &SessionState, condition: &str) -> String {
    match run(state, &format!("SELECT id FROM t.a WHERE {condition} ORDER BY id")).await {
        Ok((_, batches)) => rows(&batches).join(" "),
        Err(error) => error.message,
    }
}

#[tokio::test]
async fn conditions_with_subqueries_are_sparks() {
    let (state, mut wrong) = (state(), Vec::new());
    for (condition, expected) in [
        ("id IN (SELECT k FROM t.b)", "2 3"),
        ("id NOT IN (SELECT k FROM t.b)", ""),
        ("id NOT IN (SELECT k FROM t.b WHERE k IS NOT NULL)", "1"),
        ("id NOT IN (SELECT k FROM t.none)", "null 1 2 3"),
        ("id < 2 OR id NOT IN (SELECT k FROM t.b)", "1"),
        ("id < 2 OR id NOT IN (SELECT k FROM t.none)", "null 1 2 3"),
        ("id < 2 OR id IN (SELECT k FROM t.b WHERE k = 3)", "1 3"),
        ("NOT (id = 3 AND id IN (SELECT k FROM t.b))", "1 2"),
        ("(id IN (SELECT k FROM t.b)) IS NULL", "null 1"),
        ("CASE WHEN id IN (SELECT k FROM t.b) THEN false ELSE true END", "null 1"),
        // Correlated: by equality, by inequality, with nulls.
        ("id NOT IN (SELECT k FROM t.b WHERE b.g <= a.id)", "null 1"),
        ("id IN (SELECT k FROM t.b WHERE b.g <= a.id)", "2 3"),
        ("v NOT IN (SELECT g FROM t.b WHERE b.k = a.id)", "null 1 2"),
        ("EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id)", "2 3"),
        ("NOT EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id)", "null 1"),
        ("EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id AND b.g < a.id)", "2 3"),
        ("EXISTS (SELECT 1 FROM t.b WHERE b.k > a.id)", "1 2"),
        ("NOT EXISTS (SELECT 1 FROM t.b WHERE b.k > a.id)", "null 3"),
        ("id = 1 OR EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id)", "1 2 3"),
        ("10 IN (SELECT 10 FROM t.b WHERE b.k > a.id)", "1 2"),
        ("10 NOT IN (SELECT 10 FROM t.b WHERE b.k > a.id)", "null 3"),
        ("(10, 2) IN (SELECT 10, k FROM t.b WHERE b.k > a.id)", "1"),
        ("(10, 2) NOT IN (SELECT 10, 2 FROM t.b)", ""),
        ("'x' IN (SELECT 'x' FROM t.b WHERE b.k >= a.id)", "1 2 3"),
        ("EXISTS (SELECT 1 FROM t.b)", "null 1 2 3"),
        ("NOT EXISTS (SELECT 1 FROM t.none)", "null 1 2 3"),
        ("EXISTS (SELECT count(*) FROM t.b WHERE b.k = a.id)", "null 1 2 3"),
        ("EXISTS (SELECT count(*) FROM t.b WHERE b.k = a.id HAVING count(*) > 1)", "3"),
        ("EXISTS (SELECT k FROM t.b WHERE b.k = a.id GROUP BY k HAVING count(*) > 1)", "3"),
        ("EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id LIMIT 1)", "2 3"),
        ("EXISTS (SELECT 1 FROM t.b JOIN t.b c ON b.k = c.k WHERE b.g = a.id)", "1 2"),
        ("EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id UNION ALL SELECT 1 FROM t.b WHERE b.g = a.id)", "1 2 3"),
        ("EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id AND EXISTS (SELECT 1 FROM t.b c WHERE c.g = a.id))", "2"),
        // Several columns.
        ("(id, v) IN (SELECT k, k * 10 FROM t.b)", "2"),
        ("(id, v) NOT IN (SELECT k, k * 10 FROM t.b WHERE k IS NOT NULL)", "null 1"),
        ("(id, v) NOT IN (SELECT k, g FROM t.b WHERE k = 2)", "null 1 2 3"),
        ("(id, v) NOT IN (SELECT k, g FROM t.none)", "null 1 2 3"),
        // Compared as Spark compares a text with a number.
        ("id IN (SELECT t FROM t.b)", "2 3"),
        // Scalar ones.
        ("v > (SELECT max(k) FROM t.b)", "null 1 2"),
        ("(SELECT count(*) FROM t.b WHERE b.k = a.id) = 0", "null 1"),
        ("(SELECT count(*) + 1 FROM t.b WHERE b.k > a.id) > 2", "1 2"),
        ("coalesce((SELECT max(g) FROM t.b WHERE b.k = a.id), 7) = 7", "null 1"),
        ("id = (SELECT k FROM t.b WHERE g = 1)", "2"),
        ("(SELECT k FROM t.none) IS NULL", "null 1 2 3"),
    ] {
        let found = ids(&state, condition).await;
        if found != expected {
            wrong.push(format!("{condition}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Each of them a join; a chain of them would nest too deeply.
#[tokio::test]
async fn there_may_be_dozens_of_them() {
    let state = session("UTC", vec![]);
    let values: Vec<String> = (0..24).map(|i| format!("(SELECT max(id) + {i} FROM range({i}, 30))")).collect();
    let (_, batches) = run(&state, &format!("SELECT {} AS s", values.join(" + "))).await.unwrap();
    assert_eq!(crate::sql::testing::rows(&batches), [(24 * 29 + 276).to_string()]);
}

#[tokio::test]
async fn subqueries_stand_anywhere() {
    let state = state();
    for (sql, expected) in [
        (
            "SELECT id, id IN (SELECT k FROM t.b) AS i, EXISTS (SELECT 1 FROM t.b WHERE b.k = a.id) AS e,
                    (SELECT sum(g) FROM t.b WHERE b.k = a.id) AS s, (SELECT count(*) FROM t.b WHERE b.k = a.id) AS n FROM t.a ORDER BY id",
            vec!["null | null | false | null | 0", "1 | null | false | null | 0", "2 | true | true | 1 | 1", "3 | true | true | 2 | 2"],
        ),
        ("SELECT a.id, b.k FROM t.a JOIN t.b ON a.id = b.k AND a.id IN (SELECT g FROM t.b) ORDER BY 1", vec!["2 | 2"]),
        (
            "SELECT a.id, b.k FROM t.a LEFT JOIN t.b ON a.id = b.k AND a.id NOT IN (SELECT 3) ORDER BY 1",
            vec!["null | null", "1 | null", "2 | 2", "3 | null"],
        ),
        ("SELECT k, count(*) AS n FROM t.b GROUP BY k HAVING count(*) > (SELECT min(g) FROM t.b) ORDER BY k", vec!["3 | 2"]),
        ("SELECT id FROM t.a ORDER BY (SELECT count(*) FROM t.b WHERE b.k = a.id) DESC, id LIMIT 2", vec!["3", "2"]),
        ("SELECT a.id, x.m FROM t.a, LATERAL (SELECT max(g) AS m FROM t.b WHERE b.k = a.id) x ORDER BY 1", vec!["null | null", "1 | null", "2 | 1", "3 | 2"]),
        ("SELECT a.id, x.g FROM t.a JOIN LATERAL (SELECT g FROM t.b WHERE b.k = a.id) x ORDER BY 1, 2", vec!["2 | 1", "3 | null", "3 | 2"]),
        ("SELECT a.id, x.g FROM t.a LEFT JOIN LATERAL (SELECT g FROM t.b WHERE b.k < a.id ORDER BY g LIMIT 1) x ON true ORDER BY 1", vec!["null | null", "1 | null", "2 | null", "3 | 1"]),
        ("SELECT sum((SELECT count(*) FROM t.b WHERE b.k = a.id)) AS s FROM t.a", vec!["3"]),
        ("SELECT * FROM (SELECT 1 AS c, max(id) AS m FROM t.a) WHERE c = 2", vec![]),
        ("SELECT x.m FROM (SELECT 1 AS c, max(id) AS m FROM t.a) x JOIN t.none ON x.c = 2", vec![]),
    ] {
        assert_eq!(query(&state, sql).await, expected, "{sql}");
    }
    let error = failure(&state, "SELECT id FROM t.a WHERE id = (SELECT k FROM t.b)").await;
    assert!(error.message.contains("gave 4 rows"), "{}", error.message);
    let error = failure(&state, "SELECT (SELECT g FROM t.b WHERE b.k = a.id) AS g FROM t.a").await;
    assert!(error.message.contains("gave 2 rows"), "{}", error.message);
}
