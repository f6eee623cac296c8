//! Functions of Spark that are not there, and why.

/// Spark's functions that are refused by name, in order: name, why, what to do instead.
pub(in crate::sql) const REFUSED: [(&str, &str, &str); 34] = [
    ("aes_decrypt", "keys in SQL texts would stand in logs and journals", "decrypt before the data is landed"),
    ("aes_encrypt", "keys in SQL texts would stand in logs and journals", "encrypt where the data is used"),
    ("bitmap_construct_agg", "bitmaps are not aggregated", "use count(DISTINCT …)"),
    ("bitmap_or_agg", "bitmaps are not aggregated", "use count(DISTINCT …)"),
    ("count_min_sketch", "there are no such sketches", "use count(*) with GROUP BY"),
    ("hll_sketch_agg", "there are no such sketches", "use approx_count_distinct"),
    ("hll_sketch_estimate", "there are no such sketches", "use approx_count_distinct"),
    ("hll_union", "there are no such sketches", "use approx_count_distinct"),
    ("hll_union_agg", "there are no such sketches", "use approx_count_distinct"),
    ("input_file_block_length", "tasks do not know the parts of files", "leave it out"),
    ("input_file_block_start", "tasks do not know the parts of files", "leave it out"),
    (
        "input_file_name",
        "a query does not know its tables' files",
        "keep the delivery's version in a column when it is loaded",
    ),
    ("java_method", "there is no Java", "leave it out"),
    ("read_files", "SQL reads tables only", "load the files into a table first"),
    ("reflect", "there is no Java", "use uuid() for random identifiers"),
    ("schema_of_xml", "XML is not read", "convert it to JSON first"),
    ("session_window", "windows of sessions are not there", "number sessions by lag() and a sum over it"),
    ("spark_partition_id", "tasks have no numbers that stay", "use monotonically_increasing_id()"),
    ("sql_keywords", "there is no list of keywords", "leave it out"),
    ("try_aes_decrypt", "keys in SQL texts would stand in logs and journals", "decrypt before the data is landed"),
    ("try_reflect", "there is no Java", "leave it out"),
    ("xpath", "XML is not read", "convert it to JSON first"),
    ("xpath_boolean", "XML is not read", "convert it to JSON first"),
    ("xpath_double", "XML is not read", "convert it to JSON first"),
    ("xpath_float", "XML is not read", "convert it to JSON first"),
    ("xpath_int", "XML is not read", "convert it to JSON first"),
    ("xpath_long", "XML is not read", "convert it to JSON first"),
    ("xpath_number", "XML is not read", "convert it to JSON first"),
    ("xpath_short", "XML is not read", "convert it to JSON first"),
    ("xpath_string", "XML is not read", "convert it to JSON first"),
    ("from_xml", "XML is not read", "convert it to JSON first"),
    ("to_xml", "XML is not read", "convert it to JSON first"),
    ("from_avro", "Avro is not read in columns", "land it as JSON or Parquet"),
    ("to_avro", "Avro is not written", "use to_json"),
];

/// Why a function of Spark is not there, and what to do instead.
pub(in crate::sql) fn reason(name: &str) -> Option<(&'static str, &'static str)> {
    REFUSED.iter().find(|(refused, ..)| *refused == name).map(|(_, why, instead)| (*why, *instead))
}
