//! Queries whose plans are cut into stages and tasks, against values worked out by hand: an answer is the same on one task and on many.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use serde_json::{Value, json};
use trireme_tests::cli::Checks;
use trireme_tests::cluster::{Cluster, Options};

/// Two clusters over the same rows: every byte of a table is a task's, or all of them are one task's.
fn clusters() -> [Cluster; 2] {
    ["1B", "1GiB"].map(|task_bytes| {
        let flags = ["--target-partitions", "4", "--task-bytes", task_bytes];
        let cluster = Cluster::start(Options { scheduler: flags.map(String::from).to_vec(), ..Options::default() });
        // Three files each, so that even so small tables are several tasks'.
        let text = |from: i64, to: i64, line: &dyn Fn(i64) -> Value| {
            (from..to).map(|i| line(i).to_string() + "\n").collect::<String>()
        };
        for (part, (from, to)) in [(0, 8), (8, 16), (16, 24)].into_iter().enumerate() {
            let city = |i: i64| json!({ "id": i, "name": format!("c{:02}", (i * 7) % 24), "area": if i % 5 == 0 { Value::Null } else { json!(i * 10) } });
            cluster.deliver("g.cities", &format!("cities-{part}.ndjson"), text(from, to, &city));
            cluster.cli(&["merge", "--table", "g.cities", "--source", "g.cities", "--pk", "id"]).done();
            let visit = |i: i64| json!({ "id": i + 100, "city": if i % 6 == 0 { Value::Null } else { json!(i / 2) }, "area": i * 15 });
            cluster.deliver("g.visits", &format!("visits-{part}.ndjson"), text(from, to, &visit));
            cluster.cli(&["merge", "--table", "g.visits", "--source", "g.visits", "--pk", "id"]).done();
        }
        cluster
    })
}

/// A query, and its rows as JSON arrays in their order.
fn cases() -> Vec<(&'static str, Vec<Value>)> {
    let names = |descending: bool| {
        let mut names: Vec<Value> = (0..24).map(|i| json!([format!("c{i:02}")])).collect();
        if descending {
            names.reverse();
        }
        names
    };
    // Of the visits' areas (0, 15 … 345), those that no city is within 5 of, above or below; cities are at 10, 20 … 230 but for multiples of 50.
    let city_areas: Vec<i64> = (0..24).filter(|i| i % 5 != 0).map(|i| i * 10).collect();
    let near = |visit: i64| city_areas.iter().filter(|area| (visit - 5..=visit + 5).contains(*area)).count();
    let pairs: usize = (0..24).map(|i| near(i * 15)).sum();
    let lonely = (0..24).filter(|i| near(i * 15) == 0).count();
    let unvisited = (0..24).filter(|i| i % 5 == 0 || (0..24).all(|v: i64| (v * 15 - i * 10).abs() > 5)).count();
    let one = |number: usize| vec![json!([number])];
    vec![
        ("SELECT name FROM g.cities ORDER BY name", names(false)),
        ("SELECT name FROM g.cities WHERE id >= 0 ORDER BY name DESC", names(true)),
        ("SELECT DISTINCT name FROM g.cities ORDER BY name DESC", names(true)),
        ("SELECT concat(name, '') AS n FROM g.cities GROUP BY name ORDER BY name", names(false)),
        ("SELECT c.name FROM g.cities c JOIN (SELECT id FROM g.cities) d ON c.id = d.id ORDER BY c.name", names(false)),
        (
            "SELECT c.name FROM g.visits v RIGHT JOIN g.cities c ON c.id = v.city AND v.area < 0 ORDER BY c.name DESC",
            names(true),
        ),
        // Joins without an equality.
        (
            "SELECT count(*) AS n FROM g.visits v LEFT JOIN g.cities c ON c.area BETWEEN v.area - 5 AND v.area + 5",
            one(pairs + lonely),
        ),
        (
            "SELECT count(*) AS n FROM g.cities c RIGHT JOIN g.visits v ON c.area BETWEEN v.area - 5 AND v.area + 5",
            one(pairs + lonely),
        ),
        (
            "SELECT count(*) AS n FROM g.visits v FULL JOIN g.cities c ON c.area BETWEEN v.area - 5 AND v.area + 5",
            one(pairs + lonely + unvisited),
        ),
        (
            "SELECT count(*) AS n FROM g.visits v WHERE NOT EXISTS (SELECT 1 FROM g.cities c WHERE c.area BETWEEN v.area - 5 AND v.area + 5)",
            one(lonely),
        ),
        (
            "SELECT count(*) AS n FROM g.visits v WHERE EXISTS (SELECT 1 FROM g.cities c WHERE c.area BETWEEN v.area - 5 AND v.area + 5)",
            one(24 - lonely),
        ),
        ("SELECT count(*) AS n FROM g.visits v WHERE EXISTS (SELECT 1 FROM g.cities)", one(24)),
        ("SELECT count(*) AS n FROM g.visits v WHERE NOT EXISTS (SELECT 1 FROM g.cities WHERE id > 1000)", one(24)),
        ("SELECT count(*) AS n FROM g.visits v LEFT JOIN g.cities c ON 1 = 1 AND c.name LIKE 'c0%'", one(240)),
        ("SELECT count(*) AS n FROM g.visits v FULL JOIN g.cities c ON c.id > 1000", one(48)),
        // Each side of the join has a column `area` and a column `id`.
        (
            "SELECT v.id FROM g.cities c RIGHT JOIN g.visits v ON c.id = v.city WHERE c.id IS NULL AND v.area > 200 ORDER BY v.id",
            vec![json!([118])],
        ),
        (
            "SELECT c.id FROM g.cities c LEFT JOIN g.visits v ON c.id = v.city WHERE v.id IS NULL AND c.area > 150 ORDER BY c.id",
            [16, 17, 18, 19, 21, 22, 23].map(|id| json!([id])).to_vec(),
        ),
        // What is one partition is partitioned again above it.
        (
            "SELECT count(*) AS n FROM g.visits v FULL JOIN (SELECT n, 'c' AS c FROM (SELECT row_number() OVER (ORDER BY id) AS n FROM g.cities) \
             EXCEPT ALL SELECT city, 'd' FROM g.visits) e ON CAST(v.area AS string) = e.c",
            one(48),
        ),
        (
            "SELECT id FROM (SELECT min('a') OVER (PARTITION BY id) AS a, sum(id) OVER (ORDER BY id DESC) AS s, id FROM g.cities) c \
             LEFT ANTI JOIN g.visits v ON CAST(v.id AS string) = c.a WHERE s > 270 ORDER BY id",
            [0, 1, 2, 3].map(|id| json!([id])).to_vec(),
        ),
        // Rows that are partitioned by a key that equals another.
        (
            "SELECT sum(n) AS n FROM (SELECT count(*) OVER (PARTITION BY d.k) AS n FROM g.visits v JOIN (SELECT DISTINCT id AS i, 2 AS two, id AS k \
             FROM g.cities) d ON v.city = d.i)",
            one(36),
        ),
        (
            "SELECT count(*) AS n FROM (SELECT max(area) OVER (PARTITION BY a, b) AS m FROM (SELECT area, id AS a, id AS b FROM g.visits))",
            one(24),
        ),
        // A join that is planned to collect its left side, which nothing is known of, is one by partitions: its rows have the partitions of its keys.
        (
            "SELECT count(*) AS n FROM (SELECT k FROM (SELECT city AS k, area, row_number() OVER (PARTITION BY city ORDER BY area) AS r FROM g.visits) d \
             LEFT ANTI JOIN (SELECT area, row_number() OVER (PARTITION BY area ORDER BY id) AS r FROM g.cities WHERE id < 0) e \
             ON d.area = e.area AND d.r = e.r GROUP BY k)",
            one(13),
        ),
        // A window over rows that are sorted the other way.
        (
            "SELECT count(*) AS n FROM (SELECT id, row_number() OVER (ORDER BY area DESC, id) AS r, \
             lag(id, 1, -1) OVER (PARTITION BY area ORDER BY id DESC) AS l FROM g.cities) WHERE r > 0 AND l > id",
            one(4),
        ),
        // A condition that is false, above an aggregate that has one row of no rows, too.
        (
            "SELECT count(*) AS n FROM g.cities c LEFT ANTI JOIN (SELECT max(area) AS a FROM g.visits) v ON FALSE",
            one(24),
        ),
        (
            "SELECT count(*) AS n FROM g.cities WHERE (CAST('x' AS int) IN (SELECT area FROM g.visits WHERE NOT EXISTS (SELECT 1 FROM g.cities WHERE id > 99))) \
             IS NOT TRUE",
            one(24),
        ),
        // A lambda above a join that has other columns than it was planned over, and a key that equals the one by which rows are partitioned.
        (
            "SELECT count(*) AS n FROM (SELECT EXISTS (SELECT a.id FROM g.cities a JOIN g.visits b ON a.area BETWEEN b.area AND a.area \
             WHERE filter(array(b.city), v -> v <> a.id)[0] IN (SELECT id FROM g.cities)) AS e FROM g.cities) WHERE e",
            one(24),
        ),
        (
            "SELECT count(*) AS n FROM (SELECT id, id AS k FROM g.cities GROUP BY id) a LEFT SEMI JOIN (SELECT id, row_number() OVER (ORDER BY id) AS r \
             FROM g.cities WHERE id < 99) b ON a.id = b.id JOIN g.visits v ON a.k = v.city",
            one(20),
        ),
        // A sort above a join of which one side has no row.
        (
            "SELECT count(*) AS n FROM (SELECT sum(c.id) OVER (PARTITION BY c.id ORDER BY c.area) AS s FROM g.cities c JOIN g.visits v ON v.id = c.id \
             WHERE c.name IN ('x'))",
            one(0),
        ),
        // A table's column and an alias of one name.
        ("SELECT id + 1 AS id FROM g.cities t ORDER BY t.id * -1 LIMIT 2", vec![json!([24]), json!([23])]),
        (
            "SELECT count(*) AS n FROM (SELECT (SELECT max(v.id) AS city FROM g.visits v WHERE v.city = c.id) AS m FROM g.cities c) WHERE m IS NOT NULL",
            one(12),
        ),
        // A sum of decimals beside a DISTINCT has the type of one alone.
        (
            "SELECT count(*) AS n FROM (SELECT name, sum(CAST(area AS decimal(9,2))) AS s, sum(DISTINCT id) AS d FROM g.cities GROUP BY name) WHERE s > 2",
            one(19),
        ),
        // Nothing but one row beside others.
        (
            "SELECT name FROM g.cities WHERE EXISTS (SELECT 1 FROM g.cities a JOIN g.visits b ON a.id = b.city) ORDER BY name",
            names(false),
        ),
        (
            "SELECT DISTINCT EXISTS (SELECT 1 FROM g.visits WHERE city = c.id GROUP BY area UNION SELECT area FROM g.cities) AS e FROM g.cities c",
            vec![json!([true])],
        ),
        (
            "SELECT count(v.id) AS n FROM g.visits v LEFT JOIN g.cities c ON forall(array(v.city, 1), e -> e > c.id)",
            // Below both the visit's city and 1 there is one city at most.
            one(24),
        ),
        // A join of one partition becomes one of many.
        (
            "SELECT count(*) AS n FROM g.cities c FULL JOIN (SELECT row_number() OVER (ORDER BY id) AS n FROM g.visits) v ON v.n = c.id UNION ALL SELECT 7",
            vec![json!([25]), json!([7])],
        ),
        (
            "SELECT id FROM g.cities WHERE NOT EXISTS (SELECT 1 FROM g.visits a LEFT JOIN g.cities b ON b.id = a.id AND b.name LIKE 'z%') \
             UNION ALL SELECT 7 FROM g.cities LIMIT 3",
            vec![json!([7]); 3],
        ),
        // Unions of branches of other shapes.
        (
            "SELECT 'first' AS k, 0 AS n UNION ALL SELECT max(name), count(*) FROM g.cities UNION ALL SELECT 'last', 1",
            vec![json!(["c23", 24]), json!(["first", 0]), json!(["last", 1])],
        ),
        (
            "SELECT id FROM g.cities WHERE false UNION ALL SELECT id FROM g.cities WHERE id = 3 UNION ALL SELECT 4",
            vec![json!([3]), json!([4])],
        ),
        (
            "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM g.cities) WHERE n = 2 UNION ALL SELECT 7",
            vec![json!([1]), json!([7])],
        ),
        (
            "SELECT count(*) AS n FROM (SELECT id FROM g.cities UNION ALL SELECT max(id) FROM g.visits UNION ALL SELECT id FROM g.visits)",
            one(49),
        ),
        (
            "SELECT name FROM g.cities WHERE id = 2 UNION ALL SELECT (SELECT max(name) FROM g.cities) AS name FROM g.visits WHERE id = 101",
            vec![json!(["c14"]), json!(["c23"])],
        ),
        // Keys with lambdas, and keys of joins that are expressions.
        (
            "SELECT id FROM g.cities ORDER BY exists(array(id), v -> v > 20) DESC, id LIMIT 4",
            [21, 22, 23, 0].map(|id| json!([id])).to_vec(),
        ),
        (
            "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY exists(array(id), v -> v > 20) ORDER BY forall(array(id), v -> v > 0) DESC, id) AS n \
             FROM g.cities) WHERE n = 1",
            vec![json!([1]), json!([21])],
        ),
        (
            "SELECT count(*) AS n FROM g.cities a JOIN g.visits b ON a.id = b.city WHERE a.id < 0 OR b.id IN (SELECT count(*) + 102 FROM g.visits c \
             LEFT JOIN g.cities d ON d.id = c.city WHERE c.id = a.id AND c.id IN (SELECT e.id FROM g.cities e WHERE e.id = c.id))",
            one(1),
        ),
        // Subqueries over rows that a LATERAL VIEW or another subquery makes.
        (
            "SELECT id FROM g.cities c WHERE id IN (SELECT v.city FROM g.visits v LATERAL VIEW explode(array(v.city, 0)) x AS item \
             WHERE c.id >= v.city AND x.item = c.id) ORDER BY id",
            (0..12).map(|id| json!([id])).collect(),
        ),
        (
            "WITH w AS (SELECT max(id) AS m FROM g.cities WHERE EXISTS (SELECT area FROM g.visits GROUP BY area)) \
             SELECT (SELECT count(*) FROM w b CROSS JOIN g.visits v WHERE b.m = a.m AND v.id > a.m) AS n FROM w a",
            one(24),
        ),
        // A name behind a dot is no alias.
        (
            "SELECT 1 AS k, x.k[0] AS l FROM (SELECT array(id) AS k, id FROM g.cities) x ORDER BY x.id LIMIT 2",
            vec![json!([1, 0]), json!([1, 1])],
        ),
    ]
}

#[test]
fn an_answer_is_the_same_on_one_task_and_on_many() {
    let clusters = clusters();
    let checks = Checks::default();
    for (sql, expected) in cases() {
        for cluster in &clusters {
            checks.run(|| {
                let rows = cluster.sql(sql);
                let mut rows: Vec<Value> = rows
                    .into_iter()
                    .map(|row| Value::Array(row.as_object().unwrap().values().cloned().collect()))
                    .collect();
                if !sql.contains("ORDER BY") || sql.contains("OVER") {
                    rows.sort_by_key(Value::to_string);
                }
                assert_eq!(rows, expected, "{sql}");
            });
        }
    }
}
