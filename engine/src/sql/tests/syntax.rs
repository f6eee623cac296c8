use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use datafusion::execution::SessionState;

use crate::sql::testing::{batch, failure, rows, run, session};

/// Three rows: of arrays and maps, of empty ones, of nulls.
async fn state() -> SessionState {
    let plain = session("UTC", vec![]);
    let made = "SELECT 1 AS id, array('a', 'b') AS xs, map('k', 10) AS m, named_struct('City', 'Ulm', 'zip', 89073) AS s
                UNION ALL SELECT 2, slice(array('a'), 1, 0), map_from_arrays(slice(array('k'), 1, 0), slice(array(1), 1, 0)), NULL
                UNION ALL SELECT 3, NULL, NULL, NULL ORDER BY id";
    let (schema, batches) = run(&plain, made).await.unwrap();
    let table = arrow::compute::concat_batches(&schema, &batches).unwrap();
    let sales = batch(vec![
        ("shop", Arc::new(StringArray::from(vec!["a", "a", "b", "b", "b"])) as ArrayRef),
        ("kind", Arc::new(StringArray::from(vec![Some("new"), Some("old"), Some("new"), None, Some("new")]))),
        ("qty", Arc::new(Int32Array::from(vec![Some(1), Some(2), Some(3), Some(4), None]))),
        ("price", Arc::new(Int32Array::from(vec![10, 20, 30, 40, 50]))),
    ]);
    session("UTC", vec![("r", table), ("sales", sales)])
}

async fn check(examples: &[(&str, &[&str])]) {
    let state = state().await;
    let mut wrong = Vec::new();
    for (sql, expected) in examples {
        let found = match run(&state, sql).await {
            Ok((_, batches)) => rows(&batches),
            Err(error) => vec![error.message],
        };
        if found != *expected {
            wrong.push(format!("{sql}\n  {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn generators_make_rows() {
    check(&[
        ("SELECT id, x FROM t.r LATERAL VIEW explode(xs) v AS x ORDER BY id, x", &["1 | a", "1 | b"]),
        ("SELECT id, x FROM t.r LATERAL VIEW OUTER explode(xs) AS x ORDER BY id, x", &["1 | a", "1 | b", "2 | null", "3 | null"]),
        ("SELECT id, v.pos, v.x FROM t.r LATERAL VIEW posexplode(xs) v AS pos, x ORDER BY 2", &["1 | 0 | a", "1 | 1 | b"]),
        ("SELECT r.id, k, w, c FROM t.r r LATERAL VIEW explode(m) e AS k, w LATERAL VIEW explode(array(w, w + 1)) f AS c ORDER BY c", &["1 | k | 10 | 10", "1 | k | 10 | 11"]),
        ("SELECT id, explode(m) FROM t.r ORDER BY key", &["1 | k | 10"]),
        ("SELECT id, explode(m) AS (a, b) FROM t.r ORDER BY a", &["1 | k | 10"]),
        ("SELECT id, explode_outer(m) AS (a, b) FROM t.r ORDER BY id", &["1 | k | 10", "2 | null | null", "3 | null | null"]),
        ("SELECT posexplode(array('x', NULL)) AS (p, v)", &["0 | x", "1 | null"]),
        ("SELECT posexplode(map('a', 1))", &["0 | a | 1"]),
        ("SELECT posexplode_outer(xs), id FROM t.r WHERE id > 1 ORDER BY id", &["null | null | 2", "null | null | 3"]),
        ("SELECT inline(array(struct(1 AS a, 'x' AS b), struct(2 AS a, 'y' AS b))) ORDER BY a", &["1 | x", "2 | y"]),
        ("SELECT stack(2, 'a', 1, 'b', 2) AS (k, v)", &["a | 1", "b | 2"]),
        ("SELECT stack(2, 'a', 1, 'b')", &["a | 1", "b | null"]),
        ("SELECT col FROM explode(array(1, 2)) ORDER BY col", &["1", "2"]),
        ("SELECT t.p, t.v FROM posexplode(array('a')) AS t(p, v)", &["0 | a"]),
        ("SELECT id, e.x FROM t.r, LATERAL explode(xs) AS e(x) ORDER BY x", &["1 | a", "1 | b"]),
        ("SELECT id, x FROM t.r LEFT JOIN LATERAL explode(xs) AS e(x) ON true WHERE id > 1 ORDER BY id", &["2 | null", "3 | null"]),
        ("SELECT x, count(*) AS n FROM t.r LATERAL VIEW explode(xs) v AS x WHERE x <> 'b' GROUP BY x", &["a | 1"]),
        ("SELECT a.id, x FROM t.r a JOIN t.r b ON a.id = b.id LATERAL VIEW explode(b.xs) v AS x WHERE a.id = 1 ORDER BY x", &["1 | a", "1 | b"]),
    ])
    .await;
    let state = state().await;
    for (sql, expected) in [
        ("SELECT explode(xs), explode(m) FROM t.r", "can have one generator"),
        ("SELECT upper(explode(xs)) FROM t.r", "can't stand within an expression"),
        ("SELECT explode(xs) AS (a, b) FROM t.r", "gives 1 columns here, not 2"),
        ("SELECT explode(id) FROM t.r", "needs an array or a map, not int"),
        ("SELECT id FROM t.r LATERAL VIEW upper(xs) v AS x", "makes no rows"),
        ("SELECT id AS (a, b) FROM t.r", "is one column"),
    ] {
        let error = failure(&state, sql).await;
        assert!(error.message.contains(expected), "{sql}: {}", error.message);
    }
}

#[tokio::test]
async fn relations_are_turned() {
    check(&[
        (
            "SELECT * FROM (SELECT shop, kind, qty FROM t.sales) PIVOT (sum(qty) FOR kind IN ('new', 'old')) ORDER BY shop",
            &["a | 1 | 2", "b | 3 | null"],
        ),
        (
            "SELECT * FROM t.sales PIVOT (sum(qty) AS q, count(*) AS n FOR kind IN ('old' AS o, NULL AS none)) ORDER BY price LIMIT 2",
            &["a | 10 | null | null | null | null", "a | 20 | 2 | 1 | null | null"],
        ),
        (
            "SELECT o_q, none_n FROM (SELECT kind, qty FROM t.sales) PIVOT (sum(qty) AS q, count(*) AS n FOR kind IN ('old' AS o, NULL AS none))",
            &["2 | 1"],
        ),
        (
            "SELECT * FROM (SELECT shop, kind, qty FROM t.sales) PIVOT (max(qty) FOR (shop, kind) IN (('a', 'new') AS an, ('b', 'new') AS bn))",
            &["1 | 3"],
        ),
        (
            "SELECT * FROM (SELECT shop, qty, price FROM t.sales WHERE shop = 'b') UNPIVOT (v FOR n IN (qty, price AS p)) ORDER BY n, v",
            &["b | p | 30", "b | p | 40", "b | p | 50", "b | qty | 3", "b | qty | 4"],
        ),
        (
            "SELECT n, v FROM t.sales UNPIVOT INCLUDE NULLS (v FOR n IN (qty)) WHERE v IS NULL",
            &["qty | null"],
        ),
        (
            "SELECT * FROM (SELECT 1 AS a, 2 AS b, 3 AS c, 4 AS d) UNPIVOT ((x, y) FOR n IN ((a, b) AS first, (c, d))) ORDER BY n",
            &["c_d | 3 | 4", "first | 1 | 2"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn names_are_sparks() {
    check(&[
        ("SELECT s.* FROM t.r WHERE id = 1", &["Ulm | 89073"]),
        ("SELECT r.s.* EXCEPT (zip) FROM t.r WHERE id = 1", &["Ulm"]),
        ("SELECT city FROM (SELECT s.* FROM t.r) x WHERE city IS NOT NULL", &["Ulm"]),
        ("SELECT struct(s.*).city AS c, size(array(sales.qty, sales.price)) AS n FROM t.r JOIN t.sales ON r.id = sales.qty WHERE r.id = 1", &["Ulm | 2"]),
        ("SELECT b.*, a.id FROM t.r a JOIN (SELECT id AS bid FROM t.r) b ON a.id = b.bid ORDER BY 2", &["1 | 1", "2 | 2", "3 | 3"]),
        ("VALUES (1, 'a'), (2, NULL)", &["1 | a", "2 | null"]),
        ("SELECT col1 + 1 AS c FROM VALUES (1), (2) ORDER BY c", &["2", "3"]),
        ("WITH v AS (VALUES (1, 2)) SELECT col2 FROM v", &["2"]),
        ("SELECT col1 FROM (VALUES (3), (1) ORDER BY col1 LIMIT 1)", &["1"]),
        ("SELECT id * 2 AS d FROM range(1, 4) ORDER BY id", &["2", "4", "6"]),
        // A product with a constant zero keeps its type.
        (
            "SELECT typeof(CAST(0 AS decimal(9,2)) * id) AS a, typeof(id * 0.0) AS b, CAST(0.00 AS decimal(9,2)) * id = CAST(3.00 AS decimal(9,2)) AS c FROM range(1, 2)",
            &["decimal(30,2) | decimal(22,1) | false"],
        ),
        ("SELECT id FROM range(0, 10, 5, 3) ORDER BY id", &["0", "5"]),
        ("FROM t.sales SELECT shop WHERE qty = 1", &["a"]),
        ("SELECT 1 AS a, a + 1 AS b, b * 2 AS c", &["1 | 2 | 4"]),
        ("SELECT price AS qty, qty + 1 AS q FROM t.sales WHERE price = 10", &["10 | 2"]),
        ("SELECT sum(price) AS total, total / 10 AS tenth FROM t.sales", &["150 | 15.0"]),
        ("SELECT explode(array(1, 2)) AS x, x * 10 AS y ORDER BY x", &["1 | 10", "2 | 20"]),
        ("SELECT shop, sum(qty) AS qty FROM t.sales GROUP BY shop HAVING qty > 6", &["b | 7"]),
        ("SELECT shop, sum(qty) AS qty FROM t.sales GROUP BY shop HAVING sum(qty) > 6 AND max(qty) + qty > 10", &["b | 7"]),
        ("SELECT shop AS s, sum(price) AS shop FROM t.sales GROUP BY s, shop HAVING shop = 'a'", &["a | 30"]),
        ("SELECT qty, price FROM t.sales WHERE shop = 'b' ORDER BY ALL DESC", &["4 | 40", "3 | 30", "null | 50"]),
        ("SELECT shop, sum(qty) AS n FROM t.sales GROUP BY ALL ORDER BY n", &["a | 3", "b | 7"]),
        ("SELECT price FROM t.sales WHERE shop = 'a' SORT BY price DESC", &["20", "10"]),
        ("SELECT price FROM t.sales WHERE shop = 'a' CLUSTER BY price", &["10", "20"]),
        ("SELECT price FROM t.sales WHERE price = 10 DISTRIBUTE BY price SORT BY price", &["10"]),
        ("SELECT qty FROM t.sales MINUS SELECT qty FROM t.sales WHERE shop = 'a' ORDER BY 1", &["null", "3", "4"]),
        ("SELECT s.shop FROM t.sales s SEMI JOIN t.r ON s.qty = r.id WHERE s.qty < 3", &["a", "a"]),
        ("SELECT qty FROM t.sales s ANTI JOIN t.r ON s.qty = r.id ORDER BY 1", &["null", "4"]),
    ])
    .await;
}

#[tokio::test]
async fn predicates_are_sparks() {
    check(&[
        ("SELECT 1 IS DISTINCT FROM 1 AND false AS a, NULL IS NOT DISTINCT FROM NULL OR false AS b", &["false | true"]),
        ("SELECT 'ab' LIKE ANY ('a%', 'x') AS a, 'ab' NOT LIKE ALL ('b%', 'x%') AS b, 'ab' LIKE ALL ('a%', NULL) AS c", &["true | true | null"]),
        ("SELECT ~5 AS a, 5 & 3 | 8 AS b, 6 ^ 3 AS c, 'a' || 'b' AS d, ! true AS e, 7 DIV 2 AS f, 1 == 1 AS g", &["-6 | 9 | 5 | ab | false | 3 | true"]),
        ("SELECT (1, 2) IN ((1, 2), (3, 4)) AS a, (1, 5) NOT IN ((1, 2)) AS b", &["true | true"]),
        ("SELECT qty FROM t.sales WHERE qty IN (1, 2.0, 9) ORDER BY 1", &["1", "2"]),
        ("SELECT (1, NULL) IN ((1, NULL)) AS a, (1, 2) IN ((1, NULL)) AS b, (1, 2) NOT IN ((1, NULL), (3, 4)) AS c", &["true | false | true"]),
        ("SELECT qty FROM t.sales WHERE (qty > 2) IS NOT TRUE ORDER BY 1", &["null", "1", "2"]),
        ("SELECT 'a_c' LIKE 'a!_c' ESCAPE '!' AS a, 'abc' LIKE 'a!_c' ESCAPE '!' AS b, '50%' ILIKE '%/%' ESCAPE '/' AS c", &["true | false | true"]),
        ("SELECT id FROM t.r WHERE NOT exists(xs, x -> x = 'a') ORDER BY id", &["2"]),
        ("SELECT id FROM t.r WHERE NOT EXISTS (SELECT 1 FROM t.sales WHERE qty = id) ORDER BY id", &[]),
        ("SELECT '\\\\a' LIKE r'\\\\a' AS a, '\\\\a' LIKE '\\\\\\\\a' AS b", &["true | true"]),
    ])
    .await;
}
