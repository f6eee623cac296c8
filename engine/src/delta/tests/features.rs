//! Tables that others made: what is refused, by name, and what is not.

use deltalake_core::kernel::{DataType, StructField, StructType};
use serde_json::{Value, json};

use super::{Lake, name, text};
use crate::{
    delta::{Table, commit, feature},
    error::{Code, Result},
};

/// A table by its log alone: one `k` and one `v` column and one file.
struct Foreign {
    protocol: Value,
    configuration: Value,
    column: Value,
    other: Value,
    partitions: Value,
    vector: Value,
}

impl Default for Foreign {
    fn default() -> Self {
        Self {
            protocol: json!({ "minReaderVersion": 1, "minWriterVersion": 2 }),
            configuration: json!({}),
            column: json!({}),
            other: json!({}),
            partitions: json!([]),
            vector: Value::Null,
        }
    }
}

impl Foreign {
    fn with_features(reader: &[&str], writer: &[&str]) -> Self {
        let protocol =
            json!({ "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer });
        Self { protocol, ..Self::default() }
    }

    async fn open(&self) -> Result<Table> {
        let lake = Lake::new();
        let table = name("test.foreign");
        let column = |name: &str, metadata: &Value| json!({ "name": name, "type": "long", "nullable": true, "metadata": metadata });
        let schema = json!({ "type": "struct", "fields": [column("k", &self.column), column("v", &self.other)] });
        let mut add = json!({ "path": "part-0.parquet", "partitionValues": {}, "size": 1, "modificationTime": 0, "dataChange": true,
            "stats": "{\"numRecords\":3}" });
        if !self.vector.is_null() {
            add["deletionVector"] = self.vector.clone();
        }
        let lines = [
            json!({ "protocol": self.protocol }),
            json!({ "metaData": { "id": "1c6f2a52-5d0c-4d0e-9b4c-3f1c2b7a9d10", "format": { "provider": "parquet", "options": {} },
                "schemaString": schema.to_string(), "partitionColumns": self.partitions, "configuration": self.configuration,
                "createdTime": 0 } }),
            json!({ "add": add }),
        ];
        let path = lake.storage.table_path(&table).join("_delta_log").join("00000000000000000000.json");
        let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        object_store::ObjectStoreExt::put(&lake.storage.store(), &path, text.into()).await.unwrap();
        Table::require(&lake.storage, &table).await
    }

    async fn refused(&self, read: bool) -> String {
        let error = match self.open().await {
            Err(error) => error,
            Ok(table) if read => feature::check_readable(&table).unwrap_err(),
            Ok(table) => {
                feature::check_readable(&table).unwrap();
                feature::check_writable(&table, true).unwrap_err()
            }
        };
        assert_eq!(error.code, Code::UnsupportedTable, "{error}");
        assert!(text(&error).contains("test.foreign"), "{error}");
        text(&error)
    }
}

fn vector() -> Value {
    json!({ "storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", "sizeInBytes": 40, "cardinality": 6 })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scan_would_read_wrong_is_refused_by_name() {
    let by = |mode: &str, column: Value| Foreign {
        configuration: json!({ "delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "2" }),
        protocol: json!({ "minReaderVersion": 2, "minWriterVersion": 5 }),
        column,
        other: json!({ "delta.columnMapping.id": 2, "delta.columnMapping.physicalName": "col-2" }),
        ..Foreign::default()
    };
    let k = json!({ "delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1" });
    assert!(by("name", json!({})).refused(true).await.to_lowercase().contains("column mapping"));
    assert!(by("colour", k.clone()).refused(true).await.contains("colour"));
    assert!(by("name", k.clone()).refused(false).await.contains("column mapping"));
    let features = ["deletionVectors"];
    let deleted = Foreign { vector: vector(), ..Foreign::with_features(&features, &features) };
    feature::check_writable(&deleted.open().await.unwrap(), true).unwrap();
    let newer = Foreign { protocol: json!({ "minReaderVersion": 4, "minWriterVersion": 7 }), ..Foreign::default() };
    newer.refused(true).await;
    let managed = Foreign::with_features(&["catalogManaged"], &["catalogManaged"]);
    assert!(managed.refused(true).await.contains("catalog-managed"));
    for feature in ["variantType", "variantShredding-preview", "somethingNew"] {
        let found = Foreign::with_features(&[feature], &[feature]).refused(true).await;
        assert!(found.contains(feature), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_would_break_is_refused_by_name() {
    let with = |configuration: Value| Foreign {
        configuration,
        protocol: json!({ "minReaderVersion": 1, "minWriterVersion": 4 }),
        ..Foreign::default()
    };
    let on = |key: &str| json!({ key: "true" });
    let annotated = |key: &str, value: Value| Foreign {
        column: json!({ key: value }),
        protocol: json!({ "minReaderVersion": 1, "minWriterVersion": 6 }),
        ..Foreign::default()
    };
    let cases = [
        (with(on("delta.appendOnly")), "append-only"),
        (with(json!({ "delta.constraints.positive": "k > 0" })), "delta.constraints.positive"),
        (annotated("delta.invariants", json!("{\"expression\":{\"expression\":\"k > 0\"}}")), "an invariant (`k`)"),
        (annotated("delta.generationExpression", json!("v + 1")), "a generated column (`k`)"),
        (annotated("delta.identity.start", json!(1)), "an identity column (`k`)"),
        (Foreign::with_features(&[], &["rowTracking", "domainMetadata"]), "rowTracking"),
        (Foreign::with_features(&[], &["clustering", "domainMetadata"]), "clustering"),
        (Foreign::with_features(&[], &["somethingNew"]), "somethingNew"),
        (Foreign { partitions: json!(["v"]), ..Foreign::default() }, "partitions (v)"),
    ];
    for (table, what) in cases {
        let found = table.refused(false).await;
        assert!(found.contains(what), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_are_only_allowed_and_not_used_do_no_harm() {
    let all = ["deletionVectors", "columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"];
    let writer: Vec<_> = all
        .iter()
        .copied()
        .chain(["appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns"])
        .collect();
    let table = Foreign::with_features(&all, &writer).open().await.unwrap();
    feature::check_writable(&table, true).unwrap();
    assert_eq!(table.files().unwrap().rows(), Some(3));
    let append_only = Foreign { configuration: json!({ "delta.appendOnly": "true" }), ..Foreign::default() };
    feature::check_writable(&append_only.open().await.unwrap(), false).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_change_data_feed_is_written() {
    let fed = |protocol: Value| Foreign {
        configuration: json!({ "delta.enableChangeDataFeed": "true" }),
        protocol,
        ..Foreign::default()
    };
    let old = fed(json!({ "minReaderVersion": 1, "minWriterVersion": 4 })).open().await.unwrap();
    feature::check_writable(&old, true).unwrap();
    assert!(feature::feeds_changes(&old));
    let plain = Foreign::default().open().await.unwrap();
    assert!(!feature::feeds_changes(&plain));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_with_the_properties_that_are_known() {
    let lake = Lake::new();
    let schema = StructType::try_new([StructField::nullable("k", DataType::LONG)]).unwrap();
    let make = async |name_of: &str, properties: &[(&str, &str)]| {
        let properties = properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let (table, label) = (name(name_of), Default::default());
        commit::create(&lake.storage, &table, &schema, &properties, Vec::new(), &label).await?;
        Table::require(&lake.storage, &table).await
    };
    let both =
        make("t.both", &[(feature::DELETION_VECTORS, "true"), (feature::CHANGE_DATA_FEED, "true")]).await.unwrap();
    assert!(feature::takes_deletion_vectors(&both).unwrap() && feature::feeds_changes(&both));
    let protocol = feature::Protocol::of(&both).unwrap();
    assert_eq!(protocol.writer_features, ["deletionVectors", "changeDataFeed"]);
    feature::check_writable(&both, true).unwrap();
    let fed =
        make("t.fed", &[(feature::DELETION_VECTORS, "false"), (feature::CHANGE_DATA_FEED, "true")]).await.unwrap();
    assert!(!feature::takes_deletion_vectors(&fed).unwrap() && feature::feeds_changes(&fed));
    let protocol = feature::Protocol::of(&fed).unwrap();
    assert_eq!((protocol.reader, protocol.writer), (1, 4));
    let kept = [("delta.checkpointInterval", "3"), ("delta.logRetentionDuration", "interval 7 days")];
    let kept = make("t.kept", &kept).await.unwrap();
    assert_eq!(kept.property("delta.checkpointInterval"), Some("3"));
    for (key, value) in [
        ("delta.appendOnly", "true"),
        ("enableChangeDataFeed", "true"),
        ("delta.enableChangeDataFeed", "TRUE"),
        ("delta.checkpointInterval", "0"),
        ("delta.logRetentionDuration", "7 days"),
    ] {
        let error = make("t.wrong", &[(key, value)]).await.unwrap_err();
        assert!(error.code == Code::InvalidSpec && error.message.contains(key), "{}", text(&error));
    }
}
