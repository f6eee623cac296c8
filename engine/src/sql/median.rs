//! Exact medians over whole tables, in memory that does not grow with them.
//!
//! DataFusion's `median` brings every value into one task. Here an aggregation without groups over large tables is done in passes, before the query that it
//! is part of ([`Medians`]). A pass looks at the values within bounds: how many are below, at and above them, and those between, or a sample where they are
//! many ([`step`]). That gives the median, or bounds that are about a hundred times closer. Two passes do for 10⁸ values; of a large table the first
//! is over parts of four files only. The first pass over all does the aggregation's other functions as well.

mod step;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field},
};
use datafusion::{
    catalog::default_table_source::{provider_as_source, source_as_provider},
    common::{
        DFSchema, Result as DataFusionResult, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Values, Volatility, expr::AggregateFunction,
        lit,
    },
};

pub(super) use step::function;
use step::read_answer;

use crate::{
    delta::DeltaTableScan,
    error::{Code, Error, Result},
};

/// Each pass has closer bounds, but for the one that finds a guess wrong.
const PASSES: usize = 64;
/// How many times as many rows as passes are worth are looked at as a sample first: a pass does for fewer.
const SAMPLED_ROWS: u64 = 2;

/// An aggregation whose medians are found in passes over its input.
#[derive(Debug)]
pub struct Medians {
    plan: LogicalPlan,
    aggregate: Aggregate,
    /// One for each function of the aggregation.
    results: Vec<Found>,
    passes: usize,
    /// The next pass is over a sample. What it gives is proven by the one after it.
    sample: bool,
}

#[derive(Debug, Clone)]
enum Found {
    /// Not yet known, and no median that is found here.
    Other,
    Between(Bounds),
    Value(ScalarValue),
}

/// What a median is between, as keys that sort like the values.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// For sure.
    proven: (i64, i64),
    /// In all likelihood; the next pass will tell.
    asked: (i64, i64),
}

impl Bounds {
    const NONE: Self = Self { proven: (i64::MIN, i64::MAX), asked: (i64::MIN, i64::MAX) };

    /// What follows from a pass that says where the median is: [`step`].
    fn closer(self, (low, high): (i64, i64)) -> Self {
        let (asked, mut proven) = (self.asked, self.proven);
        if high == asked.0 {
            proven.1 = proven.1.min(high);
        } else if low == asked.1 {
            proven.0 = proven.0.max(low);
        } else if low >= asked.0 && high <= asked.1 {
            proven = (proven.0.max(asked.0), proven.1.min(asked.1));
        }
        Self { proven, asked: (low.max(proven.0), high.min(proven.1)) }
    }
}

impl Medians {
    /// The first aggregation of a plan that has no groups, reads at least `rows` rows of a table, and has a median of doubles.
    pub fn of(plan: &LogicalPlan, rows: u64) -> Result<Option<Self>> {
        let (mut found, mut sample) = (None, false);
        plan.apply(|node| {
            if matches!(node, LogicalPlan::Subquery(_)) {
                return Ok(TreeNodeRecursion::Jump);
            }
            if let LogicalPlan::Aggregate(aggregate) = node
                && aggregate.group_expr.is_empty()
                && aggregate.aggr_expr.iter().any(|expr| argument(expr, &aggregate.input).is_some())
                // What other functions collect may be too much for a plan to carry.
                && !aggregate.schema.fields().iter().any(|field| field.data_type().is_nested())
                && is_same_each_time(node)?
                && let Some(of) = rows_of_table(&aggregate.input)?
                && of >= rows
            {
                sample = of >= rows.saturating_mul(SAMPLED_ROWS);
                found = Some(aggregate.clone());
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found.map(|aggregate| {
            let start = |expr| match argument(expr, &aggregate.input) {
                Some(_) => Found::Between(Bounds::NONE),
                None => Found::Other,
            };
            let results = aggregate.aggr_expr.iter().map(start).collect();
            Self { plan: plan.clone(), aggregate, results, passes: 0, sample }
        }))
    }

    /// What to ask next; `None` when all is known.
    pub fn pass(&self) -> Result<Option<LogicalPlan>> {
        let asked = self.results.iter().zip(&self.aggregate.aggr_expr).filter_map(|(found, expr)| match found {
            Found::Other => (!self.sample).then(|| expr.clone()),
            Found::Between(Bounds { asked: (low, high), .. }) => {
                let of = argument(expr, &self.aggregate.input)?.clone();
                Some(function().call(vec![of, lit(*low), lit(*high), lit(self.sample)]))
            }
            Found::Value(_) => None,
        });
        let asked: Vec<Expr> = asked.collect();
        if asked.is_empty() {
            return Ok(None);
        }
        if self.passes >= PASSES {
            return Err(Error::new(Code::Internal, "a median was not found"));
        }
        let input = self.aggregate.input.as_ref();
        let input = if self.sample { sampled(input)? } else { input.clone() };
        Ok(Some(LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), asked)?.build()?))
    }

    /// Takes what [`Medians::pass`] gave.
    pub fn take(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let wrong = || Error::new(Code::Internal, "a pass for a median gave something else than a row");
        let mut rows = batches.iter().filter(|batch| batch.num_rows() > 0);
        let (Some(row), None) = (rows.next(), rows.next()) else { return Err(wrong()) };
        let mut columns = row.columns().iter();
        let is_asked = |found: &&mut Found| match found {
            Found::Between(_) => true,
            Found::Other => !self.sample,
            Found::Value(_) => false,
        };
        for found in self.results.iter_mut().filter(is_asked) {
            let column = columns.next().ok_or_else(wrong)?;
            *found = match found {
                Found::Between(bounds) => match read_answer(column).ok_or_else(wrong)? {
                    // Too few values in the sample.
                    Ok(_) if self.sample => continue,
                    Err(asked) if self.sample => Found::Between(Bounds { asked, ..*bounds }),
                    Ok(median) => Found::Value(ScalarValue::Float64(median)),
                    Err(closer) => Found::Between(bounds.closer(closer)),
                },
                _ => Found::Value(ScalarValue::try_from_array(column, 0)?),
            };
        }
        self.sample = false;
        self.passes += 1;
        Ok(())
    }

    /// The plan with the aggregation's results in its place.
    pub fn into_plan(self) -> Result<LogicalPlan> {
        let value = |found| match found {
            Found::Value(value) => Ok(value),
            _ => Err(Error::new(Code::Internal, "a median is not known yet")),
        };
        let values = self.results.into_iter().map(value).collect::<Result<Vec<ScalarValue>>>()?;
        // Types that the aggregation has before it is analyzed need not be those of its results.
        let fields = self.aggregate.schema.iter().zip(&values).map(|((qualifier, field), value)| {
            (qualifier.cloned(), Arc::new(Field::new(field.name(), value.data_type(), true)))
        });
        let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default())?);
        let row = values.into_iter().map(|value| Expr::Literal(value, None)).collect();
        let mut known = Some(LogicalPlan::Values(Values { schema, values: vec![row] }));
        let plan = self.plan.transform_down(|node| match &node {
            LogicalPlan::Aggregate(aggregate) if *aggregate == self.aggregate => match known.take() {
                Some(known) => Ok(Transformed::new(known, true, TreeNodeRecursion::Stop)),
                None => Ok(Transformed::no(node)),
            },
            _ => Ok(Transformed::no(node)),
        });
        let plan = plan?.data;
        match known {
            None => Ok(plan),
            Some(_) => Err(Error::new(Code::Internal, "an aggregation is not in its own plan")),
        }
    }
}

/// What a median is of; `None` for any other function.
fn argument<'a>(expr: &'a Expr, input: &LogicalPlan) -> Option<&'a Expr> {
    let expr = if let Expr::Alias(alias) = expr { &alias.expr } else { expr };
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else { return None };
    let [argument] = params.args.as_slice() else { return None };
    let plain = !params.distinct && params.filter.is_none() && params.order_by.is_empty();
    let is_double = matches!(argument.get_type(input.schema()), Ok(DataType::Float64));
    (func.name() == "median" && plain && is_double).then_some(argument)
}

/// Whether a plan's node has nothing that gives something else in another pass, or that is not in the plan.
fn is_same_each_time(node: &LogicalPlan) -> DataFusionResult<bool> {
    let mut same = true;
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            same &= match expr {
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => false,
                Expr::OuterReferenceColumn(..) => false,
                Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                _ => true,
            };
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(same)
}

/// Rows of the table, where a plan is one table's rows, filtered and projected.
fn rows_of_table(plan: &LogicalPlan) -> DataFusionResult<Option<u64>> {
    let (mut rows, mut plain) = (None, true);
    plan.apply(|node| {
        plain &= is_same_each_time(node)?;
        plain &= match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => true,
            LogicalPlan::TableScan(scan) => match source_as_provider(&scan.source) {
                Ok(provider) => provider.downcast_ref::<DeltaTableScan>().is_some_and(|scan| {
                    rows = Some(scan.files().rows().unwrap_or(u64::MAX));
                    true
                }),
                Err(_) => false,
            },
            _ => false,
        };
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(rows.filter(|_| plain))
}

/// The same plan over some row groups of its table.
fn sampled(plan: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let sampled = plan.clone().transform_up(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        if let Some(all) = source_as_provider(&scan.source)?.downcast_ref::<DeltaTableScan>() {
            scan.source = provider_as_source(Arc::new(all.clone().with_sample()));
        }
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    Ok(sampled?.data)
}
