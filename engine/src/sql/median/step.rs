//! A pass for a median: an aggregate function that says where the median is to two bounds, see [`Step`].

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type, UInt64Type},
};
use datafusion::{
    common::{Result as DataFusionResult, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
    physical_expr::expressions::Literal,
};

use crate::error::{Code, Error};

/// Values that a task holds; 8 bytes each. When there are more, every other one goes.
const HELD: usize = 1 << 19;
/// A sample that a task passes on has at most this part of them.
const SAMPLE: usize = 4;
/// A double as a number that sorts like it does by `total_cmp`; and back.
fn order(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn of_double(value: f64) -> i64 {
    order(value.to_bits() as i64)
}

fn to_double(key: i64) -> f64 {
    f64::from_bits(order(key) as u64)
}

/// The aggregate function of a pass: `median_step(x, low, high, sample)`, see [`Step`].
pub(in crate::sql) fn function() -> Arc<AggregateUDF> {
    let arguments = vec![DataType::Float64, DataType::Int64, DataType::Int64, DataType::Boolean];
    Arc::new(AggregateUDF::new_from_impl(MedianStep { signature: Signature::exact(arguments, Volatility::Immutable) }))
}

/// Whether the two keys are the ones in the middle, or what these are between.
fn answer_fields() -> Fields {
    Fields::from(vec![
        Field::new("exact", DataType::Boolean, false),
        Field::new("low", DataType::Int64, false),
        Field::new("high", DataType::Int64, false),
    ])
}

/// The median, if there is any, or what it is between.
pub(super) fn read_answer(column: &ArrayRef) -> Option<Result<Option<f64>, (i64, i64)>> {
    let answer = column.as_struct_opt()?;
    if answer.is_null(0) {
        return Some(Ok(None));
    }
    let key = |at: usize| Some(answer.column(at).as_primitive_opt::<Int64Type>()?.value(0));
    let (low, high) = (key(1)?, key(2)?);
    Some(match answer.column(0).as_boolean_opt()?.value(0) {
        true if low == high => Ok(Some(to_double(low))),
        true => Ok(Some((to_double(low) + to_double(high)) / 2.0)),
        false => Err((low, high)),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MedianStep {
    signature: Signature,
}

impl AggregateUDFImpl for MedianStep {
    fn name(&self) -> &str {
        "median_step"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Struct(answer_fields()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let field = |name: &str, data_type| Arc::new(Field::new(format!("{}[{name}]", args.name), data_type, false));
        let counts = ["below", "at_low", "between", "at_high", "above", "stride"];
        let held = DataType::new_list(DataType::Int64, true);
        Ok(counts.into_iter().map(|name| field(name, DataType::UInt64)).chain([field("held", held)]).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let literal = |at: usize| args.exprs.get(at)?.downcast_ref::<Literal>().map(Literal::value);
        match (literal(1), literal(2), literal(3)) {
            (
                Some(ScalarValue::Int64(Some(low))),
                Some(ScalarValue::Int64(Some(high))),
                Some(ScalarValue::Boolean(Some(sample))),
            ) => Ok(Box::new(Step { sample: *sample, ..Step::new(*low, *high, HELD) })),
            _ => Err(Error::new(Code::InvalidSql, "median_step takes two bounds and a boolean").into()),
        }
    }
}

/// Values, as keys that sort like them, by where they are to two bounds.
struct Step {
    low: i64,
    high: i64,
    below: u64,
    at_low: u64,
    between: u64,
    at_high: u64,
    above: u64,
    /// Values between the bounds: about each `stride`-th of a task. First those of this task, then those of others.
    held: Vec<(u64, Vec<i64>)>,
    /// Values until the next one is held.
    skip: u64,
    /// State of a random generator: values may come in cycles.
    random: u64,
    /// Values that are held at most.
    room: usize,
    /// The values are a sample: the answer is what the median of all may be between.
    sample: bool,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Step({} between {} and {})", self.between, to_double(self.low), to_double(self.high))
    }
}

impl Step {
    fn new(low: i64, high: i64, room: usize) -> Self {
        let (below, at_low, between, at_high, above) = Default::default();
        Self {
            low,
            high,
            below,
            at_low,
            between,
            at_high,
            above,
            held: vec![(1, Vec::new())],
            skip: 0,
            random: 1,
            room,
            sample: false,
        }
    }

    fn push(&mut self, keys: impl Iterator<Item = i64>) {
        for key in keys {
            // Without branches: most keys are out of all bounds but the first.
            self.below += u64::from(key < self.low);
            self.above += u64::from(key > self.high);
            match key {
                key if key < self.low || key > self.high => {}
                key if key == self.low => self.at_low += 1,
                key if key == self.high => self.at_high += 1,
                key => self.hold(key),
            }
        }
    }

    fn hold(&mut self, key: i64) {
        self.between += 1;
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let Some((stride, held)) = self.held.first_mut() else { return };
        held.push(key);
        if held.len() >= self.room {
            thin(stride, held, self.room / 2);
        }
        // Knuth's MMIX; the first bits are the best.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.skip = (self.random >> 33) % (2 * *stride - 1);
    }

    /// What this task saw itself.
    fn state(&mut self) -> (Vec<u64>, Vec<i64>) {
        let (mut stride, mut held) = self.held.swap_remove(0);
        if stride > 1 {
            thin(&mut stride, &mut held, self.room / SAMPLE);
        }
        (vec![self.below, self.at_low, self.between, self.at_high, self.above, stride], held)
    }

    fn merge(&mut self, counts: [u64; 5], stride: u64, held: Vec<i64>) {
        let [below, at_low, between, at_high, above] = counts;
        self.below += below;
        self.at_low += at_low;
        self.between += between;
        self.at_high += at_high;
        self.above += above;
        self.held.push((stride, held));
        // However many tasks there are.
        while self.held.iter().map(|(_, held)| held.len()).sum::<usize>() > 4 * self.room {
            let many = self.held.iter().filter(|(_, held)| held.len() > 1);
            let Some(finest) = many.map(|(stride, _)| *stride).min() else { break };
            for (stride, held) in self.held.iter_mut().filter(|(stride, _)| *stride == finest) {
                let half = held.len().div_ceil(2);
                thin(stride, held, half);
            }
        }
    }

    /// Whether these are the two keys in the middle, or what they are between; `None` where there is no value. Of a sample, what those of all
    /// values may be between; `None` where it has too few to say.
    fn answer(&mut self) -> Option<(bool, i64, i64)> {
        let rows = self.below + self.at_low + self.between + self.at_high + self.above;
        let last = rows.checked_sub(1)?;
        // Six times the deviation, as below.
        let margin = if self.sample { (3.0 * (rows as f64).sqrt()) as u64 } else { 0 };
        if margin > last / 2 {
            return None;
        }
        let (first, second) = ((last / 2).saturating_sub(margin), rows / 2 + margin);
        let (first, second) = (self.at(first), self.at(second.min(last)));
        Some(match (first, second) {
            (Ok(low), Ok(high)) => (!self.sample, low, high),
            (first, second) => {
                let within = |at: Result<i64, (i64, i64)>| at.map_or_else(|range| range, |key| (key, key));
                let ((low, _), (_, high)) = (within(first), within(second));
                (false, low, high)
            }
        })
    }

    /// The key at a place in the order of all, from 0; or what it is between.
    fn at(&mut self, rank: u64) -> Result<i64, (i64, i64)> {
        let Some(rank) = rank.checked_sub(self.below) else { return Err((i64::MIN, self.low)) };
        let Some(rank) = rank.checked_sub(self.at_low) else { return Ok(self.low) };
        let Some(beyond) = rank.checked_sub(self.between) else { return self.inside(rank) };
        if beyond < self.at_high { Ok(self.high) } else { Err((self.high, i64::MAX)) }
    }

    /// The key at a place among those between the bounds.
    fn inside(&mut self, rank: u64) -> Result<i64, (i64, i64)> {
        let coarsest = self.held.iter().map(|(stride, _)| *stride).max().unwrap_or(1);
        if coarsest == 1 {
            let keys: Vec<i64> = self.held.drain(..).flat_map(|(_, keys)| keys).collect();
            self.held.push((1, keys));
            let rank = usize::try_from(rank).unwrap_or(usize::MAX);
            let keys = self.held.first_mut().filter(|(_, keys)| rank < keys.len());
            return keys.map(|(_, keys)| *keys.select_nth_unstable(rank).1).ok_or((self.low, self.high));
        }
        let keys = self.held.iter().flat_map(|(stride, keys)| keys.iter().map(|key| (*key, *stride)));
        let mut keys: Vec<(i64, u64)> = keys.collect();
        keys.sort_unstable();
        // Six times the deviation of the share of a sample that is below a value; but the bounds must become closer.
        let between = self.between as f64;
        let error = (3.0 * (between * coarsest as f64).sqrt()).min(between / 4.0);
        // Strides are a little more than what they stand for.
        let share = keys.iter().map(|(_, stride)| *stride as f64).sum::<f64>() / between;
        let (least, most) = ((rank as f64 - error) * share, (rank as f64 + error) * share);
        let (mut low, mut high, mut before) = (self.low, self.high, 0.0);
        for (key, stride) in keys {
            if before < least {
                low = key;
            }
            before += stride as f64;
            if before > most {
                high = key;
                break;
            }
        }
        Err((low, high))
    }
}

/// Leaves at most so many keys, evenly chosen.
fn thin(stride: &mut u64, keys: &mut Vec<i64>, most: usize) {
    let each = keys.len().div_ceil(most.max(1)).max(1);
    *keys = keys.iter().step_by(each).copied().collect();
    *stride *= each as u64;
}

impl Accumulator for Step {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let doubles: &Float64Array = values[0].as_primitive::<Float64Type>();
        match doubles.null_count() {
            0 => self.push(doubles.values().iter().map(|value| of_double(*value))),
            _ => self.push(doubles.iter().flatten().map(of_double)),
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        if self.held.len() != 1 {
            return Err(Error::new(Code::Internal, "a median's values are merged once").into());
        }
        let (counts, held) = Step::state(self);
        let offsets = OffsetBuffer::from_lengths([held.len()]);
        let field = Arc::new(Field::new_list_field(DataType::Int64, true));
        let held = ListArray::try_new(field, offsets, Arc::new(Int64Array::from(held)), None)?;
        let counts = counts.into_iter().map(ScalarValue::from);
        Ok(counts.chain([ScalarValue::List(Arc::new(held))]).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let held = states[6].as_list::<i32>();
        for row in 0..held.len() {
            let count = |at: usize| states[at].as_primitive::<UInt64Type>().value(row);
            let keys = held.value(row).as_primitive::<Int64Type>().values().to_vec();
            self.merge([0, 1, 2, 3, 4].map(count), count(5), keys);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let Some((exact, low, high)) = self.answer() else {
            return ScalarValue::try_new_null(&DataType::Struct(answer_fields()));
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![exact])),
            Arc::new(Int64Array::from(vec![low])),
            Arc::new(Int64Array::from(vec![high])),
        ];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(answer_fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.held.iter().map(|(_, keys)| keys.capacity() * size_of::<i64>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Bounds, PASSES},
        *,
    };

    /// The median by sorting, as DataFusion has it.
    fn sorted(mut values: Vec<f64>) -> Option<f64> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let (low, high) = (values[last / 2], values[values.len() / 2]);
        Some(if low.to_bits() == high.to_bits() { low } else { (low + high) / 2.0 })
    }

    /// The median by passes over parts, and their number; the first one has these bounds.
    fn stepped(parts: &[Vec<f64>], room: usize, guess: (i64, i64)) -> (Option<f64>, usize) {
        let mut bounds = Bounds { asked: guess, ..Bounds::NONE };
        for pass in 1..PASSES {
            let (low, high) = bounds.asked;
            let mut all = Step::new(low, high, room);
            for part in parts {
                let mut step = Step::new(low, high, room);
                // Batches with and without nulls.
                let (some, others) = part.split_at(part.len() / 2);
                step.update_batch(&[Arc::new(Float64Array::from(some.to_vec()))]).unwrap();
                let others = others.iter().flat_map(|value| [Some(*value), None]);
                step.update_batch(&[Arc::new(others.collect::<Float64Array>())]).unwrap();
                let state = Accumulator::state(&mut step).unwrap();
                let state: Vec<ArrayRef> = state.iter().map(|value| value.to_array().unwrap()).collect();
                all.merge_batch(&state).unwrap();
            }
            match read_answer(&all.evaluate().unwrap().to_array().unwrap()).unwrap() {
                Ok(value) => return (value, pass),
                Err(closer) => {
                    let next = bounds.closer(closer);
                    assert!(next.asked != bounds.asked && next.asked.0 <= next.asked.1, "{bounds:?} {next:?}");
                    bounds = next;
                }
            }
        }
        panic!("not found");
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -1e3..1e3,
            2 => (0..6i32).prop_map(f64::from),
            1 => prop::sample::select(vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN]),
        ]
    }

    proptest! {
        #[test]
        fn passes_find_the_median(
            parts in prop::collection::vec(prop::collection::vec(value(), 0..400), 1..5), room in 8..500usize, in_order: bool,
            guess in prop::option::of((value(), value())),
        ) {
            let mut parts = parts;
            let guess = guess.map(|(one, other)| (of_double(one), of_double(other)));
            let guess = guess.map_or(Bounds::NONE.asked, |(one, other)| (one.min(other), one.max(other)));
            if in_order {
                // The worst case: parts that have nothing in common.
                let mut all = parts.concat();
                all.sort_unstable_by(f64::total_cmp);
                let size = all.len().div_ceil(parts.len()).max(1);
                parts = all.chunks(size).map(<[f64]>::to_vec).collect();
            }
            let (found, _) = stepped(&parts, room, guess);
            prop_assert_eq!(found.map(f64::to_bits), sorted(parts.concat()).map(f64::to_bits));
        }

        #[test]
        fn keys_sort_like_doubles(one: u64, other: u64) {
            let (one, other) = (f64::from_bits(one), f64::from_bits(other));
            prop_assert_eq!(of_double(one).cmp(&of_double(other)), one.total_cmp(&other));
            prop_assert_eq!(to_double(of_double(one)).to_bits(), one.to_bits());
        }
    }

    #[test]
    fn many_parts_are_no_more_to_hold() {
        let parts: Vec<Vec<f64>> =
            (0..100).map(|part| (0..900).map(|row| f64::from(row * 100 + part)).collect()).collect();
        let mut all = Step::new(i64::MIN, i64::MAX, 1000);
        for part in &parts {
            let mut step = Step::new(i64::MIN, i64::MAX, 1000);
            step.update_batch(&[Arc::new(Float64Array::from(part.clone()))]).unwrap();
            let (counts, held) = Step::state(&mut step);
            all.merge([0, 1, 2, 3, 4].map(|at| counts[at]), counts[5], held);
        }
        assert!(all.held.iter().map(|(_, held)| held.len()).sum::<usize>() <= 4000, "{all:?}");
        assert_eq!(stepped(&parts, 1000, Bounds::NONE.asked).0, sorted(parts.concat()));
    }

    #[test]
    fn two_passes_do_for_many_values() {
        let value = |row: u64| f64::from((row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u32);
        let parts: Vec<Vec<f64>> =
            (0..4).map(|part| (0..300_000).map(|row| value(part * 300_000 + row)).collect()).collect();
        let (found, passes) = stepped(&parts, 1 << 14, Bounds::NONE.asked);
        assert_eq!((found, passes), (sorted(parts.concat()), 2));
    }
}
