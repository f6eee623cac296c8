use std::collections::BTreeSet;

use crate::sql::testing::{check, failure, plain, query, run, session};

/// Area, name, arguments, example, difference: see `trireme sql --functions`.
const LIST: &str = include_str!("../../../../proto/src/functions.tsv");

#[tokio::test]
async fn json_is_read_and_written_as_in_spark() {
    check(
        "UTC",
        &[
            ("get_json_object(«'{\"a\":{\"b\":[7,8.50]}}'», '$.a.b[1]')", "8.5 string"),
            ("get_json_object(«'{\"a\":[{\"b\":1},{\"b\":2}]}'», '$.a[*].b')", "[1,2] string"),
            ("get_json_object(«'{\"a\":1'», '$.a')", "null string"),
            ("from_json(«'{\"a\":1,\"b\":\"x\"}'», 'a INT, b STRING')", "{a: 1, b: x} struct<a:int,b:string>"),
            ("from_json(«'{\"a\":\"x\",\"b\":2}'», 'a INT, b INT')", "{a: null, b: 2} struct<a:int,b:int>"),
            ("from_json(«'{\"a\":1.0}'», 'a INT').a", "null int"),
            ("from_json(«'no'», 'a INT')", "{a: null} struct<a:int>"),
            ("from_json(«'  '», 'a INT')", "null struct<a:int>"),
            ("from_json(«'[1,\"x\"]'», 'array<int>')", "null array<int>"),
            ("from_json(«'{\"k\":1}'», 'map<string,int>')['k']", "1 int"),
            ("from_json(«'{\"d\":1.005}'», 'd decimal(10,2)').d", "1.01 decimal(10,2)"),
            ("from_json(«'{\"t\":\"05/01/2024\"}'», 't date', map('dateFormat', 'dd/MM/yyyy')).t", "2024-01-05 date"),
            ("from_json(«'{\"a\":7}'», schema_of_json('{\"a\":1}')).a", "7 bigint"),
            (
                "to_json(named_struct('a', «1», 'b', CAST(NULL AS string), 'c', array(1, NULL)))",
                "{\"a\":1,\"c\":[1,null]} string",
            ),
            ("to_json(map('k', «2.50e0»))", "{\"k\":2.5} string"),
            ("schema_of_json('{\"b\":[1,2.5],\"a\":null}')", "STRUCT<a: STRING, b: ARRAY<DOUBLE>> string"),
            ("json_array_length(«'[1,{}]'»)", "2 int"),
            ("json_object_keys(«'{\"b\":1,\"a\":2}'»)", "[b, a] array<string>"),
            ("from_csv(«'1,\"x,y\"'», 'a INT, b STRING')", "{a: 1, b: x,y} struct<a:int,b:string>"),
            ("to_csv(named_struct('a', «1», 'b', 'x,y'))", "1,\"x,y\" string"),
        ],
    )
    .await;
    assert_eq!(
        query(&plain("UTC"), "SELECT json_tuple('{\"a\":1,\"b\":\"x\"}', 'a', 'b', 'c')").await,
        ["1 | x | null"]
    );
    let error = failure(&plain("UTC"), "SELECT from_json('no', 'a INT', map('mode', 'FAILFAST'))").await;
    assert!(error.message.contains("FAILFAST"), "{error}");
}

#[tokio::test]
async fn hashes_are_sparks() {
    check(
        "UTC",
        &[
            ("hash(«'Spark'», array(123), 2)", "-1321691492 int"),
            ("xxhash64(«'Spark'», array(123), 2)", "5602566077635097486 bigint"),
            ("hash(«CAST(NULL AS string)»)", "42 int"),
            ("hash(«0.0e0») = hash(-0.0e0)", "true boolean"),
        ],
    )
    .await;
}

#[tokio::test]
async fn times_are_counted_as_in_spark() {
    check(
        "UTC",
        &[
            ("months_between(«'2024-03-31'», '2024-02-29')", "1.0 double"),
            ("make_date(«2023», 2, 29)", "null date"),
            ("make_timestamp(«2024», 1, 5, 10, 11, 60)", "2024-01-05T10:12:00Z timestamp"),
            ("timestampadd(MONTH, 1, «TIMESTAMP'2024-01-31 10:00:00'»)", "2024-02-29T10:00:00Z timestamp"),
            ("datediff(MONTH, «DATE'2024-01-31'», DATE'2024-02-29')", "0 bigint"),
            ("date_diff(«DATE'2024-01-31'», DATE'2024-01-01')", "30 int"),
            (
                "convert_timezone('Europe/Paris', 'America/New_York', «'2024-07-01 12:00:00'»)",
                "2024-07-01T06:00:00 timestamp_ntz",
            ),
            ("from_utc_timestamp(«'2024-07-01 12:00:00'», 'PST')", "2024-07-01T05:00:00Z timestamp"),
            ("date_part('SECOND', «TIMESTAMP'2024-01-05 10:11:12.5'»)", "12.500000 decimal(8,6)"),
            ("second(«TIMESTAMP'2024-01-05 10:11:12.5'»)", "12 int"),
            ("window(«TIMESTAMP'2024-01-01 00:07:00'», '5 minutes').start", "2024-01-01T00:05:00Z timestamp"),
            ("size(sequence(«DATE'2024-01-31'», DATE'2024-04-30', INTERVAL 1 MONTH))", "4 int"),
            ("sequence(«5», 1, -2)", "[5, 3, 1] array<int>"),
        ],
    )
    .await;
    let state = plain("UTC");
    let rows = "(VALUES (TIMESTAMP'2024-01-01 00:01:00'), (TIMESTAMP'2024-01-01 00:09:00'), (NULL)) AS t(ts)";
    let tumbling =
        format!("SELECT window.start, count(*) AS n FROM {rows} GROUP BY window(ts, '5 minutes') ORDER BY start");
    assert_eq!(query(&state, &tumbling).await, ["2024-01-01T00:00:00Z | 1", "2024-01-01T00:05:00Z | 1"]);
    let sliding = format!(
        "SELECT window.end, count(*) AS n FROM {rows} GROUP BY window(ts, '10 minutes', '5 minutes') ORDER BY 1"
    );
    assert_eq!(
        query(&state, &sliding).await,
        ["2024-01-01T00:05:00Z | 1", "2024-01-01T00:10:00Z | 2", "2024-01-01T00:15:00Z | 1"]
    );
}

#[tokio::test]
async fn lambdas_of_maps_and_pairs_are_sparks() {
    check(
        "UTC",
        &[
            ("transform_keys(map('a', 1), (k, v) -> concat(k, v))", "{a1: 1} map<string,int>"),
            ("transform_values(map('a', «1»), (k, v) -> v + 1)", "{a: 2} map<string,int>"),
            ("map_filter(map('a', «1», 'b', NULL), (k, v) -> v > 0)", "{a: 1} map<string,int>"),
            ("map_zip_with(map('a', «1»), map('b', 2), (k, x, y) -> coalesce(x, y))", "{a: 1, b: 2} map<string,int>"),
            ("zip_with(array(«1», 2), array(10), (x, y) -> x + y)", "[11, null] array<int>"),
            ("filter(array(«5», 6, 7), (x, i) -> i % 2 = 0)", "[5, 7] array<int>"),
            ("array_sort(array(2, 3, 1), (a, b) -> b - a)", "[3, 2, 1] array<int>"),
        ],
    )
    .await;
    let error = failure(&plain("UTC"), "SELECT transform_keys(map('a', 1, 'b', 2), (k, v) -> 'x')").await;
    assert!(error.message.contains("there twice"), "{error}");
}

#[tokio::test]
async fn arrays_know_nulls_and_nan() {
    check(
        "UTC",
        &[
            ("arrays_overlap(array(«1», NULL), array(2))", "null boolean"),
            ("arrays_overlap(array(«1», NULL), array(1))", "true boolean"),
            ("array_union(array(«1», NULL), array(NULL, 2))", "[1, null, 2] array<int>"),
            ("array_distinct(array(«double('NaN')», double('NaN'), 0.0e0, -0.0e0))", "[NaN, 0.0] array<double>"),
            ("array_max(array(«1.0e0», double('NaN'), NULL))", "NaN double"),
            ("array_append(«CAST(NULL AS array<int>)», 1)", "null array<int>"),
            ("array_prepend(array(«2»), 1)", "[1, 2] array<int>"),
            ("array_insert(array(«1», 2), -1, 3)", "[1, 2, 3] array<int>"),
            ("array_insert(array(«1»), 3, 3)", "[1, null, 3] array<int>"),
            ("slice(array(«1», 2, 3), -5, 2)", "[] array<int>"),
            ("flatten(array(array(«1»), NULL))", "null array<int>"),
            ("element_at(array(«1»), 5)", "null int"),
            ("try_element_at(map('a', «1»), 'b')", "null int"),
            ("map_concat(map('a', «1»), map('b', 2))", "{a: 1, b: 2} map<string,int>"),
            ("map_contains_key(map('a', «1»), 'b')", "false boolean"),
        ],
    )
    .await;
}

#[tokio::test]
async fn numbers_have_sparks_formats() {
    check(
        "UTC",
        &[
            ("format_number(«1234567.891e0», 2)", "1,234,567.89 string"),
            ("format_number(«0.125e0», 2)", "0.12 string"),
            ("to_number(«'12,454.8-'», '99,999.9S')", "-12454.8 decimal(6,1)"),
            ("try_to_number(«'x'», '999')", "null decimal(3,0)"),
            ("conv(«'ff'», 16, 10)", "255 string"),
            ("try_add(«2147483647», 1)", "null int"),
            ("try_divide(«1», 0)", "null double"),
            ("shiftrightunsigned(«-8», 1)", "2147483644 int"),
            ("bit_count(«-1»)", "64 int"),
            ("width_bucket(«5.3e0», 0.2e0, 10.6e0, 5)", "3 bigint"),
            ("mask(«'Ab1-é'», 'X', 'x', 'n', 'o')", "Xxnox string"),
            ("levenshtein(«'kitten'», 'sitting', 2)", "-1 int"),
            ("locate('b', «'abcb'», 3)", "4 int"),
            ("ltrim('x', «'xxa'»)", "a string"),
            ("hex(encode(«'é'», 'ISO-8859-1'))", "E9 string"),
            ("decode(«2», 1, 'one', 2, 'two')", "two string"),
            ("decode(«2», 1, 'one', 2, «5»)", "5 string"),
            ("concat(array(«1»), array(«'a'»))", "[1, a] array<string>"),
            ("levenshtein(«'kitten'», 'sitting', «CAST(NULL AS int)»)", "-1 int"),
            ("regexp_substr(«'abc'», 'x*')", "null string"),
            ("regexp_extract(«'abc'», 'x', 1)", " string"),
            ("split(«'abc'», '', 2)", "[a, b] array<string>"),
            ("to_char(«-12», '99')", "12 string"),
            ("to_csv(named_struct('a', «CAST(NULL AS int)»))", "null string"),
            ("chr(«'a,b'»)", "null string"),
            ("chr(«65.7e0»)", "A string"),
            ("regexp_count(«'a1b22'», '\\\\d+')", "2 int"),
            ("«'é'» RLIKE '^\\\\w$'", "false boolean"),
            ("typeof(array(«1»))", "array<int> string"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    for (sql, word) in [
        ("SELECT xpath('<a/>', 'a')", "XML"),
        ("SELECT rand(5)", "seed"),
        ("SELECT 'a' RLIKE '(?=a)'", "look-ahead"),
        ("SELECT from_json('{}', 'a INT', map('nonsense', 'x'))", "nonsense"),
        ("SELECT raise_error('so it is')", "so it is"),
        ("SELECT nosuchthing(1)", "nosuchthing"),
    ] {
        let error = failure(&plain("UTC"), sql).await;
        assert!(format!("{} {}", error.message, error.hint).contains(word), "{sql}: {error}");
    }
}

#[tokio::test]
async fn numbers_of_rows_rise() {
    let rows = "(VALUES ('a'), ('b'), ('c')) AS t(x)";
    let numbers = query(&plain("UTC"), &format!("SELECT monotonically_increasing_id() AS n FROM {rows}")).await;
    assert_eq!(numbers, ["0", "1", "2"]);
}

/// Functions of the list that other branches bring.
const COMING: [&str; 17] = [
    "bround",
    "grouping",
    "grouping_id",
    "histogram_numeric",
    "kurtosis",
    "mode",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "skewness",
    "try_avg",
];

/// The names of Spark 3.5's functions, without those that are operators or words of the grammar.
const SPARK: &str = "\
abs acos acosh add_months aes_decrypt aes_encrypt aggregate any any_value approx_count_distinct approx_percentile array array_agg \
array_append array_compact array_contains array_distinct array_except array_insert array_intersect array_join array_max array_min \
array_position array_prepend array_remove array_repeat array_size array_sort array_union arrays_overlap arrays_zip ascii asin asinh \
assert_true atan atan2 atanh avg base64 bigint bin binary bit_and bit_count bit_get bit_length bit_or bit_xor bitmap_bit_position \
bitmap_bucket_number bitmap_construct_agg bitmap_count bitmap_or_agg bool_and bool_or boolean bround btrim cardinality cbrt ceil \
ceiling char char_length character_length chr coalesce collect_list collect_set concat concat_ws contains conv convert_timezone corr \
cos cosh cot count count_if count_min_sketch covar_pop covar_samp crc32 csc cume_dist curdate current_catalog current_database \
current_date current_schema current_timestamp current_timezone current_user date date_add date_diff date_format date_from_unix_date \
date_part date_sub date_trunc dateadd datediff datepart day dayofmonth dayofweek dayofyear decimal decode degrees dense_rank double e \
element_at elt encode endswith equal_null every exists exp explode explode_outer expm1 factorial filter find_in_set first first_value \
flatten float floor forall format_number format_string from_csv from_json from_unixtime from_utc_timestamp get get_json_object getbit \
greatest grouping grouping_id hash hex histogram_numeric hll_sketch_agg hll_sketch_estimate hll_union hll_union_agg hour hypot if \
ifnull initcap inline inline_outer input_file_block_length input_file_block_start input_file_name instr int isnan isnotnull isnull \
java_method json_array_length json_object_keys json_tuple kurtosis lag last last_day last_value lcase lead least left len length \
levenshtein ln localtimestamp locate log log10 log1p log2 lower lpad ltrim luhn_check make_date make_dt_interval make_interval \
make_timestamp make_timestamp_ltz make_timestamp_ntz make_ym_interval map map_concat map_contains_key map_entries map_filter \
map_from_arrays map_from_entries map_keys map_values map_zip_with mask max max_by md5 mean median min min_by minute mod mode \
monotonically_increasing_id month months_between named_struct nanvl negative next_day now nth_value ntile nullif nvl nvl2 octet_length \
overlay parse_url percent_rank percentile percentile_approx pi pmod posexplode posexplode_outer position positive pow power printf \
quarter radians raise_error rand randn random rank reduce reflect regexp regexp_count regexp_extract regexp_extract_all regexp_instr \
regexp_like regexp_replace regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy \
repeat replace reverse right rint rlike round row_number rpad rtrim schema_of_csv schema_of_json sec second sentences sequence \
session_window sha sha1 sha2 shiftleft shiftright shiftrightunsigned shuffle sign signum sin sinh size skewness slice smallint some \
sort_array soundex space spark_partition_id split split_part sql_keywords sqrt stack startswith std stddev stddev_pop stddev_samp \
str_to_map string struct substr substring substring_index sum tan tanh timestamp timestamp_micros timestamp_millis timestamp_seconds \
tinyint to_binary to_char to_csv to_date to_json to_number to_timestamp to_timestamp_ltz to_timestamp_ntz to_unix_timestamp \
to_utc_timestamp to_varchar transform transform_keys transform_values translate trim trunc try_add try_aes_decrypt try_avg try_divide \
try_element_at try_multiply try_subtract try_sum try_to_binary try_to_number try_to_timestamp typeof ucase unbase64 unhex unix_date \
unix_micros unix_millis unix_seconds unix_timestamp upper url_decode url_encode user uuid var_pop var_samp variance version weekday \
weekofyear width_bucket window window_time xpath xpath_boolean xpath_double xpath_float xpath_int xpath_long xpath_number xpath_short \
xpath_string xxhash64 year zip_with";

#[tokio::test]
async fn every_example_of_the_list_runs() {
    let column = std::sync::Arc::new(arrow::array::Int32Array::from(vec![1, 2, 3]));
    let state = session("UTC", vec![("x", crate::sql::testing::batch(vec![("c", column)]))]);
    let mut wrong = Vec::new();
    for line in LIST.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        let [area, name, _, example, _] = parts.as_slice() else { panic!("{line}") };
        let from = if matches!(*area, "aggregates" | "windows") { " FROM t.x" } else { "" };
        let several = *area == "rows" || *name == "json_tuple";
        let sql = match example.strip_prefix("SELECT ") {
            Some(_) => example.to_string(),
            None => format!("SELECT {example}{}{from}", if several { "" } else { " AS v" }),
        };
        if let Err(error) = run(&state, &sql).await
            && !COMING.contains(name)
        {
            wrong.push(format!("{sql}: {} {}", error.message, error.hint));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_of_sparks_functions_is_listed_or_refused_by_name() {
    let listed: BTreeSet<&str> = LIST.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    let missing: Vec<&str> = SPARK
        .split_whitespace()
        .filter(|name| !listed.contains(name) && crate::sql::functions::refused::reason(name).is_none())
        .collect();
    assert!(missing.is_empty(), "neither listed nor refused: {missing:?}");
}
