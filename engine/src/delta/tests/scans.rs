//! Our scan over tables made by hand, as other engines make them: deletion vectors, column mapping, widened types, partition values.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Fields, Schema},
};
use object_store::{ObjectStoreExt, path::Path};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use proptest::prelude::*;
use roaring::RoaringTreemap;
use serde_json::{Value, json};

use super::{Lake, name, render};
use crate::{
    delta::{
        Table, catalog,
        deletion_vector::{self, VectorFile},
        feature,
    },
    error::{Code, Result},
};

const TABLE: &str = "made.t";

/// Log and files of a table.
struct Made {
    lake: Lake,
    folder: Path,
    lines: Vec<Value>,
}

impl Made {
    fn new(features: &[&str], configuration: Value, columns: Value, partitions: &[&str]) -> Self {
        let lake = Lake::new();
        let folder = lake.storage.table_path(&name(TABLE));
        let schema = json!({ "type": "struct", "fields": columns });
        let lines = vec![
            json!({ "protocol": { "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features } }),
            json!({ "metaData": { "id": "1c6f2a52-5d0c-4d0e-9b4c-3f1c2b7a9d10", "format": { "provider": "parquet", "options": {} },
                "schemaString": schema.to_string(), "partitionColumns": partitions, "configuration": configuration, "createdTime": 0 } }),
        ];
        Self { lake, folder, lines }
    }

    /// A file of five-row pages in row groups of `group` rows; `more` goes to its `add`.
    async fn add(&mut self, path: &str, batch: &RecordBatch, group: usize, more: Value) {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(group))
            .set_data_page_row_count_limit(5)
            .set_write_batch_size(5)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let mut add = json!({ "path": path, "partitionValues": {}, "size": bytes.len(), "modificationTime": 0, "dataChange": true,
            "stats": json!({ "numRecords": batch.num_rows() }).to_string() });
        add.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.lines.push(json!({ "add": add }));
        let stored = percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned();
        let path = Path::parse(format!("{}/{stored}", self.folder)).unwrap();
        self.lake.storage.store().put(&path, bytes.into()).await.unwrap();
    }

    async fn commit(&self) {
        let path = self.folder.clone().join("_delta_log").join("00000000000000000000.json");
        let text = self.lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        self.lake.storage.store().put(&path, text.into()).await.unwrap();
    }

    async fn sql(&self, sql: &str) -> Result<Vec<String>> {
        catalog::register(&self.lake.session, &self.lake.storage, &BTreeSet::from([name(TABLE)])).await?;
        Ok(render(&self.lake.sql(sql).await?))
    }
}

fn column(name: &str, data_type: impl Into<Value>, metadata: Value) -> Value {
    let data_type: Value = data_type.into();
    json!({ "name": name, "type": data_type, "nullable": true, "metadata": metadata })
}

fn mapped(name: &str, data_type: impl Into<Value>, id: i32, physical: &str) -> Value {
    column(name, data_type, json!({ "delta.columnMapping.id": id, "delta.columnMapping.physicalName": physical }))
}

fn numbers(rows: std::ops::Range<i64>) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(Int64Array::from_iter_values(rows.clone()))),
        ("v", Arc::new(StringArray::from_iter_values(rows.map(|k| format!("v{k}"))))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn check_deleted(deleted: &[BTreeSet<u16>], low: i64, width: i64) {
    let columns = json!([column("k", "long", json!({})), column("v", "string", json!({}))]);
    let mut made = Made::new(&["deletionVectors"], json!({}), columns, &[]);
    let mut file = VectorFile::default();
    let mut left = BTreeSet::new();
    for (index, gone) in deleted.iter().enumerate() {
        let first = index as i64 * 1000;
        let rows: RoaringTreemap = gone.iter().map(|row| u64::from(row % 137)).collect();
        left.extend((0..137).filter(|row| !rows.contains(*row as u64)).map(|row| first + row));
        let descriptor = if index % 2 == 0 { deletion_vector::inline(&rows) } else { file.push(&rows) };
        let more = if rows.is_empty() && index % 3 == 0 {
            json!({})
        } else {
            json!({ "deletionVector": serde_json::to_value(descriptor.unwrap()).unwrap() })
        };
        made.add(&format!("p{index}.parquet"), &numbers(first..first + 137), 20, more).await;
    }
    file.put(made.lake.storage.store().as_ref(), &made.folder).await.unwrap();
    made.commit().await;
    let high = low + width;
    let count = |rows: &BTreeSet<i64>| vec![rows.len().to_string()];
    assert_eq!(made.sql(&format!("SELECT count(*) FROM {TABLE}")).await.unwrap(), count(&left));
    let all: BTreeSet<String> = left.iter().map(|k| format!("{k}|v{k}")).collect();
    assert_eq!(made.sql(&format!("SELECT * FROM {TABLE}")).await.unwrap(), Vec::from_iter(all));
    let some = made.sql(&format!("SELECT k FROM {TABLE} LIMIT 9")).await.unwrap();
    assert_eq!(some.len(), left.len().min(9));
    assert!(some.iter().all(|k| left.contains(&k.parse().unwrap())), "{some:?}");
    let within: BTreeSet<i64> = left.range(low..=high).copied().collect();
    let sql = format!("SELECT count(v) FROM {TABLE} WHERE k BETWEEN {low} AND {high}");
    assert_eq!(made.sql(&sql).await.unwrap(), count(&within));
    let limited = made.sql(&format!("SELECT k FROM {TABLE} WHERE k >= {low} LIMIT 7")).await.unwrap();
    let wanted = left.range(low..).count().min(7);
    assert_eq!(limited.len(), wanted);
    assert!(limited.iter().all(|k| left.contains(&k.parse().unwrap())), "{limited:?}");
    let table = Table::require(&made.lake.storage, &name(TABLE)).await.unwrap();
    assert_eq!(table.files().unwrap().rows(), Some(left.len() as u64));
    feature::check_writable(&table, true).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn deleted_rows_are_gone_whatever_is_split_or_pruned(
        deleted in prop::collection::vec(prop::collection::btree_set(any::<u16>(), 0..120), 1..4),
        low in 0..2500i64, width in 0..1500i64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(check_deleted(&deleted, low, width));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_does_not_fit_its_file_is_an_error() {
    let columns = json!([column("k", "long", json!({})), column("v", "string", json!({}))]);
    let mut made = Made::new(&["deletionVectors"], json!({}), columns.clone(), &[]);
    let vector = deletion_vector::inline(&RoaringTreemap::from_iter([137])).unwrap();
    let more = json!({ "deletionVector": serde_json::to_value(&vector).unwrap() });
    made.add("p.parquet", &numbers(0..137), 20, more).await;
    made.commit().await;
    let error = made.sql(&format!("SELECT v FROM {TABLE}")).await.unwrap_err();
    assert!(error.code == Code::Storage && error.message.contains("removes row 137"), "{error}");
    let mut made = Made::new(&["deletionVectors"], json!({}), columns, &[]);
    let lost = VectorFile::default().push(&RoaringTreemap::from_iter([1])).unwrap();
    let more = json!({ "deletionVector": serde_json::to_value(&lost).unwrap() });
    made.add("p.parquet", &numbers(0..137), 20, more).await;
    made.commit().await;
    let error = made.sql(&format!("SELECT v FROM {TABLE}")).await.unwrap_err();
    assert!(error.code == Code::Storage && error.message.contains("deletion_vector_"), "{error}");
}

/// `physical` names and ids of: a, s{x, y}, l[{e}]; `a` was another column once, which is still in the file.
fn mapped_file(physical: [&str; 5], ids: bool) -> RecordBatch {
    let mut next = 0;
    let mut field = |name: &str, data_type: DataType| {
        next += 1;
        let id = HashMap::from([("PARQUET:field_id".to_string(), next.to_string())]);
        Arc::new(Field::new(name, data_type, true).with_metadata(if ids { id } else { HashMap::new() }))
    };
    let ints = |first: i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(first..first + 40)) };
    let a = field(physical[0], DataType::Int32);
    let s = field(physical[1], DataType::Null);
    let xy: Fields = vec![field(physical[2], DataType::Int32), field(physical[3], DataType::Int32)].into();
    let s = Arc::new(s.as_ref().clone().with_data_type(DataType::Struct(xy.clone())));
    let l = field("l-physical", DataType::Null);
    let e: Fields = vec![field(physical[4], DataType::Int32)].into();
    let item = Arc::new(Field::new("element", DataType::Struct(e.clone()), true));
    let l = Arc::new(l.as_ref().clone().with_data_type(DataType::List(item.clone())));
    let old = Arc::new(Field::new("a", DataType::Int32, true).with_metadata(if ids {
        HashMap::from([("PARQUET:field_id".to_string(), "99".to_string())])
    } else {
        HashMap::new()
    }));
    let columns: Vec<ArrayRef> = vec![
        ints(0),
        Arc::new(StructArray::new(xy, vec![ints(100), ints(200)], None)),
        Arc::new(ListArray::new(
            item,
            OffsetBuffer::from_lengths([1; 40]),
            Arc::new(StructArray::new(e, vec![ints(300)], None)),
            None,
        )),
        ints(900),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(vec![a, s, l, old])), columns).unwrap()
}

async fn check_mapping(mode: &str, physical: [&str; 5], stored: [&str; 5], ids: bool) -> Result<()> {
    let fields = |fields: Vec<Value>| json!({ "type": "struct", "fields": fields });
    let xy = fields(vec![mapped("x", "integer", 3, physical[2]), mapped("y", "integer", 4, physical[3])]);
    let element = fields(vec![mapped("e", "integer", 6, physical[4])]);
    let list = json!({ "type": "array", "elementType": element, "containsNull": true });
    let columns = json!([
        mapped("day", "date", 7, "day-physical"),
        mapped("a", "integer", 1, physical[0]),
        mapped("s", xy, 2, physical[1]),
        mapped("l", list, 5, "l-physical"),
        mapped("added", "string", 8, "added-physical"),
    ]);
    let configuration = json!({ "delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "8" });
    let mut made = Made::new(&["columnMapping", "deletionVectors"], configuration, columns, &["day"]);
    let vector = deletion_vector::inline(&(10..40).collect()).unwrap();
    let stats = json!({ "numRecords": 40, "minValues": { physical[0]: 0, "a": 900 }, "maxValues": { physical[0]: 39, "a": 939 },
        "nullCount": { physical[0]: 0, "a": 0 } });
    let more = json!({ "partitionValues": { "day-physical": "2024-02-29" }, "stats": stats.to_string(),
        "deletionVector": serde_json::to_value(&vector).unwrap() });
    made.add("p%201.parquet", &mapped_file(stored, ids), 10, more).await;
    made.commit().await;
    let row = |n: i32| format!("2024-02-29|{n}|{{x: {}, y: {}}}|[{{e: {}}}]|NULL", 100 + n, 200 + n, 300 + n);
    assert_eq!(made.sql(&format!("SELECT * FROM {TABLE}")).await?, (0..10).map(row).collect::<Vec<_>>());
    let sql =
        format!("SELECT a, s['y'] FROM {TABLE} WHERE a = 7 AND s['x'] = 107 AND day > '2024-01-01' AND added IS NULL");
    assert_eq!(made.sql(&sql).await?, ["7|207"]);
    assert_eq!(made.sql(&format!("SELECT count(*) FROM {TABLE} WHERE a >= 900")).await?, ["0"]);
    let table = Table::require(&made.lake.storage, &name(TABLE)).await?;
    assert!(feature::check_writable(&table, true).unwrap_err().message.contains("column mapping"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mapped_columns_are_found_by_physical_name_or_id() {
    // x and y swapped their names, at some time.
    let names = ["col-1", "col-2", "y", "x", "col-6"];
    check_mapping("name", names, names, false).await.unwrap();
    check_mapping("name", names, names, true).await.unwrap();
    // By id, the names in the file say nothing.
    check_mapping("id", names, ["s", "l", "a", "e", "added"], true).await.unwrap();
    let error = check_mapping("id", names, names, false).await.unwrap_err();
    assert!(error.code == Code::UnsupportedTable && error.message.contains("no Parquet field ids"), "{error}");
    let columns = json!([column("a", "integer", json!({}))]);
    let unmapped = Made::new(&["columnMapping"], json!({ "delta.columnMapping.mode": "name" }), columns, &[]);
    unmapped.commit().await;
    assert_eq!(unmapped.sql(&format!("SELECT * FROM {TABLE}")).await.unwrap_err().code, Code::UnsupportedTable);
}

#[tokio::test(flavor = "multi_thread")]
async fn widened_columns_are_read_only_where_the_table_says_so() {
    let file = || {
        let decimals =
            arrow::array::Decimal128Array::from(vec![Some(123), None]).with_precision_and_scale(5, 2).unwrap();
        RecordBatch::try_from_iter::<_, &str>(vec![
            ("i", Arc::new(Int32Array::from(vec![Some(5), None])) as ArrayRef),
            ("d", Arc::new(Int32Array::from(vec![Some(7), None])) as ArrayRef),
            ("c", Arc::new(decimals) as ArrayRef),
            ("t", Arc::new(arrow::array::Date32Array::from(vec![Some(1), None])) as ArrayRef),
        ])
        .unwrap()
    };
    let read = async |features: &[&str], columns: Value, sql: &str| {
        let mut made = Made::new(features, json!({}), columns, &[]);
        made.add("p.parquet", &file(), 10, json!({})).await;
        made.commit().await;
        made.sql(&sql.replace("TABLE", TABLE)).await
    };
    let plain = |name: &str, data_type: &str| column(name, data_type, json!({}));
    let wide =
        json!([plain("i", "long"), plain("d", "double"), plain("c", "decimal(10,4)"), plain("t", "timestamp_ntz")]);
    for feature in ["typeWidening", "typeWidening-preview"] {
        let rows = read(&[feature, "timestampNtz"], wide.clone(), "SELECT * FROM TABLE").await.unwrap();
        assert_eq!(rows, ["5|7.0|1.2300|1970-01-02T00:00:00", "NULL|NULL|NULL|NULL"]);
        let filtered =
            read(&[feature, "timestampNtz"], wide.clone(), "SELECT d FROM TABLE WHERE i > 4 AND d < 7.5").await;
        assert_eq!(filtered.unwrap(), ["7.0"]);
    }
    for (name, data_type) in [("i", "long"), ("d", "double"), ("c", "decimal(10,4)"), ("t", "timestamp_ntz")] {
        let error = read(&["timestampNtz"], json!([plain(name, data_type)]), "SELECT * FROM TABLE").await.unwrap_err();
        assert!(error.code == Code::UnsupportedTable && error.message.contains(&format!("`{name}`")), "{error}");
    }
    // Never narrower.
    for (name, data_type) in [("c", "decimal(4,2)"), ("i", "string"), ("t", "integer")] {
        read(&["typeWidening"], json!([plain(name, data_type)]), "SELECT * FROM TABLE").await.unwrap_err();
    }
    assert_eq!(
        read(&["typeWidening"], json!([plain("i", "short")]), "SELECT * FROM TABLE").await.unwrap(),
        ["5", "NULL"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_values_of_every_type_and_spelling_are_read() {
    let kinds = [
        ("string", "a/b c=%20ü", "a/b c=%20ü"),
        ("byte", "-8", "-8"),
        ("short", "-300", "-300"),
        ("integer", "70000", "70000"),
        ("long", "-9000000000", "-9000000000"),
        ("float", "1.5", "1.5"),
        ("double", "-2.25", "-2.25"),
        ("boolean", "true", "true"),
        ("date", "1969-12-31", "1969-12-31"),
        ("decimal(20,3)", "-12345678901234567.891", "-12345678901234567.891"),
        ("timestamp", "1969-12-31 23:59:59.123456", "1969-12-31T23:59:59.123456Z"),
        ("timestamp", "2020-01-01T08:09:10.001Z", "2020-01-01T08:09:10.001Z"),
        ("timestamp_ntz", "2013-07-05 17:01:00.123456", "2013-07-05T17:01:00.123456"),
        ("binary", "\u{1}A", "0141"),
    ];
    for (data_type, text, shown) in kinds {
        let columns = json!([column("p", data_type, json!({})), column("k", "integer", json!({}))]);
        let mut made = Made::new(&["timestampNtz"], json!({}), columns, &["p"]);
        let rows =
            |k: i32| RecordBatch::try_from_iter([("k", Arc::new(Int32Array::from(vec![k])) as ArrayRef)]).unwrap();
        made.add("p=a%2520b%3Dc%C3%BC/x%20y%23.parquet", &rows(1), 10, json!({ "partitionValues": { "p": text } }))
            .await;
        made.add("p=__HIVE_DEFAULT_PARTITION__/n.parquet", &rows(2), 10, json!({ "partitionValues": { "p": null } }))
            .await;
        made.add("p=/e.parquet", &rows(3), 10, json!({ "partitionValues": { "p": "" } })).await;
        made.commit().await;
        let mut wanted = vec![format!("{shown}|1"), "NULL|2".to_string(), "NULL|3".to_string()];
        wanted.sort();
        assert_eq!(made.sql(&format!("SELECT p, k FROM {TABLE}")).await.unwrap(), wanted, "{data_type}");
        let sql = format!("SELECT k FROM {TABLE} WHERE p IS NOT NULL");
        assert_eq!(made.sql(&sql).await.unwrap(), ["1"], "{data_type}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_fields_that_a_file_lacks_are_null_and_within_maps_refused() {
    let fields = |names: [&str; 2]| {
        let fields: Vec<_> = names.iter().map(|name| column(name, "integer", json!({}))).collect();
        json!({ "type": "struct", "fields": fields })
    };
    let old = |first: i32| {
        let fields: Fields =
            vec![Field::new("a", DataType::Int32, true), Field::new("c", DataType::Int32, true)].into();
        let int = |n| Arc::new(Int32Array::from(vec![n])) as ArrayRef;
        StructArray::new(fields, vec![int(first), int(first + 1)], None)
    };
    let item = Arc::new(Field::new("element", old(0).data_type().clone(), true));
    let list = ListArray::new(item, OffsetBuffer::from_lengths([1]), Arc::new(old(10)), None);
    let entries: Fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", old(0).data_type().clone(), true)].into();
    let entry =
        StructArray::new(entries.clone(), vec![Arc::new(StringArray::from(vec!["k"])), Arc::new(old(20))], None);
    let key_value = Arc::new(Field::new("key_value", DataType::Struct(entries), false));
    let map = arrow::array::MapArray::new(key_value, OffsetBuffer::from_lengths([1]), entry, None, false);
    let file = RecordBatch::try_from_iter::<_, &str>([
        ("s", Arc::new(old(0)) as ArrayRef),
        ("l", Arc::new(list) as ArrayRef),
        ("m", Arc::new(map) as ArrayRef),
    ])
    .unwrap();
    let read = async |columns: Value| {
        let mut made = Made::new(&[], json!({}), columns, &[]);
        made.add("p.parquet", &file, 10, json!({})).await;
        made.commit().await;
        made.sql(&format!("SELECT * FROM {TABLE}")).await
    };
    // `c` was dropped and `d` added.
    let list_of = json!({ "type": "array", "elementType": fields(["d", "a"]), "containsNull": true });
    let changed = json!([column("s", fields(["d", "a"]), json!({})), column("l", list_of, json!({}))]);
    assert_eq!(read(changed).await.unwrap(), ["{d: NULL, a: 0}|[{d: NULL, a: 10}]"]);
    let map_of = |value| {
        json!([column(
            "m",
            json!({ "type": "map", "keyType": "string", "valueType": value, "valueContainsNull": true }),
            json!({})
        )])
    };
    assert_eq!(read(map_of(fields(["c", "a"]))).await.unwrap(), ["{k: {c: 21, a: 20}}"]);
    let error = read(map_of(fields(["a", "d"]))).await.unwrap_err();
    assert!(error.code == Code::UnsupportedTable && error.message.contains("m.value.d"), "{error}");
}
