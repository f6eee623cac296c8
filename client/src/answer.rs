//! Rows that come as an Arrow IPC stream, printed as text or JSON. Timestamps are in UTC, floats as they are.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    buffer::Buffer,
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    ipc::reader::StreamDecoder,
    util::display::{ArrayFormatter, FormatOptions},
};

use crate::{
    error::{Error, Result},
    grid::{Align, Grid},
    value,
};

const TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S%.f";
const TIMESTAMP_UTC: &str = "%Y-%m-%d %H:%M:%S%.f UTC";

/// Decodes an IPC stream piece by piece.
pub struct Rows {
    decoder: StreamDecoder,
}

impl Rows {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { decoder: StreamDecoder::new() }
    }

    /// Takes the next bytes and returns the batches that they complete.
    pub fn decode(&mut self, bytes: Vec<u8>) -> Result<VecDeque<RecordBatch>> {
        let mut buffer = Buffer::from(bytes);
        let mut batches = VecDeque::new();
        while !buffer.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut buffer).map_err(damaged)? {
                batches.push_back(in_utc(batch)?);
            }
        }
        Ok(batches)
    }

    /// Columns, once they are known.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }

    /// Checks that nothing is missing.
    pub fn finish(mut self) -> Result<()> {
        self.decoder.finish().map_err(damaged)
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
}

/// A question's answer, whole.
pub struct Answer {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Answer {
    /// Reads one IPC stream.
    pub fn read(ipc: &[u8]) -> Result<Self> {
        let mut rows = Rows::new();
        let batches = rows.decode(ipc.to_vec())?.into();
        let schema = rows.schema().ok_or_else(|| damaged(ArrowError::IpcError("it has no schema".to_string())))?;
        rows.finish()?;
        Ok(Self { schema, batches })
    }

    /// Rows that are here.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// As an aligned table.
    pub fn text(&self) -> Result<String> {
        text(&self.schema, &self.batches)
    }

    /// As a JSON array of objects; columns keep their order, nulls are written.
    pub fn json(&self) -> Result<String> {
        let mut text = vec![b'['];
        for batch in self.batches.iter().filter(|batch| batch.num_rows() > 0) {
            if text.len() > 1 {
                text.push(b',');
            }
            value::write_rows(batch, b",", b"", &mut text).map_err(unprintable)?;
        }
        text.push(b']');
        String::from_utf8(text).map_err(|error| Error::new("internal", error.to_string()))
    }
}

/// An aligned table of the batches' rows; numbers are at the right.
pub fn text(schema: &Schema, batches: &[RecordBatch]) -> Result<String> {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), if field.data_type().is_numeric() { Align::Right } else { Align::Left }))
        .collect();
    if columns.is_empty() {
        return Ok(String::new());
    }
    let options = FormatOptions::default()
        .with_null("NULL")
        .with_timestamp_format(Some(TIMESTAMP))
        .with_timestamp_tz_format(Some(TIMESTAMP_UTC))
        .with_datetime_format(Some(TIMESTAMP))
        .with_display_error(true);
    let mut grid = Grid::new(&columns);
    for batch in batches {
        let cells = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let cells = cells.collect::<Result<Vec<_>, _>>().map_err(unprintable)?;
        for row in 0..batch.num_rows() {
            grid.row(cells.iter().map(|column| column.value(row).to_string()));
        }
    }
    Ok(grid.text_of_any())
}

/// One JSON object a line.
pub fn json_lines(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    value::write_rows(batch, b"\n", b"\n", &mut text).map_err(unprintable)?;
    Ok(text)
}

fn damaged(error: ArrowError) -> Error {
    Error::new("internal", format!("the scheduler sent rows that can't be read: {error}"))
        .hint("the scheduler and this client may be of different versions")
}

fn unprintable(error: ArrowError) -> Error {
    Error::new("internal", format!("can't print the rows: {error}")).hint("cast the column to string in the SQL")
}

/// The same rows with every time zone replaced by `+00:00`: named zones need a database that is not linked into the client.
fn in_utc(batch: RecordBatch) -> Result<RecordBatch> {
    let fields: Vec<FieldRef> = batch.schema().fields().iter().map(field_in_utc).collect();
    let columns: Vec<ArrayRef> =
        batch
            .columns()
            .iter()
            .zip(&fields)
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column.clone())
                } else {
                    cast(column, field.data_type())
                }
            })
            .collect::<Result<_, _>>()
            .map_err(unprintable)?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows).map_err(unprintable)
}

fn field_in_utc(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), type_in_utc(field.data_type()), field.is_nullable()))
}

fn type_in_utc(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        DataType::List(item) => DataType::List(field_in_utc(item)),
        DataType::LargeList(item) => DataType::LargeList(field_in_utc(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field_in_utc(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field_in_utc).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field_in_utc(entries), *sorted),
        DataType::Dictionary(key, value) => DataType::Dictionary(key.clone(), Box::new(type_in_utc(value))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{
            Array, BooleanArray, Date32Array, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
            StructArray, TimestampMicrosecondArray,
        },
        ipc::writer::StreamWriter,
    };

    fn ipc(batch: &RecordBatch) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn batch() -> RecordBatch {
        // 2021-12-25 06:00:00.5 UTC
        let at = TimestampMicrosecondArray::from(vec![Some(1_640_412_000_500_000), None]);
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value([Some("a"), None]);
        tags.append_null();
        let nested_at = at.clone().with_timezone("Europe/Paris");
        let nested = StructArray::from(vec![(
            Arc::new(Field::new("at", nested_at.data_type().clone(), true)),
            Arc::new(nested_at) as ArrayRef,
        )]);
        RecordBatch::try_from_iter_with_nullable([
            ("title", Arc::new(StringArray::from(vec![Some("one\nline"), None])) as ArrayRef, true),
            ("mean", Arc::new(Float64Array::from(vec![Some(722.266836), Some(1.0)])) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None])) as ArrayRef, true),
            ("zoned", Arc::new(at.clone().with_timezone("Europe/Paris")) as ArrayRef, true),
            ("local", Arc::new(at) as ArrayRef, true),
            ("day", Arc::new(Date32Array::from(vec![Some(18_986), None])) as ArrayRef, true),
            ("tags", Arc::new(tags.finish()) as ArrayRef, true),
            ("ok", Arc::new(BooleanArray::from(vec![Some(true), None])) as ArrayRef, true),
            ("nested", Arc::new(nested) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn an_answer_is_text() {
        let answer = Answer::read(&ipc(&batch())).unwrap();
        insta::assert_snapshot!(answer.text().unwrap(), @r"
        title            mean                 n  zoned                        local                    day         tags       ok    nested
        one\nline  722.266836  9007199254740993  2021-12-25 06:00:00.500 UTC  2021-12-25 06:00:00.500  2021-12-25  [a, NULL]  true  {at: 2021-12-25 06:00:00.500 UTC}
        NULL              1.0              NULL  NULL                         NULL                     NULL        NULL       NULL  {at: NULL}
        ");
        assert_eq!(answer.rows(), 2);
    }

    #[test]
    fn an_answer_is_json() {
        let answer = Answer::read(&ipc(&batch())).unwrap();
        insta::assert_snapshot!(answer.json().unwrap().replace("},{", "},\n{"), @r#"
        [{"title":"one\nline","mean":722.266836,"n":9007199254740993,"zoned":"2021-12-25T06:00:00.500Z","local":"2021-12-25T06:00:00.500","day":"2021-12-25","tags":["a",null],"ok":true,"nested":{"at":"2021-12-25T06:00:00.500Z"}},
        {"title":null,"mean":1.0,"n":null,"zoned":null,"local":null,"day":null,"tags":null,"ok":null,"nested":{"at":null}}]
        "#);
    }

    #[test]
    fn an_answer_without_rows_has_its_columns() {
        let answer = Answer::read(&ipc(&batch().slice(0, 0))).unwrap();
        assert_eq!(answer.text().unwrap(), "title  mean  n  zoned  local  day  tags  ok  nested");
        assert_eq!(answer.json().unwrap(), "[]");
    }

    #[test]
    fn bytes_may_be_cut_anywhere() {
        let bytes = ipc(&batch());
        for piece in [1, 7, 64, 1000] {
            let mut rows = Rows::new();
            let mut batches = Vec::new();
            for bytes in bytes.chunks(piece) {
                batches.extend(rows.decode(bytes.to_vec()).unwrap());
            }
            rows.finish().unwrap();
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        }
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        let bytes = ipc(&batch());
        for end in [0, 3, 20, bytes.len() / 2] {
            assert!(Answer::read(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(Answer::read(b"no arrow at all, but some text").is_err());
    }
}
