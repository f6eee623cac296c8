//! Relations and SELECT items that are Spark's and not DataFusion's: `LATERAL VIEW`, generators (`explode` and its kin), `PIVOT`, `UNPIVOT`,
//! `struct.*`, aliases of the same SELECT, tuples that are compared with a subquery, `VALUES` and `range` with Spark's names.
//!
//! The syntax tree is brought into shapes that the planner takes ([`tree`]), of which some are planned here, by types ([`planner`], [`generators`],
//! [`pivot`]). What a `*` stands for is known by types only, so an item such as `explode(x)` (one column of an array, two of a map) or `s.*` is first a
//! *question*: planning answers it ([`Answers`]) and ends, and the statement is planned again with the answer.
mod aliases;
mod generators;
mod pivot;
pub(super) mod planner;
mod tree;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use datafusion::{
    common::{DFSchema, Result},
    logical_expr::Expr,
    sql::sqlparser::ast::VisitMut,
};

use super::{calls::SparkPlanner, kernel::wrong_call};

pub(super) use generators::{is_generator, with_positions};
pub(super) use tree::generator_of;

/// How the fields of a struct are named that stands for a tuple which a subquery's rows are compared with.
pub(super) const TUPLE: &str = "__tuple_";

/// Marked calls, see [`super::calls`].
pub(super) const ASK: &str = " ask";
pub(super) const GENERATE: &str = " generate";
pub(super) const ALIAS: &str = " alias";

/// Marked calls that the typed hook plans here.
pub(super) const MARKS: [&str; 3] = [ASK, GENERATE, ALIAS];

/// The columns that items of a statement stand for, by the items' places in the source.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Answers {
    pub(super) fn get(&self, item: &str) -> Option<Vec<String>> {
        self.0.lock().ok()?.get(item).cloned()
    }

    fn set(&self, item: &str, columns: Vec<String>) {
        if let Ok(mut answers) = self.0.lock() {
            answers.insert(item.to_string(), columns);
        }
    }

    /// Notes how a name is written that is made while planning.
    fn spell(&self, name: &str) {
        self.set(&format!("spelling {}", name.to_ascii_lowercase()), vec![name.to_string()]);
    }

    fn spelling(&self, name: &str) -> String {
        self.get(&format!("spelling {name}")).and_then(|mut names| names.pop()).unwrap_or_else(|| name.to_string())
    }

    /// Every name as it is written.
    pub(super) fn spellings(&self) -> Vec<String> {
        let Ok(answers) = self.0.lock() else { return Vec::new() };
        let names = answers.values().flatten();
        names.map(|name| name.rsplit('\u{0}').next().unwrap_or_default().to_string()).collect()
    }

    /// Notes how the tables write their columns.
    pub(super) fn spell_all(&self, names: &[String]) {
        names.iter().for_each(|name| self.spell(name));
    }

    pub(super) fn count(&self) -> usize {
        let asked = |item: &&String| !item.starts_with("spelling ");
        self.0.lock().map(|answers| answers.keys().filter(asked).count()).unwrap_or_default()
    }
}

/// Brings a tree into the planner's shapes, as far as the answers go.
pub(super) fn shape<T: VisitMut>(
    tree: &mut T,
    answers: &Answers,
    place: &dyn Fn(datafusion::sql::sqlparser::tokenizer::Span) -> String,
) -> crate::error::Result<()> {
    tree::shape(tree, answers, place)
}

/// Plans a marked call; its first argument only holds the place of the name.
pub(super) fn plan_mark(planner: &SparkPlanner, name: &str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    match name {
        ASK => generators::answer(planner, args, schema),
        GENERATE => generators::item(planner, args, schema),
        ALIAS => aliases::choose(args, schema),
        _ => Err(wrong_call(format!("there is no `{name}`"))),
    }
}
