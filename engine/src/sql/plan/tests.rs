use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field},
    json::ReaderBuilder,
};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use super::*;
use crate::sql::{
    cast_to, parse_schema, parse_select, table_schema, take_strict_casts,
    testing::{batch, ddl, failure, plain, query, rows, run, run_plan, session},
};

/// Records as a vendor delivers them.
fn records() -> RecordBatch {
    let schema = parse_schema(
        "metadata STRUCT<name: STRING, birth_date: STRING>, nationalities ARRAY<STRUCT<label: STRING, id: INT>>,
         books ARRAY<STRUCT<id: STRING, metadata: STRUCT<title: STRING, Pages: STRING>>>, createdAt STRING, duration_mins STRING,
         size_mb DOUBLE, labels ARRAY<STRING>, rating STRUCT<rate: BIGINT>",
    )
    .unwrap();
    let lines = r#"
        {"metadata": {"name": "Ann LEE", "birth_date": "1956-05-07T00:00:00.000+0000"}, "nationalities": [{"label": "Swiss", "id": 1}, {"label": null}],
         "books": [{"id": "b", "metadata": {"title": "A PASSAGE", "Pages": "12"}}, null], "createdAt": "2021-12-02T06:11:35.525+0100",
         "duration_mins": "113", "size_mb": 1.5, "labels": ["x", "y"], "rating": {"rate": 5}}
        {"metadata": {"name": null, "birth_date": null}, "nationalities": [], "books": null, "createdAt": "never", "duration_mins": "?", "labels": ["y", null], "rating": null}
        {"metadata": null, "nationalities": null, "books": [], "createdAt": null, "size_mb": 2.5, "labels": null}
    "#;
    let mut reader = ReaderBuilder::new(schema).build(std::io::Cursor::new(lines)).unwrap();
    reader.next().unwrap().unwrap()
}

fn columns(state: &SessionState, texts: &[&str], filter: Option<&str>) -> Result<LogicalPlan> {
    let texts: Vec<_> = texts.iter().map(|text| text.to_string()).collect();
    let batch = records();
    let (exprs, filter) = plan_columns(state, &batch.schema(), &texts, filter)?;
    let table = datafusion::datasource::MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    let mut builder = LogicalPlanBuilder::scan("raw", provider_as_source(Arc::new(table)), None)?;
    if let Some(filter) = filter {
        builder = builder.filter(filter)?;
    }
    Ok(builder.project(exprs)?.build()?)
}

async fn select(texts: &[&str], filter: Option<&str>) -> (String, Vec<String>) {
    let state = plain("UTC");
    let plan = columns(&state, texts, filter).unwrap_or_else(|error| panic!("{texts:?}: {error}"));
    let (schema, batches) = run_plan(&state, &plan).await.unwrap_or_else(|error| panic!("{texts:?}: {error}"));
    (ddl(&schema), rows(&batches))
}

fn refused(texts: &[&str], filter: Option<&str>) -> Error {
    match columns(&plain("UTC"), texts, filter) {
        Ok(plan) => panic!("{texts:?} became {plan}"),
        Err(error) => {
            assert_eq!(error.code, Code::InvalidSql, "{texts:?}: {error}");
            error
        }
    }
}

#[tokio::test]
async fn the_example_pipelines_columns() {
    let (schema, found) = select(
        &[
            "lower(metadata.name) AS name",
            "to_timestamp(metadata.birth_date) AS birth_date",
            "transform(nationalities, x -> lower(x.label)) AS nationality_labels",
            "transform(books, x -> lower(x.metadata.title)) AS book_titles",
            "to_timestamp(createdAt) AS created_at",
            "CAST(duration_mins AS int) AS duration_mins",
            "rating.rate AS rate_value",
            "array_contains(labels, 'x') AS is_x",
            "size_mb",
        ],
        None,
    )
    .await;
    assert_eq!(
        schema,
        "name string, birth_date timestamp, nationality_labels array<string>, book_titles array<string>, created_at timestamp, \
         duration_mins int, rate_value bigint, is_x boolean, size_mb double"
    );
    assert_eq!(
        found,
        [
            "ann lee | 1956-05-07T00:00:00Z | [swiss, null] | [a passage, null] | 2021-12-02T05:11:35.525Z | 113 | 5 | true | 1.5",
            "null | null | [] | null | null | null | null | null | null",
            "null | null | null | [] | null | null | null | null | 2.5",
        ]
    );
}

#[tokio::test]
async fn names_do_not_depend_on_case() {
    let (schema, found) = select(
        &[
            "createdat",
            "CREATEDAT AS `As Written`",
            "transform(BOOKS, B -> b.METADATA.pages) AS Pages",
            "Metadata.NAME",
            "`createdAt` AS c",
        ],
        Some("CreatedAt IS NOT NULL AND metadata.Name LIKE 'A%'"),
    )
    .await;
    // Names are those that are written here.
    assert_eq!(schema, "createdat string, As Written string, Pages array<string>, NAME string, c string");
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("| [12, null] | Ann LEE | 2021-12-02T06:11:35.525+0100"), "{}", found[0]);
}

#[tokio::test]
async fn fields_of_arrays_and_items() {
    let (schema, found) = select(
        &[
            "books.metadata.title AS titles",
            "books[0].metadata.title AS first_title",
            "books[7].id AS none",
            "nationalities.label[1] AS second_label",
            "labels[-1] AS before_first",
            "element_at(labels, -1) AS last_label",
            "element_at(labels, 1) AS first_label",
            "size(labels) AS n",
            "labels[rating.rate - 4] AS computed",
            "rating.*",
        ],
        None,
    )
    .await;
    assert_eq!(
        schema,
        "titles array<string>, first_title string, none string, second_label string, before_first string, last_label string, \
         first_label string, n int, computed string, rate bigint"
    );
    assert_eq!(
        found,
        [
            "[A PASSAGE, null] | A PASSAGE | null | null | null | y | x | 2 | y | 5",
            "null | null | null | null | null | null | y | 2 | null | null",
            "[] | null | null | null | null | null | null | -1 | null | null",
        ]
    );
}

#[tokio::test]
async fn every_column_may_be_taken() {
    let state = plain("UTC");
    for texts in [&[][..], &["*"]] {
        let plan = columns(&state, texts, None).unwrap();
        assert_eq!(plan.schema().fields().len(), 8);
        assert_eq!(plan.schema().field(3).name(), "createdAt");
    }
}

#[tokio::test]
async fn the_filter_sees_the_raw_record() {
    let (_, found) = select(&["duration_mins"], Some("duration_mins > 90")).await;
    assert_eq!(found, ["113"], "a text that is no number is null, not an error");
    let (_, found) = select(&["duration_mins"], Some("duration_mins IN (113, 7) AND size_mb BETWEEN '1' AND 2")).await;
    assert_eq!(found, ["113"]);
    assert!(refused(&["size_mb"], Some("size_mb")).message.contains("the filter is double, not boolean"));
}

#[test]
fn wrong_columns_are_explained() {
    for (text, message, hint) in [
        ("lower(nme) AS n", "in `lower(nme) AS n`, column 7: there is no column `nme`", ""),
        ("1 + size_m AS n", "column 5: there is no column `size_m`", "did you mean `size_mb`?"),
        ("year(size_m) AS n", "column 6: there is no column `size_m`", "did you mean `size_mb`?"),
        ("CAST(size_m AS int) AS n", "column 6: there is no column `size_m`", "did you mean `size_mb`?"),
        (
            "transform(labels, l -> lower(lable)) AS n",
            "column 30: there is no column `lable`",
            "did you mean `labels`?",
        ),
        ("createdt", "there is no column `createdt`", "did you mean `createdAt`?"),
        ("metadata.nam AS n", "`metadata` has no field `nam`", "did you mean `name`?"),
        ("metadata.title AS n", "`metadata` has no field `title`", "its fields: `name`, `birth_date`"),
        ("transform(books, b -> b.metadata.titel) AS t", "`b.metadata` has no field `titel`", "did you mean `title`?"),
        ("size_mb.x AS n", "`size_mb` is double, so it has no field `x`", ""),
        ("size_mb[0] AS n", "needs an array or a map, not double", ""),
        ("lowr(createdAt) AS n", "column 1: there is no function `lowr`", "did you mean `lower`?"),
        ("lower(createdAt)", "no name of its own", "add `AS name`"),
        ("sum(size_mb) AS s", "`sum` is an aggregate", "row by row"),
        ("explode(labels) AS s", "several rows of one", "row by row"),
        ("(SELECT 1) AS s", "subquery", "row by row"),
        ("row_number() OVER (ORDER BY size_mb) AS s", "window function", "row by row"),
        ("lower(createdAt AS n", "in `lower(createdAt AS n`, line 1", ""),
        ("size_mb AS a, size_mb AS b", "should end before `,`", ""),
        ("to_timestamp(createdAt, 'YYYY') AS t", "`YYYY` are not supported", "yyyy-MM-dd"),
        ("array_distinct(size_mb) AS y", "`array_distinct` takes an array, not double", ""),
        ("make_date('a') AS y", "`make_date` takes 3 arguments, not 1", ""),
        ("year() AS y", "`year` can't be called with no arguments", ""),
        ("", "expected", ""),
    ] {
        let error = refused(&[text], None);
        assert!(error.message.contains(message) && error.hint.contains(hint), "{text}: {error}");
    }
    assert!(
        refused(&["size_mb", "createdAt AS Size_MB"], None)
            .message
            .contains("two columns are named `size_mb` and `Size_MB`")
    );
}

#[tokio::test]
async fn a_strict_cast_is_a_cast_and_what_it_demands() {
    let state = plain("UTC");
    let texts = [
        "strict_cast(duration_mins AS int) AS mins",
        "coalesce(Strict_Cast(duration_mins AS INT), size_mb) AS some",
        "size_mb",
    ];
    let (exprs, _) = plan_columns(&state, &records().schema(), &texts.map(String::from), None).unwrap();
    let (exprs, casts) = take_strict_casts(exprs).unwrap();
    // The same cast twice is one demand.
    assert_eq!(casts.iter().map(|cast| cast.label.as_str()).collect::<Vec<_>>(), ["strict_cast(duration_mins AS int)"]);
    let batch = records();
    let table = datafusion::datasource::MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    let scan = LogicalPlanBuilder::scan("raw", provider_as_source(Arc::new(table)), None).unwrap();
    let failures = casts.into_iter().map(|cast| cast.failure.alias("failure"));
    let plan = scan.project(exprs.into_iter().chain(failures)).unwrap().build().unwrap();
    let (schema, batches) = run_plan(&state, &plan).await.unwrap();
    assert_eq!(ddl(&schema), "mins int, some double, size_mb double, failure string");
    let expected = [
        "113 | 113.0 | 1.5 | null",
        "null | null | null | strict_cast(duration_mins AS int): `?` can't be cast",
        "null | 2.5 | 2.5 | null",
    ];
    assert_eq!(rows(&batches), expected);

    // Elsewhere it fails with the value.
    let plan = columns(&state, &["strict_cast(duration_mins AS int) AS mins"], None).unwrap();
    let error = run_plan(&state, &plan).await.unwrap_err();
    assert!(error.code == Code::BadValue && error.message.contains("`?` can't be cast to int"), "{error}");
    let (exprs, _) = plan_columns(
        &state,
        &records().schema(),
        &["transform(labels, x -> strict_cast(x AS int)) AS xs".into()],
        None,
    )
    .unwrap();
    assert!(take_strict_casts(exprs).unwrap_err().message.contains("lambda"));
    refused(&["strict_cast(labels AS array<int>) AS xs"], None);
    refused(&["safe_cast(duration_mins AS int) AS mins"], None);
}

#[test]
fn columns_that_differ_only_in_case_are_ambiguous() {
    let state = plain("UTC");
    let input = Schema::new(vec![
        Field::new("createdAt", DataType::Utf8, true),
        Field::new("createdat", DataType::Utf8, true),
        Field::new("x", DataType::Utf8, true),
    ]);
    let error = plan_columns(&state, &input, &["createdAt".into()], None).unwrap_err();
    assert!(error.message.contains("may be `createdAt` or `createdat`"), "{error}");
    assert_eq!(plan_columns(&state, &input, &["x".into()], None).unwrap().0.len(), 1);
    assert!(plan_columns(&state, &input, &[], None).is_err(), "a table could not hold both");
}

/// The tables of the questions, small.
fn lake() -> SessionState {
    let times = |values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    let texts = |values: Vec<Option<&str>>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let hour = 3_600_000_000i64;
    let base = 1_640_412_000_000_000i64; // 2021-12-25 06:00 UTC, 07:00 +01:00
    let streams = batch(vec![
        ("movie_title", texts(vec![Some("unforgiven"), Some("unforgiven"), Some("rush"), None])),
        ("user_email", texts(vec![Some("a"), Some("b"), Some("a"), Some("c")])),
        ("start_at", times(vec![Some(base - hour), Some(base + 6 * hour), Some(base), None])),
        ("end_at", times(vec![Some(base + hour), Some(base + 7 * hour), Some(base + hour / 2), Some(base)])),
        ("sizeMb", Arc::new(Int32Array::from(vec![Some(10), Some(20), Some(41), None]))),
    ]);
    let movies = batch(vec![
        ("title", texts(vec![Some("unforgiven"), Some("rush"), Some("alien")])),
        ("duration_mins", Arc::new(Int32Array::from(vec![100, 200, 87]))),
        (
            "Info",
            Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("originalLanguage", DataType::Utf8, true)),
                texts(vec![Some("en"), None, Some("th")]),
            )])),
        ),
    ]);
    session("UTC", vec![("streams", streams), ("movies", movies)])
}

#[tokio::test]
async fn questions_of_the_example() {
    let state = lake();
    for (sql, expected) in [
        ("SELECT median(sizeMb) AS m FROM t.streams", vec!["20.0"]),
        ("SELECT round(avg(CAST(end_at - start_at AS int)) / 60, 2) AS minutes FROM t.streams", vec!["70.0"]),
        (
            "SELECT count(DISTINCT user_email) AS users FROM t.streams
             WHERE movie_title = 'unforgiven' AND start_at < to_timestamp('2021-12-25T12:00:00.000+0100')
               AND end_at >= to_timestamp('2021-12-25T07:00:00.000+0100')",
            vec!["1"],
        ),
        ("SELECT count(*) AS n FROM t.streams WHERE start_at + INTERVAL 7 days > TIMESTAMP '2022-01-01 11:00:00'", vec!["1"]),
        (
            "SELECT movie_title, IF(sum(sizeMb) > 35, 'big', 'small') AS size, CAST(max(end_at - start_at) AS int) AS s FROM t.streams
             WHERE movie_title IS NOT NULL GROUP BY movie_title ORDER BY movie_title",
            vec!["rush | big | 1800", "unforgiven | small | 7200"],
        ),
        (
            "WITH watched AS (SELECT s.user_email, CAST(s.end_at - s.start_at AS int) / 60 / m.duration_mins AS part
                              FROM t.streams s JOIN t.movies m ON s.movie_title = m.title)
             SELECT count(DISTINCT user_email) AS users FROM watched WHERE part >= 0.5",
            vec!["2"],
        ),
        ("SELECT title FROM t.movies WHERE title NOT IN (SELECT movie_title FROM t.streams WHERE movie_title IS NOT NULL)", vec!["alien"]),
        ("SELECT Title, info.ORIGINALlanguage FROM t.Movies WHERE INFO.originallanguage = 'en'", vec!["unforgiven | en"]),
        ("SELECT m.info.originalLanguage AS l FROM t.movies AS m ORDER BY l", vec!["null", "en", "th"]),
        ("SELECT t.movies.info.originalLanguage AS l FROM t.movies ORDER BY l DESC", vec!["th", "en", "null"]),
        ("SELECT title AS title, info.originalLanguage AS l FROM (SELECT title AS title, info FROM t.movies) WHERE info.originalLanguage = 'en'", vec!["unforgiven | en"]),
        ("WITH a AS (SELECT title, info AS i FROM t.movies) SELECT a.title AS title, i.originalLanguage FROM a WHERE a.i.originalLanguage = 'en'", vec!["unforgiven | en"]),
        ("SELECT a.title, b.info.originalLanguage AS x FROM t.movies a JOIN t.movies b ON a.title = b.title AND a.info.originalLanguage = b.info.originalLanguage ORDER BY 1", vec!["alien | th", "unforgiven | en"]),
    ] {
        assert_eq!(query(&state, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn results_have_the_names_that_were_written() {
    let state = lake();
    for (sql, expected) in [
        ("SELECT sizeMb, SIZEMB + 1 AS Next, `user_email` FROM t.streams", "sizeMb int, Next int, user_email string"),
        ("SELECT sizemb FROM t.streams", "sizemb int"),
        ("SELECT * FROM (SELECT sizemb FROM t.streams WHERE SIZEMB > 1) AS x", "sizeMb int"),
        ("SELECT * FROM t.movies", "title string, duration_mins int, Info struct<originalLanguage:string>"),
        (
            "SELECT 1L AS N, m.*, duration_mins + 1 AS `Last One` FROM t.movies m",
            "N bigint, title string, duration_mins int, Info struct<originalLanguage:string>, Last One int",
        ),
        ("WITH a AS (SELECT title AS `MyTitle` FROM t.movies) SELECT * FROM a", "MyTitle string"),
        ("SELECT round(avg(sizeMb), 2), count(*) FROM t.streams", "round(avg(sizeMb), 2) double, count(*) bigint"),
        ("SELECT title AS A FROM t.movies UNION SELECT movie_title FROM t.streams", "A string"),
        ("SELECT title AS x FROM t.movies ORDER BY x LIMIT 1", "x string"),
    ] {
        let (schema, _) = run(&state, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(ddl(&schema), expected, "{sql}");
    }
}

#[tokio::test]
async fn planning_errors_have_a_place_and_a_way_out() {
    let state = lake();
    for (sql, code, message, hint) in [
        ("SELECT *\nFROM t.moviez", Code::TableNotFound, "no table `t.moviez`", "did you mean `t.movies`?"),
        ("SELECT *\nFROM other.x", Code::TableNotFound, "no table `other.x`", "tables: `t.movies`, `t.streams`"),
        (
            "SELECT title,\n  durationmins FROM t.movies",
            Code::InvalidSql,
            "q.sql:2:3: there is no column `durationmins`",
            "did you mean `duration_mins`?",
        ),
        (
            "SELECT m.titel FROM t.movies m",
            Code::InvalidSql,
            "q.sql:1:8: there is no column `m.titel`",
            "did you mean `title`?",
        ),
        ("SELECT sizembb FROM t.streams", Code::InvalidSql, "no column `sizembb`", "`sizeMb`"),
        (
            "SELECT info.language FROM t.movies",
            Code::InvalidSql,
            "`info` has no field `language`",
            "`originalLanguage`",
        ),
        (
            "SELECT\n lowwer(title) FROM t.movies",
            Code::InvalidSql,
            "q.sql:2:2: there is no function `lowwer`",
            "did you mean `lower`?",
        ),
        (
            "SELECT title FROM t.movies m JOIN t.movies n ON m.title = n.title",
            Code::InvalidSql,
            "`title` is a column of several tables",
            "table.title",
        ),
        (
            "SELECT m.title, n.title FROM t.movies m JOIN t.movies n ON m.title = n.title",
            Code::InvalidSql,
            "two result columns are named",
            "AS",
        ),
        ("SELECT title, count(*) AS n FROM t.movies", Code::InvalidSql, "q.sql:1:8", ""),
        ("SELECT CAST(title AS numbr) AS x FROM t.movies", Code::InvalidSql, "there is no type `numbr`", ""),
        ("SELECT * FROM generate_serie(1, 2)", Code::InvalidSql, "table function", ""),
        ("DESCRIBE t.movies", Code::InvalidSql, "not a query", ""),
    ] {
        let error = failure(&state, sql).await;
        assert_eq!(error.code, code, "{sql}: {error}");
        assert!(error.message.contains(message) && error.hint.contains(hint), "{sql}: {error}");
    }
}

#[tokio::test]
async fn explain_and_table_functions_work() {
    let state = lake();
    let plan = plan_select(&state, &parse_select("EXPLAIN SELECT title FROM t.movies", "").unwrap()).await.unwrap();
    assert!(matches!(plan, LogicalPlan::Explain(_)));
    assert_eq!(query(&state, "SELECT sum(id) AS s FROM range(10)").await, ["45"]);
    assert_eq!(
        query(&state, "SELECT * FROM VALUES (1, 'a'), (2, 'b') AS v(x, y) ORDER BY x DESC").await,
        ["2 | b", "1 | a"]
    );
}

#[tokio::test]
async fn a_result_gets_the_types_of_a_table() {
    let state = lake();
    let statement = parse_select(
        "SELECT movie_title, count(*) AS n, approx_count_distinct(user_email) AS users, collect_set(user_email) AS emails,
                max(end_at) AS last, row_number() OVER (ORDER BY movie_title) AS place
         FROM t.streams GROUP BY movie_title",
        "",
    )
    .unwrap();
    let plan = plan_select(&state, &statement).await.unwrap();
    let columns: Schema = plan.schema().as_arrow().clone();
    let table = table_schema(&columns).unwrap();
    let plan = LogicalPlanBuilder::from(plan).project(cast_to(&columns, &table)).unwrap().build().unwrap();
    let (schema, batches) = run_plan(&state, &plan).await.unwrap();
    assert_eq!(
        ddl(&schema),
        "movie_title string, n bigint, users bigint, emails array<string>, last timestamp, place int"
    );
    let without_nullability =
        |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(without_nullability(&schema), without_nullability(&table));
    assert_eq!(rows(&batches).len(), 3);
}

/// Optimizer rules that move field access towards the scan once made names ambiguous.
#[tokio::test]
async fn fields_may_be_used_anywhere() {
    let table = batch(vec![
        ("k", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef),
        (
            "s",
            Arc::new(StructArray::from(vec![
                (
                    Arc::new(Field::new("f", DataType::Int32, true)),
                    Arc::new(Int32Array::from(vec![10, 20, 30])) as ArrayRef,
                ),
                (
                    Arc::new(Field::new("g", DataType::Utf8, true)),
                    Arc::new(StringArray::from(vec!["x", "y", "y"])) as ArrayRef,
                ),
            ])),
        ),
    ]);
    let state = session("UTC", vec![("n", table)]);
    for (sql, expected) in [
        ("SELECT k AS k, s.f AS f FROM t.n WHERE s.g = 'y' ORDER BY s.f DESC", vec!["3 | 30", "2 | 20"]),
        ("SELECT k AS k, s.f AS f FROM (SELECT k AS k, s AS s FROM t.n) WHERE s.g = 'y' AND k > 2", vec!["3 | 30"]),
        ("SELECT k AS f, s.f AS k FROM (SELECT k AS k, s FROM t.n) q WHERE q.s.g = 'y' AND k > 2", vec!["3 | 30"]),
        (
            "SELECT s.g AS g, sum(s.f) AS total, max(k) AS k FROM t.n GROUP BY s.g ORDER BY g",
            vec!["x | 10 | 1", "y | 50 | 3"],
        ),
        (
            "SELECT a.k, b.s.f FROM t.n a JOIN t.n b ON a.s.f = b.s.f AND a.s.g = b.s.g WHERE b.s.f > 10 ORDER BY a.k",
            vec!["2 | 20", "3 | 30"],
        ),
        (
            "SELECT a.k AS k, b.f AS f FROM t.n a LEFT JOIN (SELECT k AS k, s.f AS f FROM t.n WHERE s.f < 15) b ON a.k = b.k ORDER BY 1",
            vec!["1 | 10", "2 | null", "3 | null"],
        ),
        (
            "SELECT k, row_number() OVER (PARTITION BY s.g ORDER BY s.f DESC) AS n FROM t.n ORDER BY k",
            vec!["1 | 1", "2 | 2", "3 | 1"],
        ),
        (
            "WITH a AS (SELECT k, s FROM t.n), b AS (SELECT k AS k, s.g AS g, s FROM a) SELECT k, g, s.f AS f FROM b WHERE s.f = 20",
            vec!["2 | y | 20"],
        ),
        (
            "SELECT k, s.f FROM t.n UNION ALL SELECT k AS k, s.f AS f FROM t.n WHERE s.g = 'x' ORDER BY 1, 2",
            vec!["1 | 10", "1 | 10", "2 | 20", "3 | 30"],
        ),
        (
            "SELECT transform(array(k, 2), x -> x + s.f) AS v FROM t.n WHERE exists(array(k), x -> x = 3)",
            vec!["[33, 32]"],
        ),
        ("SELECT k FROM t.n o WHERE s.f > (SELECT avg(s.f) FROM t.n)", vec!["3"]),
        (
            "SELECT k FROM t.n o WHERE EXISTS (SELECT 1 FROM t.n i WHERE i.s.g = 'y' AND i.k = o.k) ORDER BY k",
            vec!["2", "3"],
        ),
        ("SELECT DISTINCT s.g FROM t.n ORDER BY g", vec!["x", "y"]),
        ("SELECT k AS k, s AS s, s.f AS f FROM t.n ORDER BY f LIMIT 1", vec!["1 | {f: 10, g: x} | 10"]),
    ] {
        assert_eq!(query(&state, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn planning_can_be_spawned() {
    let state = Arc::new(lake());
    let task = tokio::spawn(async move {
        plan_select(&state, &parse_select("SELECT title FROM t.movies", "").unwrap()).await.map(|_| ())
    });
    task.await.unwrap().unwrap();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Any heap of words is an expression or an error.
    #[test]
    fn nothing_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "size_mb", "books", "metadata", ".", "name", "(", ")", ",", "[", "]", "0", "-1", "'x'", "+", "/", "->", "x", "lower", "transform",
        "CAST", "AS", "int", "timestamp", "INTERVAL", "days", "1", "CASE", "WHEN", "THEN", "END", "*", "IF", "to_timestamp", "date_trunc",
        "round", "labels", "aggregate", "`", "struct", "IS", "NULL", "AND", "IN", "BETWEEN", "array", "map", "year", "::", "{", "}", ":",
    ]), 0..12)) {
        let state = plain("UTC");
        let text = words.join(" ");
        let batch = records();
        if let Ok((exprs, _)) = plan_columns(&state, &batch.schema(), std::slice::from_ref(&text), Some(&text)) {
            let table = datafusion::datasource::MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            let scan = LogicalPlanBuilder::scan("raw", provider_as_source(Arc::new(table)), None).unwrap();
            let _ = scan.project(exprs).and_then(|plan| state.optimize(&plan.build()?));
        }
        let _ = parse_select(&text, "");
        let _ = parse_select(&format!("SELECT {text} FROM t.x"), "").and_then(|statement| crate::sql::tables_read(&statement));
    }
}
