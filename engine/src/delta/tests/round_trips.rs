//! Rows in, rows out: types, statistics, file skipping, partitions, limits.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
        Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    },
    compute::{concat, kernels::cmp},
    datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type},
};
use datafusion::{
    common::ScalarValue,
    execution::runtime_env::RuntimeEnvBuilder,
    physical_plan::displayable,
    prelude::{Expr, SessionConfig, SessionContext, col, lit},
};
use deltalake_core::protocol::SaveMode;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::{
    basic::{Compression, Encoding},
    file::metadata::ParquetMetaDataReader,
};
use proptest::{collection::vec, prelude::*, test_runner::Config};

use super::{Lake, name, render, text};
use crate::{
    delta::{
        CommitLabel, DeltaTableScan, SchemaPolicy, Table, WriteSettings, WriteSpec, catalog, scan::FILE_COLUMN, schema,
        write::KEEP_COLUMN,
    },
    error::Code,
    plan::TaskScope,
};

fn one(name: &str, column: impl arrow::array::Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([(name, Arc::new(column) as ArrayRef, true)]).unwrap()
}

async fn files_on_disk(lake: &Lake) -> Vec<String> {
    let all: Vec<_> = lake.storage.store().list(Some(&lake.storage.path("tables"))).try_collect().await.unwrap();
    all.into_iter().map(|meta| meta.location.to_string()).filter(|path| !path.contains("_delta_log")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back() {
    let lake = Lake::new();
    let titles = StructArray::from(vec![
        (
            Arc::new(Field::new("title", DataType::Utf8View, true)),
            Arc::new(StringViewArray::from(vec![Some("T"), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("pages", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef,
        ),
    ]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![])]);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("s", Arc::new(StringViewArray::from(vec![Some("ä"), None])) as ArrayRef, true),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None])) as ArrayRef, true),
        ("n", Arc::new(arrow::array::UInt64Array::from(vec![Some(7), None])) as ArrayRef, true),
        (
            "d",
            Arc::new(Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(20, 3).unwrap())
                as ArrayRef,
            true,
        ),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None])) as ArrayRef, true),
        ("day", Arc::new(Date32Array::from(vec![Some(-1), None])) as ArrayRef, true),
        ("raw", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), None])) as ArrayRef, true),
        ("book", Arc::new(titles) as ArrayRef, true),
        ("list", Arc::new(lists) as ArrayRef, true),
    ])
    .unwrap();
    let table = name("t.types");
    lake.overwrite(&table, vec![batch], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    assert_eq!(
        lake.rows(&table).await,
        [
            "NULL|NULL|NULL|NULL|NULL|NULL|NULL|{title: NULL, pages: NULL}|[]",
            "ä|true|7|12.345|2023-11-14T22:13:20.123456|1969-12-31|00ff|{title: T, pages: 1}|[1, NULL]",
        ]
    );
    assert_eq!(render(&lake.sql("SELECT book.pages FROM t.types WHERE book.title = 'T'").await.unwrap()), ["1"]);
    let add = catalog::open(&lake.storage, &table).await.unwrap().files().unwrap().adds()[0].clone();
    let stats: serde_json::Value = serde_json::from_str(add.stats.as_ref().unwrap()).unwrap();
    assert_eq!(stats["numRecords"], 2);
    // Without a zone, as the protocol has it for `timestamp_ntz`.
    assert_eq!(stats["minValues"]["at"], "2023-11-14T22:13:20.123");
    assert_eq!(stats["maxValues"]["at"], "2023-11-14T22:13:20.124");
    assert_eq!(stats["minValues"]["book"]["title"], "T");
    assert_eq!(stats["nullCount"]["book"]["pages"], 1);
    assert_eq!(stats["maxValues"]["d"], 12.345);
    assert_eq!(stats["minValues"]["day"], "1969-12-31");
    assert!(stats["minValues"].get("list").is_none() && stats["minValues"].get("raw").is_none());
}

/// Values whose bounds the log holds cut, rounded or widened.
fn columns() -> impl Strategy<Value = Vec<ArrayRef>> {
    let column = prop_oneof![
        vec(prop::option::of("[a-b\u{e4}\u{7fff}\u{10ffff}]{60,70}"), 1..6)
            .prop_map(|values| Arc::new(StringArray::from(values)) as ArrayRef),
        vec(prop::option::of(-3_000_000_000i64..3_000_000_000), 1..6)
            .prop_map(|values| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef),
        vec(prop::option::of(-10i128.pow(37)..10i128.pow(37)), 1..6).prop_map(|values| Arc::new(
            Decimal128Array::from(values).with_precision_and_scale(38, 10).unwrap()
        ) as ArrayRef),
        vec(prop::option::of(-99_999i128..99_999), 1..6).prop_map(|values| Arc::new(
            Decimal128Array::from(values).with_precision_and_scale(5, 2).unwrap()
        ) as ArrayRef),
        vec(prop::option::of(any::<f64>()), 1..6).prop_map(|values| Arc::new(Float64Array::from(values)) as ArrayRef),
        vec(prop::option::of(any::<f32>()), 1..6).prop_map(|values| Arc::new(Float32Array::from(values)) as ArrayRef),
        vec(prop::option::of(any::<i64>()), 1..6).prop_map(|values| Arc::new(Int64Array::from(values)) as ArrayRef),
        vec(prop::option::of(-5_000_000..3_000_000), 1..6)
            .prop_map(|values| Arc::new(Date32Array::from(values)) as ArrayRef),
    ];
    // Files of one column; cut the generated one so that they share its type.
    column.prop_map(|all| (0..all.len()).map(|row| all.slice(row, 1)).collect())
}

/// The same with one zero: to SQL -0.0 equals 0.0, to Arrow it does not.
fn one_zero(array: &ArrayRef) -> ArrayRef {
    if let Some(floats) = array.as_primitive_opt::<Float32Type>() {
        return Arc::new(floats.unary::<_, Float32Type>(|value| value + 0.0));
    }
    match array.as_primitive_opt::<Float64Type>() {
        Some(floats) => Arc::new(floats.unary::<_, Float64Type>(|value| value + 0.0)),
        None => array.clone(),
    }
}

proptest! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    #[test]
    fn no_row_is_lost_by_skipping_files(files in columns()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let lake = Lake::new();
            let table = name("t.skip");
            let batches: Vec<_> = files.iter()
                .map(|file| RecordBatch::try_from_iter_with_nullable([("c", file.clone(), true)]).unwrap()).collect();
            lake.overwrite(&table, batches, SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
            let table = catalog::open(&lake.storage, &table).await.unwrap();
            let scan = Arc::new(DeltaTableScan::of_table(&table).unwrap());
            let stored = concat(&files.iter().map(|file| file.as_ref()).collect::<Vec<_>>()).unwrap();
            let all = one_zero(&stored);
            for row in 0..all.len() {
                let value = ScalarValue::try_from_array(&stored, row).unwrap();
                if value.is_null() {
                    continue;
                }
                let scalar = ScalarValue::try_from_array(&all, row).unwrap().to_scalar().unwrap();
                let checks: [(Expr, BooleanArray); 3] = [
                    (col("c").eq(lit(value.clone())), cmp::eq(&all, &scalar).unwrap()),
                    (col("c").lt_eq(lit(value.clone())), cmp::lt_eq(&all, &scalar).unwrap()),
                    (col("c").gt_eq(lit(value.clone())), cmp::gt_eq(&all, &scalar).unwrap()),
                ];
                for (filter, expected) in checks {
                    let found = lake.session.read_table(scan.clone()).unwrap().filter(filter.clone()).unwrap();
                    assert_eq!(found.count().await.unwrap(), expected.true_count(), "{filter}");
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_match_are_not_in_the_plan() {
    let lake = Lake::new();
    let table = name("t.ranges");
    let batches = (0..5).map(|i| one("k", Int64Array::from(vec![i * 10, i * 10 + 9]))).collect();
    lake.overwrite(&table, batches, SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let names = BTreeSet::from([table]);
    catalog::register(&lake.session, &lake.storage, &names).await.unwrap();
    let files = async |sql: &str| {
        let plan = lake.session.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        // A file split in ranges counts once.
        text.split(['[', ',', ' ', ']', ':'])
            .filter(|word| word.ends_with(".parquet"))
            .map(str::to_string)
            .collect::<BTreeSet<_>>()
            .len()
    };
    assert_eq!(files("SELECT k FROM t.ranges").await, 5);
    assert_eq!(files("SELECT k FROM t.ranges WHERE k = 25").await, 1);
    assert_eq!(files("SELECT k FROM t.ranges WHERE k BETWEEN 9 AND 10").await, 2);
    assert_eq!(files("SELECT k FROM t.ranges WHERE k > 1000").await, 0);
    assert_eq!(render(&lake.sql("SELECT k FROM t.ranges WHERE k > 1000").await.unwrap()), Vec::<String>::new());
    assert_eq!(
        render(&lake.sql("SELECT count(*), min(k), max(k) FROM t.ranges WHERE k >= 40").await.unwrap()),
        ["2|40|49"]
    );
    assert_eq!(render(&lake.sql("SELECT count(*), count(k), max(k) FROM t.ranges").await.unwrap()), ["10|10|49"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables_of_others_are_read() {
    let lake = Lake::new();
    let table = name("t.parted");
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("p", Arc::new(StringArray::from(vec![Some("a b/c%20=ä"), None, Some("x")])) as ArrayRef, true),
        ("v", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef, true),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(1), None])) as ArrayRef, true),
    ])
    .unwrap();
    let schema = schema::to_delta(&rows.schema()).unwrap();
    let url = lake.storage.table_url(&table).unwrap();
    std::fs::create_dir_all(url.to_file_path().unwrap()).unwrap();
    let created = deltalake_core::DeltaTable::try_from_url(url).await.unwrap().create();
    let created = created.with_columns(schema.fields().cloned()).with_partition_columns(["p", "day"]).await.unwrap();
    created.write(vec![rows]).with_save_mode(SaveMode::Append).await.unwrap();
    // Columns come in the table's order, though the files hold one of them only.
    assert_eq!(lake.rows(&table).await, ["NULL|2|1970-01-02", "a b/c%20=ä|1|1970-01-01", "x|3|NULL"]);
    assert_eq!(render(&lake.sql("SELECT v FROM t.parted WHERE day = DATE '1970-01-02'").await.unwrap()), ["2"]);
    assert_eq!(
        render(&lake.sql("SELECT v, p FROM t.parted WHERE p = 'a b/c%20=ä' OR day IS NULL").await.unwrap()),
        ["1|a b/c%20=ä", "3|x"]
    );
    let scan = DeltaTableScan::of_table(&Table::require(&lake.storage, &table).await.unwrap()).unwrap();
    let numbered = lake.session.read_table(Arc::new(scan.with_file_column())).unwrap();
    let numbers = render(&numbered.select_columns(&[FILE_COLUMN, "v"]).unwrap().collect().await.unwrap());
    let files: BTreeSet<_> = numbers.iter().map(|row| row.split('|').next().unwrap().to_string()).collect();
    assert_eq!(files, BTreeSet::from(["0".to_string(), "1".to_string(), "2".to_string()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_write_becomes_files_of_the_target_size_within_its_memory() {
    let mut lake = Lake::new();
    let memory = RuntimeEnvBuilder::new().with_memory_limit(6 * 1024 * 1024, 1.0).build_arc().unwrap();
    lake.session = SessionContext::new_with_config_rt(SessionConfig::new(), memory);
    lake.settings = WriteSettings { target_file_bytes: 300_000, row_group_rows: 4_000, ..WriteSettings::default() };
    let table = name("t.large");
    let part = |part: i64| {
        let keys = Int64Array::from_iter_values((0..100_000).map(|k| (k * 0x9E37_79B9) ^ part));
        let fractions = Float64Array::from_iter_values((0..100_000).map(|k| f64::from(k * 7919 % 100_003).sqrt()));
        let columns = [("k", Arc::new(keys) as ArrayRef, true), ("f", Arc::new(fractions), true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let columns = schema::to_delta(&part(0).schema()).unwrap();
    let written = lake.write(lake.spec(&table, &columns, &["k".to_string()]), vec![part(0), part(1)]).await.unwrap();
    assert_eq!((written.summary.rows_written, written.partitions), (200_000, 2));
    assert!(written.files.len() >= 4, "{}", written.files.len());
    // One batch is as fine as a file can be cut.
    assert!(written.files.iter().all(|add| add.size < 1_300_000), "{:?}", written.files);
    let names: BTreeSet<_> = written.files.iter().map(|add| add.path.as_str()).collect();
    assert_eq!(names.len(), written.files.len());
    let on_disk = files_on_disk(&lake).await;
    assert_eq!(on_disk.len(), written.files.len());
    for path in on_disk {
        let file = lake.storage.store().get(&path.as_str().into()).await.unwrap().bytes().await.unwrap();
        let footer = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        for stored in footer.row_groups().iter().flat_map(|group| group.columns()) {
            let name = stored.column_path().string();
            assert!(matches!(stored.compression(), Compression::ZSTD(_)), "{name}: {:?}", stored.compression());
            let packed = stored.encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED);
            assert_eq!(
                packed,
                name == "k" && footer.file_metadata().num_rows() > 8000,
                "{name}: {:?}",
                stored.encodings().collect::<Vec<_>>()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_dropped_and_null_keys_are_counted_with_an_example() {
    let lake = Lake::new();
    let table = name("t.keys");
    let batch = |keep: Vec<Option<bool>>, keys: Vec<Option<&str>>| {
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from_iter_values(0..keys.len() as i64)) as ArrayRef, true),
            ("k", Arc::new(StringArray::from(keys)) as ArrayRef, true),
            (KEEP_COLUMN, Arc::new(BooleanArray::from(keep)) as ArrayRef, true),
        ])
        .unwrap()
    };
    let first = batch(vec![Some(true), Some(false), None], vec![Some("a"), None, Some("b")]);
    let second = batch(vec![Some(true), Some(true), Some(true)], vec![Some("c"), None, None]);
    let schema = schema::to_delta(&first.project(&[0, 1]).unwrap().schema()).unwrap();
    let spec = WriteSpec::new(&lake.storage, &table, &schema, &["k".to_string()]);
    let written = lake.write(spec.clone(), vec![first.clone(), second]).await.unwrap();
    let counts = &written.summary;
    assert_eq!((counts.rows_in, counts.rows_dropped, counts.rows_written, counts.null_keys), (6, 2, 4, 2));
    let error = written.check_keys(&table).unwrap_err();
    assert_eq!(error.code, Code::NullKey);
    assert!(text(&error).contains("2 rows have no value") && text(&error).contains("{n: 1, k: NULL}"), "{error}");
    assert!(error.hint.contains("k IS NOT NULL"), "{error}");

    let empty = lake.write(spec, vec![first.slice(1, 1)]).await.unwrap();
    assert_eq!((empty.files.len(), empty.partitions, empty.summary.rows_dropped), (0, 1, 1));
    empty.check_keys(&table).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_and_unfit_keys_are_errors_that_say_which() {
    let lake = Lake::new();
    let table = name("t.twice");
    let label = CommitLabel::default();
    lake.overwrite(&table, vec![one("k", Int64Array::from(vec![1]))], SchemaPolicy::Same, &label).await.unwrap();
    let twice = |keys: std::ops::Range<i64>| one("k", Int64Array::from_iter_values(keys));
    let error = lake
        .merge(&table, vec![twice(0..8), twice(2..9), twice(7..8)], &["k"], SchemaPolicy::Same, &label)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::DuplicateKey);
    assert!(
        error.message.starts_with("6 value(s)")
            && error.message.contains("(2) 2 times")
            && error.message.ends_with(", …"),
        "{error}"
    );
    assert!(!error.message.contains("(7)"), "{error}");
    assert_eq!(lake.rows(&table).await, ["1"]);
    let floats = name("t.floats");
    lake.overwrite(&floats, vec![one("k", Float64Array::from(vec![1.0]))], SchemaPolicy::Same, &label).await.unwrap();
    let error = lake
        .merge(&floats, vec![one("k", Float64Array::from(vec![1.0]))], &["k"], SchemaPolicy::Same, &label)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidSpec);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_stopped_or_fails_leaves_no_file() {
    let mut lake = Lake::new();
    lake.settings = WriteSettings { target_file_bytes: 1, ..WriteSettings::default() };
    let table = name("t.stopped");
    let rows = one("k", StringArray::from(vec!["1", "2"]));
    let schema = schema::to_delta(&rows.schema()).unwrap();

    // The second batch of the partition does not fit the column's type, after a file was complete.
    let integers = schema::to_delta(&one("k", Int64Array::from(vec![1])).schema()).unwrap();
    let bad = one("k", StringArray::from(vec!["x"]));
    let both = vec![vec![rows.clone(), bad]];
    let source = datafusion::datasource::MemTable::try_new(rows.schema(), both).unwrap();
    let input =
        datafusion::catalog::TableProvider::scan(&source, &lake.session.state(), None, &[], None).await.unwrap();
    let write =
        crate::delta::DeltaWriteExec::try_new(input.clone(), Arc::new(lake.spec(&table, &integers, &[]))).unwrap();
    let failed = datafusion::physical_plan::collect(Arc::new(write), lake.session.task_ctx()).await.unwrap_err();
    assert_eq!(crate::Error::from(failed).code, Code::BadValue);
    assert_eq!(files_on_disk(&lake).await, Vec::<String>::new());

    let scope = TaskScope::default();
    scope.cancel.cancel();
    let session = SessionContext::new_with_config(SessionConfig::new().with_extension(Arc::new(scope)));
    let write = crate::delta::DeltaWriteExec::try_new(input, Arc::new(lake.spec(&table, &schema, &[]))).unwrap();
    let cancelled = datafusion::physical_plan::collect(Arc::new(write), session.task_ctx()).await.unwrap_err();
    assert_eq!(crate::Error::from(cancelled).code, Code::Cancelled);
    assert_eq!(files_on_disk(&lake).await, Vec::<String>::new());
}
