//! What functions take, and the values of their arguments.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryBuilder, PrimitiveArray, StringBuilder},
    datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float64Type, Int32Type, Int64Type, TimeUnit},
};
use datafusion::common::{Result, ScalarValue};

use crate::sql::{
    kernel::{Arguments, wrong_call},
    types::{timestamp, type_name},
};

/// What an argument must be; a value of another type is cast as Spark casts by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything plain, as a text.
    Text,
    /// A text, or bytes as they are.
    TextOrBytes,
    /// Bytes; a text's are those of UTF-8.
    Bytes,
    /// An `int`.
    Int,
    /// A `bigint`.
    Long,
    /// A `double`.
    Double,
    /// A `boolean`.
    Boolean,
    /// A `date`.
    Date,
    /// A `timestamp`.
    Timestamp,
    /// A timestamp without a zone.
    Clock,
}

/// The types to which a call's arguments are cast.
pub(super) fn accept(name: &str, types: &[DataType], needed: &[Kind], more: &[Kind]) -> Result<Vec<DataType>> {
    if types.len() < needed.len() || types.len() > needed.len() + more.len() {
        let wanted = match (needed.len(), more.len()) {
            (0, 0) => "no arguments".to_string(),
            (1, 0) => "1 argument".to_string(),
            (n, 0) => format!("{n} arguments"),
            (n, m) => format!("{n} to {} arguments", n + m),
        };
        return Err(wrong_call(format!("`{name}` takes {wanted}, not {}", types.len())));
    }
    types.iter().zip(needed.iter().chain(more)).map(|(found, kind)| accept_one(name, found, *kind)).collect()
}

/// The type to which an argument is cast.
pub(super) fn accept_one(name: &str, found: &DataType, kind: Kind) -> Result<DataType> {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    let wrong = |wanted: &str| Err(wrong_call(format!("`{name}` takes {wanted}, not {}", type_name(found))));
    let is_bytes = matches!(found, Binary | BinaryView | FixedSizeBinary(_) | LargeBinary);
    match kind {
        _ if found.is_nested() => wrong(match kind {
            Kind::Text | Kind::TextOrBytes => "a text",
            Kind::Bytes => "bytes",
            Kind::Boolean => "a boolean",
            Kind::Date => "a date",
            Kind::Timestamp | Kind::Clock => "a timestamp",
            _ => "a number",
        }),
        Kind::Text => Ok(DataType::Utf8),
        Kind::TextOrBytes => Ok(if is_bytes { Binary } else { DataType::Utf8 }),
        Kind::Bytes => Ok(Binary),
        Kind::Int => Ok(DataType::Int32),
        Kind::Long => Ok(DataType::Int64),
        Kind::Double => Ok(DataType::Float64),
        Kind::Boolean => Ok(DataType::Boolean),
        Kind::Date => Ok(DataType::Date32),
        Kind::Timestamp => Ok(timestamp()),
        Kind::Clock => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
    }
}

/// A function of plain kinds: `kernel!("name", [Text, Int], [Int], result type, compute)`, the second list being what may be left out.
macro_rules! kernel {
    ($name:literal, [$($needed:ident),*], [$($more:ident),*], $give:expr, $compute:expr) => {
        $crate::sql::kernel::Kernel::function(
            $name,
            |types| $crate::sql::functions::args::accept(
                $name,
                types,
                &[$($crate::sql::functions::args::Kind::$needed),*],
                &[$($crate::sql::functions::args::Kind::$more),*],
            ),
            $give,
            $compute,
        )
    };
}
pub(super) use kernel;

/// The result has the type of the first argument.
pub(super) fn as_first(fields: &[FieldRef], _literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(fields.first().map_or(DataType::Null, |field| field.data_type().clone()))
}

/// The result is a text.
pub(super) fn gives_text(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Utf8)
}

/// The result is an `int`.
pub(super) fn gives_int(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Int32)
}

/// The result is a `bigint`.
pub(super) fn gives_long(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Int64)
}

/// The result is a `double`.
pub(super) fn gives_double(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Float64)
}

/// The result is a `boolean`.
pub(super) fn gives_boolean(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Boolean)
}

/// The result is bytes.
pub(super) fn gives_bytes(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Binary)
}

/// The result is a `timestamp`.
pub(super) fn gives_timestamp(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(timestamp())
}

/// The text of a literal argument.
pub(super) fn literal_text<'a>(literals: &[Option<&'a ScalarValue>], i: usize) -> Option<&'a str> {
    literals.get(i).copied().flatten()?.try_as_str()?
}

impl Arguments {
    /// Rows to compute.
    pub(super) fn rows(&self) -> usize {
        self.arrays.first().map_or(1, |array| array.len())
    }

    /// How many arguments there are.
    pub(super) fn count(&self) -> usize {
        self.arrays.len()
    }

    /// Whether an argument is there and not null.
    pub(super) fn known(&self, argument: usize, row: usize) -> bool {
        self.arrays.get(argument).is_some_and(|array| array.is_valid(row))
    }

    /// Whether all arguments are not null.
    pub(super) fn all_known(&self, row: usize) -> bool {
        self.arrays.iter().all(|array| array.is_valid(row))
    }

    /// A text; `None` when it is null or not there.
    pub(super) fn text(&self, argument: usize, row: usize) -> Option<&str> {
        let texts = self.arrays.get(argument)?.as_string_opt::<i32>()?;
        texts.is_valid(row).then(|| texts.value(row))
    }

    /// Bytes, or those of a text.
    pub(super) fn bytes(&self, argument: usize, row: usize) -> Option<&[u8]> {
        let array = self.arrays.get(argument)?;
        if array.is_null(row) {
            return None;
        }
        match array.data_type() {
            DataType::Binary => Some(array.as_binary::<i32>().value(row)),
            _ => Some(array.as_string_opt::<i32>()?.value(row).as_bytes()),
        }
    }

    /// A number or moment of a primitive type.
    pub(super) fn value<T: ArrowPrimitiveType>(&self, argument: usize, row: usize) -> Option<T::Native> {
        let values = self.arrays.get(argument)?.as_primitive_opt::<T>()?;
        values.is_valid(row).then(|| values.value(row))
    }

    /// An `int`.
    pub(super) fn int(&self, argument: usize, row: usize) -> Option<i32> {
        self.value::<Int32Type>(argument, row)
    }

    /// A `bigint`.
    pub(super) fn long(&self, argument: usize, row: usize) -> Option<i64> {
        self.value::<Int64Type>(argument, row)
    }

    /// A `double`.
    pub(super) fn double(&self, argument: usize, row: usize) -> Option<f64> {
        self.value::<Float64Type>(argument, row)
    }

    /// A `boolean`.
    pub(super) fn boolean(&self, argument: usize, row: usize) -> Option<bool> {
        let values = self.arrays.get(argument)?.as_boolean_opt()?;
        values.is_valid(row).then(|| values.value(row))
    }

    /// A text for each row.
    pub(super) fn texts<S: AsRef<str>>(&self, of: impl Fn(usize) -> Option<S>) -> Result<ArrayRef> {
        self.try_texts(|row| Ok(of(row)))
    }

    /// A text for each row, or an error.
    pub(super) fn try_texts<S: AsRef<str>>(&self, mut of: impl FnMut(usize) -> Result<Option<S>>) -> Result<ArrayRef> {
        let mut texts = StringBuilder::new();
        for row in 0..self.rows() {
            texts.append_option(of(row)?);
        }
        Ok(Arc::new(texts.finish()))
    }

    /// A number or moment for each row.
    pub(super) fn values<T: ArrowPrimitiveType>(&self, of: impl Fn(usize) -> Option<T::Native>) -> Result<ArrayRef> {
        let values: PrimitiveArray<T> = (0..self.rows()).map(of).collect();
        Ok(Arc::new(values.with_data_type(self.result.clone())))
    }

    /// A number or moment for each row, or an error.
    pub(super) fn try_values<T: ArrowPrimitiveType>(
        &self,
        of: impl FnMut(usize) -> Result<Option<T::Native>>,
    ) -> Result<ArrayRef> {
        let values = (0..self.rows()).map(of).collect::<Result<PrimitiveArray<T>>>()?;
        Ok(Arc::new(values.with_data_type(self.result.clone())))
    }

    /// A boolean for each row.
    pub(super) fn booleans(&self, of: impl Fn(usize) -> Option<bool>) -> Result<ArrayRef> {
        Ok(Arc::new((0..self.rows()).map(of).collect::<arrow::array::BooleanArray>()))
    }

    /// Bytes for each row, or a text of them where the result is one.
    pub(super) fn blobs(&self, mut of: impl FnMut(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
        if self.result == DataType::Utf8 {
            return self.try_texts(|row| Ok(of(row)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())));
        }
        let mut blobs = BinaryBuilder::new();
        for row in 0..self.rows() {
            blobs.append_option(of(row)?);
        }
        Ok(Arc::new(blobs.finish()))
    }
}

/// The type that values have in common by Spark's rules.
pub(super) fn common(name: &str, types: &[DataType]) -> Result<DataType> {
    match crate::sql::coercion::common(types) {
        Some(common) => Ok(common),
        None => {
            let types: Vec<String> = types.iter().map(type_name).collect();
            Err(wrong_call(format!("`{name}` takes values of one type, not {}", types.join(" and "))))
        }
    }
}

/// The type of an array's elements.
pub(super) fn element_type(name: &str, array: &DataType) -> Result<DataType> {
    match array {
        DataType::List(item) | DataType::LargeList(item) => Ok(item.data_type().clone()),
        DataType::Null => Ok(DataType::Null),
        other => Err(wrong_call(format!("`{name}` takes an array, not {}", type_name(other)))),
    }
}
