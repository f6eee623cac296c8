//! Calls whose arguments get one type, by Spark's rules: conditions, lists, `array`, `map`, `greatest`.

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Case, Expr, Operator, expr::InList, lit, when},
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    aggregates::AGGREGATE,
    calls::{Call, is_text},
    coercion::{common, common_without_texts, decimal_of},
    comparisons::{double, equal, number_of},
    floats::normal,
    intervals::{is_interval, order},
    kernel::wrong_call,
    names::behind,
    types::type_name,
};

/// The marker of a number that is no `int`; its value is the number as it is written.
pub(super) const NUMBER: &str = " number";

/// The marker of a CASE: conditions and results by turns, and perhaps what else.
pub(super) const CASE: &str = " case";

/// The marker of `x IN (…)`: the value, then the list.
pub(super) const IN: &str = " in";

/// The functions that are planned here, in order.
pub(super) const NAMES: [&str; 11] =
    ["array", "coalesce", "equal_null", "greatest", "if", "ifnull", "least", "map", "nullif", "nvl", "nvl2"];

/// Functions of doubles: decimals become doubles, and texts do.
const OF_DOUBLES: [&str; 32] = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "cot",
    "csc",
    "degrees",
    "exp",
    "expm1",
    "hypot",
    "isnan",
    "nanvl",
    "pow",
    "power",
    "radians",
    "rint",
    "sec",
    "sign",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "width_bucket",
    "bin",
];

/// Whether a call is planned here.
pub(super) fn is_planned(name: &str) -> bool {
    NAMES.contains(&name) || OF_DOUBLES.contains(&name) || matches!(name, "mod" | "pmod")
}

impl Call<'_> {
    /// Plans the call if it is one of this module's.
    pub(super) fn typed(&self, args: &[Expr]) -> Result<Option<Expr>> {
        let planned = match (self.name, args) {
            (AGGREGATE, [planned]) => self.aggregate(planned),
            (CASE, branches) => self.case(branches),
            (IN, [value, list @ ..]) => self.in_list(value, list),
            ("map", entries) => self.map(entries),
            ("array", items) => self.function("array", self.unified(items, common)?),
            ("coalesce" | "nvl" | "ifnull", [_, ..]) if self.name == "coalesce" || args.len() == 2 => {
                let mut values = self.unified(args, common)?;
                if values.len() == 1 {
                    values.pop().map_or_else(|| self.wrong_count(args), Ok)
                } else {
                    self.function("coalesce", values)
                }
            }
            ("if", [condition, then, otherwise]) => self.case(&[condition.clone(), then.clone(), otherwise.clone()]),
            ("nvl2", [value, then, otherwise]) => {
                self.case(&[value.clone().is_not_null(), then.clone(), otherwise.clone()])
            }
            ("nullif", [value, other]) => {
                let same = self.compared(value, other)?;
                let nothing = lit(ScalarValue::try_from(&self.type_of(value)?)?);
                Ok(Expr::Case(Case::new(
                    None,
                    vec![(Box::new(same), Box::new(nothing))],
                    Some(Box::new(value.clone())),
                )))
            }
            ("equal_null", [value, other]) => {
                let types = [self.type_of(value)?, self.type_of(other)?];
                equal(value.clone(), other.clone(), &types, true)
            }
            ("ceil" | "ceiling" | "floor", [value, digits]) => {
                let decimal = match self.type_of(value)? {
                    DataType::Float32 | DataType::Float64 => DataType::Decimal128(30, 15),
                    other => match decimal_of(&other) {
                        Some((precision, scale)) => DataType::Decimal128(precision, scale),
                        None => DataType::Decimal128(38, 18),
                    },
                };
                let name = if self.name == "floor" { "floor_digits" } else { "ceil_digits" };
                let digits = match digits {
                    Expr::Literal(digits, _) => Expr::Literal(digits.cast_to(&DataType::Int32)?, None),
                    other => other.clone(),
                };
                self.function(name, vec![self.cast(value, &decimal)?, digits])
            }
            ("abs", [value]) if is_interval(&self.type_of(value)?) => {
                let turned = self.function("interval_multiply", vec![value.clone(), lit(-1.0)])?;
                when(order(value.clone()).lt(lit(0i64)), turned).otherwise(value.clone())
            }
            ("greatest" | "least", [_, _, ..]) => self.function(self.name, self.unified(args, common_without_texts)?),
            ("mod", [left, right]) => {
                self.operation(BinaryOperator::Modulo, Operator::Modulo, left.clone(), right.clone())
            }
            ("pmod", [left, right]) => {
                let types = [self.type_of(left)?, self.type_of(right)?];
                if types.iter().any(DataType::is_decimal) && types.iter().all(|t| decimal_of(t).is_some()) {
                    self.function("decimal_pmod", vec![left.clone(), right.clone()])
                } else {
                    // A zero with a sign is one, too.
                    let divisor = if types[1].is_floating() { normal(right.clone()) } else { right.clone() };
                    self.function("pmod", vec![left.clone(), divisor])
                }
            }
            (name, args) if OF_DOUBLES.contains(&name) => {
                let mut doubles = Vec::with_capacity(args.len());
                for arg in args {
                    let data_type = self.type_of(arg)?;
                    let to = if name == "bin" { DataType::Int64 } else { DataType::Float64 };
                    doubles.push(match data_type {
                        decimal if decimal.is_decimal() && to == DataType::Float64 => double(arg.clone()),
                        DataType::Float32 => self.cast(arg, &to)?,
                        text if text.is_decimal() || is_text(&text) => self.cast(arg, &to)?,
                        interval if is_interval(&interval) && matches!(name, "sign" | "signum" | "width_bucket") => {
                            self.cast(&order(arg.clone()), &to)?
                        }
                        _ => arg.clone(),
                    });
                }
                self.function(behind(name), doubles)
            }
            (name, args) if NAMES.contains(&name) => self.wrong_count(args),
            _ => return Ok(None),
        };
        planned.map(Some)
    }

    fn compared(&self, value: &Expr, other: &Expr) -> Result<Expr> {
        let types = [self.type_of(value)?, self.type_of(other)?];
        equal(value.clone(), other.clone(), &types, false)
    }

    /// The values with the type that they have in common.
    fn unified(&self, args: &[Expr], common: fn(&[DataType]) -> Option<DataType>) -> Result<Vec<Expr>> {
        let types = args.iter().map(|arg| self.type_of(arg)).collect::<Result<Vec<_>>>()?;
        let Some(to) = common(&types) else {
            let names: Vec<_> = types.iter().map(type_name).collect();
            return Err(wrong_call(format!(
                "{} have no type in common: {}; CAST them to one",
                what(self.name),
                names.join(", ")
            )));
        };
        args.iter().zip(&types).map(|(arg, own)| self.as_type(arg, own, &to)).collect()
    }

    fn as_type(&self, arg: &Expr, own: &DataType, to: &DataType) -> Result<Expr> {
        match arg {
            _ if own == to => Ok(arg.clone()),
            // Nested types may differ in what is nullable only; NULL takes any type.
            Expr::Literal(value, _) if value.is_null() => Ok(lit(ScalarValue::try_from(to)?)),
            Expr::Literal(ScalarValue::Decimal128(..), _) if *to == DataType::Float64 => Ok(double(arg.clone())),
            _ => self.cast(arg, to),
        }
    }

    fn case(&self, branches: &[Expr]) -> Result<Expr> {
        let (pairs, otherwise) = branches.as_chunks::<2>();
        let mut results: Vec<Expr> = pairs.iter().map(|[_, result]| result.clone()).collect();
        results.extend(otherwise.iter().cloned());
        let mut results = self.unified(&results, common)?;
        let otherwise = if otherwise.is_empty() { None } else { results.pop().map(Box::new) };
        let conditions = pairs.iter().map(|[condition, _]| self.condition(condition));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        let pairs = conditions.into_iter().zip(results).map(|(c, r)| (Box::new(c), Box::new(r)));
        Ok(Expr::Case(Case::new(None, pairs.collect(), otherwise)))
    }

    /// A condition is boolean; a text is read as one.
    fn condition(&self, condition: &Expr) -> Result<Expr> {
        match self.type_of(condition)? {
            DataType::Boolean | DataType::Null => Ok(condition.clone()),
            text if is_text(&text) => self.cast(condition, &DataType::Boolean),
            other => Err(wrong_call(format!("a condition is {}, not boolean", type_name(&other)))),
        }
    }

    fn in_list(&self, value: &Expr, list: &[Expr]) -> Result<Expr> {
        let mut all = vec![value.clone()];
        all.extend(list.iter().cloned());
        let mut all = self.unified(&all, common)?;
        let value = all.remove(0);
        if self.type_of(&value)?.is_floating() {
            // A bare column among plain numbers can be looked up in statistics; -0.0 and 0.0 are the same number.
            let is_plain = |item: &Expr| match item {
                Expr::Literal(value, _) => value.is_null() || number_of(item).is_some(),
                _ => false,
            };
            if !matches!(value, Expr::Column(_)) || !all.iter().all(is_plain) {
                let all = all.into_iter().map(normal).collect();
                return Ok(Expr::InList(InList { expr: Box::new(normal(value)), list: all, negated: false }));
            }
            let zeros: Vec<Expr> = all.iter().filter_map(other_zero).collect();
            all.extend(zeros);
        }
        Ok(Expr::InList(InList { expr: Box::new(value), list: all, negated: false }))
    }

    /// `map(k, v, …)`: keys of one type, and values of one.
    fn map(&self, args: &[Expr]) -> Result<Expr> {
        let (pairs, rest) = args.as_chunks::<2>();
        if !rest.is_empty() {
            return self.wrong_count(args);
        }
        let keys: Vec<Expr> = pairs.iter().map(|[key, _]| key.clone()).collect();
        let values: Vec<Expr> = pairs.iter().map(|[_, value]| value.clone()).collect();
        let keys = self.function("make_array", self.unified(&keys, common)?)?;
        let values = self.function("make_array", self.unified(&values, common)?)?;
        self.function("map", vec![keys, values])
    }
}

fn what(name: &str) -> String {
    match name {
        CASE => "the results of CASE".into(),
        IN => "a value and the list after IN".into(),
        name => format!("the arguments of `{}`", name.trim()),
    }
}

/// The zero with the other sign.
fn other_zero(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(v)), _) if *v == 0.0 => Some(lit(-*v)),
        Expr::Literal(ScalarValue::Float32(Some(v)), _) if *v == 0.0 => Some(lit(-*v)),
        _ => None,
    }
}

/// A literal of a number as it is written: `1.5` is a decimal, `1e3` a double, `1L` a bigint.
pub(super) fn number(text: &str) -> Option<Expr> {
    let upper = text.to_ascii_uppercase();
    let is_hexadecimal = |c: char| c.is_ascii_alphabetic() && c != 'E';
    let (digits, suffix) = upper.split_at(upper.find(is_hexadecimal).unwrap_or(upper.len()));
    let has = |c: char| digits.contains(c);
    Some(match suffix {
        "D" => lit(digits.parse::<f64>().ok()?),
        "F" => lit(digits.parse::<f32>().ok()?),
        "L" => lit(digits.parse::<i64>().ok()?),
        "S" => lit(digits.parse::<i16>().ok()?),
        "Y" => lit(digits.parse::<i8>().ok()?),
        "" if has('E') => lit(digits.parse::<f64>().ok()?),
        "" if !has('.')
            && let Ok(value) = digits.parse::<i32>() =>
        {
            lit(value)
        }
        "" if !has('.')
            && let Ok(value) = digits.parse::<i64>() =>
        {
            lit(value)
        }
        "" | "BD" => {
            let (mantissa, exponent) = digits.split_once('E').unwrap_or((digits, "0"));
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
            let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
            let (unscaled, scale) = match u32::try_from(scale) {
                Ok(scale) => (unscaled, scale),
                Err(_) => (unscaled.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?, 0),
            };
            let own = unscaled.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
            let precision = u8::try_from(own.max(scale)).ok().filter(|precision| *precision <= 38)?;
            lit(ScalarValue::Decimal128(Some(unscaled), precision, scale as i8))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sparks() {
        let decimal = |value, precision, scale| ScalarValue::Decimal128(Some(value), precision, scale);
        for (text, expected) in [
            ("1.0", decimal(10, 2, 1)),
            ("0.1", decimal(1, 1, 1)),
            ("0.00", decimal(0, 2, 2)),
            ("100.25", decimal(10025, 5, 2)),
            ("-2.5", decimal(-25, 2, 1)),
            ("1BD", decimal(1, 1, 0)),
            ("1.5E3BD", decimal(1500, 4, 0)),
            ("9223372036854775808", decimal(9_223_372_036_854_775_808, 19, 0)),
            ("-9223372036854775808", ScalarValue::Int64(Some(i64::MIN))),
            ("-2147483648", ScalarValue::Int32(Some(i32::MIN))),
            ("3000000000", ScalarValue::Int64(Some(3_000_000_000))),
            ("1e3", ScalarValue::Float64(Some(1000.0))),
            ("2.5d", ScalarValue::Float64(Some(2.5))),
            ("1F", ScalarValue::Float32(Some(1.0))),
            ("7S", ScalarValue::Int16(Some(7))),
            ("-128Y", ScalarValue::Int8(Some(-128))),
        ] {
            assert_eq!(number(text), Some(lit(expected)), "{text}");
        }
        for text in ["300Y", "1.5L", "123456789012345678901234567890123456789", "1x"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_in_order() {
        assert!(NAMES.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
