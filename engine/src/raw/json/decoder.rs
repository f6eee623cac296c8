//! Decodes a piece of a JSON file into record batches.

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{Fields, SchemaRef},
};

use super::{
    columns::{StructColumns, push_record},
    lex::{INFERRED, Lex},
    walk::{Take, Walk},
};
use crate::{
    error::Result,
    raw::{
        manifest::JsonLayout,
        piece::{Decode, Malformed},
        places::{Lines, Places, Record, reason},
    },
};

/// Decoder of one piece; only the schema's fields, at every level, are kept.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    walk: Walk,
    rows: Rows,
}

#[derive(Debug)]
struct Rows {
    columns: StructColumns,
    /// Offset in the file of each row of the batch at hand.
    starts: Vec<u64>,
    /// More about each row, where it is asked for.
    places: Option<Places>,
    /// How deep a record begins.
    depth: u32,
}

impl Take for Rows {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    #[inline]
    fn take(&mut self, text: &[u8], at: usize, _: u64) -> Lex<usize> {
        push_record(&mut self.columns, text, at, self.depth)
    }

    #[inline]
    fn taken(&mut self, record: Record) {
        self.starts.push(record.offset);
        if let Some(places) = &mut self.places {
            places.push(record);
        }
    }

    fn bad(&mut self, record: Record, reason: String) {
        self.columns.push_nulls();
        self.taken(record);
        if let Some(places) = &mut self.places {
            places.mark(self.starts.len() - 1, reason);
        }
    }
}

impl JsonDecoder {
    /// A decoder that refuses bad records.
    pub fn new(schema: SchemaRef, layout: JsonLayout, first: bool, last: bool) -> Result<Self> {
        let columns = StructColumns::new(schema.fields())?;
        let rows = Rows { columns, starts: Vec::new(), places: None, depth: 0 };
        Ok(Self { schema, walk: Walk::new(layout, first, last), rows })
    }

    /// The same with the columns of `places`, which are the schema's last; if `lenient`, bad records are rows of nulls.
    pub fn with_places(self, places: Places, lines: Lines, lenient: bool) -> Result<Self> {
        let own = self.schema.fields().len().saturating_sub(places.width());
        let fields: Fields = self.schema.fields().iter().take(own).cloned().collect();
        let columns = StructColumns::new(&fields)?;
        let rows = Rows { columns, starts: Vec::new(), places: Some(places), ..self.rows };
        Ok(Self { walk: self.walk.with_lines(lines, lenient), rows, ..self })
    }

    /// The same of records that are not looked into deeper than inference did.
    pub fn inferred(mut self) -> Self {
        self.rows.depth = INFERRED;
        self
    }
}

impl Decode for JsonDecoder {
    fn decode(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        self.walk.run(&mut self.rows, text, base, end, rows)
    }

    fn rows(&self) -> usize {
        self.rows.starts.len()
    }

    fn finish(&mut self) -> Result<RecordBatch, Malformed> {
        let Rows { columns, starts, places, .. } = &mut self.rows;
        let options = RecordBatchOptions::new().with_row_count(Some(starts.len()));
        let (mut arrays, bad) = columns.finish_columns();
        for bad in bad {
            match places {
                Some(places) if self.walk.is_lenient() => places.mark(bad.row, reason(&bad.bad.path, &bad.bad.what)),
                _ => {
                    let offset = starts.get(bad.row).copied().unwrap_or_default();
                    return Err(Malformed { offset, what: bad.bad.what, path: bad.bad.path });
                }
            }
        }
        arrays.extend(places.iter_mut().flat_map(Places::finish));
        starts.clear();
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|error| Malformed {
            offset: 0,
            what: error.to_string(),
            path: Vec::new(),
        })
    }
}
