//! Decodes a piece of a JSON file into record batches.

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};

use super::{
    columns::{StructColumns, push_record},
    lex::Stop,
    records::{Next, Records},
};
use crate::{
    error::Result,
    raw::{
        manifest::JsonLayout,
        piece::{Decode, Malformed},
    },
};

/// Decoder of one piece; only the schema's fields, at every level, are kept.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    columns: StructColumns,
    records: Records,
    /// Offset in the file of each row of the batch at hand.
    starts: Vec<u64>,
}

impl JsonDecoder {
    pub fn new(schema: SchemaRef, layout: JsonLayout, first: bool, last: bool) -> Result<Self> {
        let columns = StructColumns::new(schema.fields())?;
        Ok(Self { schema, columns, records: Records::new(layout, first, last), starts: Vec::new() })
    }
}

impl Decode for JsonDecoder {
    fn decode(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        let mut at = 0;
        while self.starts.len() < rows {
            let next = self.records.next(text, at, end).map_err(|stop| Malformed::cut_short(stop, text, base))?;
            let start = match next {
                Next::Record(start) => start,
                Next::More(at) => return Ok(at),
            };
            match push_record(&mut self.columns, text, start) {
                Ok(after) => {
                    self.records.record_ends();
                    self.starts.push(base + start as u64);
                    at = after;
                }
                Err(Stop::Incomplete) if !end => return Ok(start),
                Err(stop) => return Err(Malformed::cut_short(stop, text, base)),
            }
        }
        Ok(at)
    }

    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn finish(&mut self) -> Result<RecordBatch, Malformed> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.starts.len()));
        let columns = self.columns.finish_columns().map_err(|bad| {
            let offset = self.starts.get(bad.row).copied().unwrap_or_default();
            Malformed { offset, what: bad.bad.what, path: bad.bad.path }
        })?;
        self.starts.clear();
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|error| Malformed {
            offset: 0,
            what: error.to_string(),
            path: Vec::new(),
        })
    }
}
