use crate::sql::testing::{check, failure, plain};

#[tokio::test]
async fn array_functions_are_sparks() {
    check(
        "UTC",
        &[
            ("array(«1», 2, 3)", "[1, 2, 3] array<int>"),
            ("array()", "[] array<void>"),
            ("array(«1», 2, 3)[0]", "1 int"),
            ("array(«1», 2, 3)[3]", "null int"),
            ("array(«1», 2, 3)[-1]", "null int"),
            ("array(1, 2, 3)[«1»]", "2 int"),
            ("get(array(«1», 2, 3), 0)", "1 int"),
            ("element_at(array(«1», 2, 3), 2)", "2 int"),
            ("element_at(array(«1», 2, 3), -1)", "3 int"),
            ("element_at(map(1, «'a'», 2, 'b'), 2)", "b string"),
            ("map('k', «1»)['k']", "1 int"),
            ("size(array(«'b'», 'd', 'c', 'a'))", "4 int"),
            ("size(«CAST(NULL AS array<int>)»)", "-1 int"),
            ("cardinality(map('a', «1», 'b', 2))", "2 int"),
            ("array_size(array(«'b'», 'd'))", "2 int"),
            ("array_size(«CAST(NULL AS array<int>)»)", "null int"),
            ("array_contains(array(«1», 2, 3), 2)", "true boolean"),
            ("array_contains(array(«'x'», NULL), 'y')", "null boolean"),
            ("array_contains(array(«'x'»), 'y')", "false boolean"),
            ("array_contains(array(«1L», 2L), 2)", "true boolean"),
            ("array_distinct(array(«1», 2, 3, NULL, 3))", "[1, 2, 3, null] array<int>"),
            ("array_except(array(«1», 2, 3), array(1, 3, 5))", "[2] array<int>"),
            ("array_intersect(array(«1», 2, 3), array(1, 3, 5))", "[1, 3] array<int>"),
            ("array_union(array(«1», 2, 3), array(1, 3, 5))", "[1, 2, 3, 5] array<int>"),
            ("array_join(array(«'hello'», NULL, 'world'), ' ')", "hello world string"),
            ("array_join(array(«'hello'», NULL, 'world'), ' ', ',')", "hello , world string"),
            ("array_join(array(«1», 2), '-')", "1-2 string"),
            ("array_max(array(«1», 20, NULL, 3))", "20 int"),
            ("array_min(array(«1», 20, NULL, 3))", "1 int"),
            ("array_position(array(«312», 773, 708), 708)", "3 bigint"),
            ("array_position(array(«312», 773), 414)", "0 bigint"),
            ("array_position(«CAST(NULL AS array<int>)», 414)", "null bigint"),
            ("array_remove(array(«1», 2, 3, NULL, 3), 3)", "[1, 2, null] array<int>"),
            ("array_repeat(«'123'», 2)", "[123, 123] array<string>"),
            ("array_append(array(«'b'», 'd'), 'e')", "[b, d, e] array<string>"),
            ("array_compact(array(«1», NULL, 3))", "[1, 3] array<int>"),
            ("arrays_overlap(array(«1», 2, 3), array(3, 4, 5))", "true boolean"),
            ("flatten(array(array(«1», 2), array(3, 4)))", "[1, 2, 3, 4] array<int>"),
            ("reverse(array(«2», 1, 4, 3))", "[3, 4, 1, 2] array<int>"),
            ("slice(array(«1», 2, 3, 4), 2, 2)", "[2, 3] array<int>"),
            ("slice(array(«1», 2, 3, 4), -2, 2)", "[3, 4] array<int>"),
            ("sort_array(array(«'b'», 'd', NULL, 'c', 'a'), true)", "[null, a, b, c, d] array<string>"),
            ("sort_array(array(«'b'», 'd', NULL, 'c', 'a'), false)", "[d, c, b, a, null] array<string>"),
            ("sort_array(array(«2», 1))", "[1, 2] array<int>"),
            ("array_sort(array(«'b'», 'd', NULL, 'c', 'a'))", "[a, b, c, d, null] array<string>"),
            ("sequence(«1», 5)", "[1, 2, 3, 4, 5] array<int>"),
            ("sequence(«5», 1)", "[5, 4, 3, 2, 1] array<int>"),
            ("map_keys(map(1, «'a'», 2, 'b'))", "[1, 2] array<int>"),
            ("map_values(map(1, «'a'», 2, 'b'))", "[a, b] array<string>"),
            ("named_struct('a', «1», 'b', 2).b", "2 int"),
            ("named_struct('aB', «1»)", "{aB: 1} struct<aB:int>"),
            ("struct(«1» AS x, 2)", "{x: 1, col2: 2} struct<x:int,col2:int>"),
            ("struct(«1» AS x).X", "1 int"),
            ("array(named_struct('a', «1»), NULL).a", "[1, null] array<int>"),
        ],
    )
    .await;
}

#[tokio::test]
async fn lambdas_are_sparks() {
    check(
        "UTC",
        &[
            ("transform(array(«1», 2, 3), x -> x + 1)", "[2, 3, 4] array<int>"),
            ("transform(array(«1», 2, 3), (x, i) -> x + i)", "[1, 3, 5] array<int>"),
            ("transform(array(«'1'», 'x'), x -> CAST(x AS int))", "[1, null] array<int>"),
            ("transform(array(«1», 2), x -> x / 2)", "[0.5, 1.0] array<double>"),
            ("transform(«CAST(NULL AS array<int>)», x -> x + 1)", "null array<int>"),
            ("transform(slice(array(«1», 2), 1, 0), x -> x + 1)", "[] array<int>"),
            ("transform(array(«1», 2), x -> array(x, x))", "[[1, 1], [2, 2]] array<array<int>>"),
            (
                "transform(array(array(«1»), array(2, 3)), xs -> transform(xs, x -> x * 10))",
                "[[10], [20, 30]] array<array<int>>",
            ),
            ("transform(array(1, 2), x -> x + «10»)", "[11, 12] array<int>"),
            ("transform(array(«1», 2), x -> 'a')", "[a, a] array<string>"),
            (
                "transform(array(«'2021-12-25T07:00:00+0100'»), x -> to_timestamp(x))",
                "[2021-12-25T06:00:00Z] array<timestamp>",
            ),
            ("transform(array(«1», 2), x -> named_struct('v', x).V)", "[1, 2] array<int>"),
            ("transform(array(«1», 2), x -> IF(x > 1, 'big', 'small'))", "[small, big] array<string>"),
            ("transform(array(«1», 2), X -> x)", "[1, 2] array<int>"),
            ("filter(array(«1», 2, 3), x -> x % 2 == 1)", "[1, 3] array<int>"),
            ("filter(array(«1», NULL, 3), x -> x IS NOT NULL)", "[1, 3] array<int>"),
            ("filter(array(«1», NULL), x -> x > 5)", "[] array<int>"),
            ("exists(array(«1», 2, 3), x -> x % 2 == 0)", "true boolean"),
            ("exists(array(«1», 2, 3), x -> x % 2 == 10)", "false boolean"),
            ("exists(array(«1», NULL, 3), x -> x % 2 == 0)", "null boolean"),
            ("exists(slice(array(«1»), 1, 0), x -> x IS NULL)", "false boolean"),
            ("exists(array(0, «NULL», 2, 3, NULL), x -> x IS NULL)", "true boolean"),
            ("forall(array(«1», 2, 3), x -> x % 2 == 0)", "false boolean"),
            ("forall(array(«2», 4, 8), x -> x % 2 == 0)", "true boolean"),
            ("forall(array(«1», NULL, 3), x -> x % 2 == 0)", "false boolean"),
            ("forall(array(«2», NULL, 8), x -> x % 2 == 0)", "null boolean"),
            ("aggregate(array(«1», 2, 3), 0, (acc, x) -> acc + x)", "6 int"),
            ("aggregate(array(«1», 2, 3), 0, (acc, x) -> acc + x, acc -> acc * 10)", "60 int"),
            ("aggregate(«CAST(NULL AS array<int>)», 0, (acc, x) -> acc + x)", "null int"),
            ("aggregate(slice(array(«1»), 1, 0), 7, (acc, x) -> acc + x)", "7 int"),
            ("aggregate(array(«1», 2, 3), «10», (acc, x) -> acc + x)", "16 int"),
            ("aggregate(array(«'a'», 'b'), '', (acc, x) -> concat(acc, x))", "ab string"),
            ("aggregate(array(1, 2), 0, (acc, x) -> acc + x * «100»)", "300 int"),
            ("reduce(array(«1», 2, 3), 0, (acc, x) -> acc + x)", "6 int"),
        ],
    )
    .await;
}

#[tokio::test]
async fn wrong_lambdas_are_explained() {
    let state = plain("UTC");
    for (sql, expected) in [
        ("SELECT transform(1, x -> x) AS x", "list"),
        ("SELECT transform(array(1), x -> y) AS x", "no column `y`"),
        ("SELECT transform(array(1), (x, y, z) -> y) AS x", "lambda"),
        ("SELECT aggregate(array(1), 0) AS x", "aggregate takes an array"),
        ("SELECT 1[0] AS x", "needs an array or a map"),
    ] {
        let error = failure(&state, sql).await;
        assert!(error.message.contains(expected), "{sql}: {error}");
    }
}
