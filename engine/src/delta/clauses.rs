//! Merges that do other things than to update and to insert all: which, and the plan that says so of each row.
//!
//! The source's files are joined with the table's files that may have its keys; each joined row gets an [`Action`], by which the writer
//! ([`super::actions`]) writes new rows, keys and change data. [`super::matching`] finds the rows of these keys, which are retired as in any merge.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::{
    common::{Column, JoinType, ScalarValue, TableReference},
    datasource::provider_as_source,
    execution::SessionState,
    logical_expr::{BinaryExpr, Cast, Expr, LogicalPlan, LogicalPlanBuilder, Operator, lit, when},
};
use deltalake_core::kernel::{StructField, StructType};

use super::{
    actions::{ACTION_COLUMN, Action, ActionSpec, BEFORE},
    commit::MergeCounts,
    files::DataFiles,
    merge::{Touched, check_files, lost},
    scan::DeltaTableScan,
    written::{WriteOutcome, WriteSummary},
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
    sql,
};

/// Column of a history: since when the row is so.
pub const VALID_FROM: &str = "valid_from";
/// Column of a history: until when it was; null for the current row.
pub const VALID_TO: &str = "valid_to";
/// Column of a history: whether it still is.
pub const IS_CURRENT: &str = "is_current";

pub(super) const SOURCE: &str = "source";
pub(super) const TARGET: &str = "target";

/// What becomes of a row of the table when the source has its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// It gets the source's values.
    Update,
    /// It is deleted.
    Delete,
    /// It stays.
    Ignore,
}

/// What becomes of matched rows for which a condition is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedClause {
    /// What becomes of them.
    pub action: Matched,
    /// SQL predicate over `source.x` and `target.x`; none: always.
    pub condition: Option<String>,
}

/// Which rows of the source are inserted, of those whose key is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserts {
    /// All.
    All,
    /// Those for which a SQL predicate over `source.x` is true.
    If(String),
    /// None.
    None,
}

/// A table that keeps what its rows were (slowly changing dimension, type 2).
///
/// A row whose values changed stays, with `valid_to` and without `is_current`, and the new one is added. Where the new one is valid from the same
/// moment it replaces the current one; an earlier one is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The source's column that says since when its row is so.
    pub valid_from: Option<String>,
    /// The moment where there is no such column or value, microseconds since 1970.
    pub at: i64,
    /// The source's column by which rows of one key follow each other, and whether the greatest value is the last. None: each key has one row.
    pub order: Option<(String, bool)>,
}

/// What a merge does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clauses {
    /// For keys of both: the first clause whose condition is true decides; without one the row stays.
    pub matched: Vec<MatchedClause>,
    /// For keys that only the source has.
    pub inserts: Inserts,
    /// For keys that only the table has: whether the row is deleted.
    pub deletes_absent: bool,
    /// Columns that an update sets; none: all.
    pub update: Vec<String>,
    /// Set: rows are not overwritten; the rest says nothing then.
    pub history: Option<History>,
}

impl Default for Clauses {
    fn default() -> Self {
        Self {
            matched: vec![MatchedClause { action: Matched::Update, condition: None }],
            inserts: Inserts::All,
            deletes_absent: false,
            update: Vec::new(),
            history: None,
        }
    }
}

impl Clauses {
    /// Whether it is the usual upsert: update all, insert all.
    pub fn is_upsert(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a table that does not exist yet gets the source's rows as they are.
    pub fn starts_with_all(&self) -> bool {
        self.history.is_none() && self.inserts == Inserts::All
    }

    /// Fails for clauses that make no sense together.
    pub fn check(&self, table: &TableName, keys: &[String]) -> Result<()> {
        let wrong =
            |what: &str, hint: &str| Err(Error::new(Code::InvalidSpec, format!("table {table}: {what}")).hint(hint));
        let usual = Self { history: self.history.clone(), ..Self::default() };
        if self.history.is_some() && *self != usual {
            return wrong(
                "`mode: history` has no when_matched, when_not_matched, when_not_matched_by_source or update",
                "a history closes the rows that changed and adds new ones; leave the others out, or use `mode: merge`",
            );
        }
        let last = self.matched.len().saturating_sub(1);
        if self.matched.iter().take(last).any(|clause| clause.condition.is_none()) {
            return wrong(
                "when_matched has a clause behind one without a condition, which is never reached",
                "put the one without a condition last",
            );
        }
        let empty = |condition: &Option<String>| condition.as_ref().is_some_and(|text| text.trim().is_empty());
        if self.matched.iter().any(|clause| empty(&clause.condition))
            || matches!(&self.inserts, Inserts::If(text) if text.trim().is_empty())
        {
            return wrong("a clause has an empty condition", "write a SQL predicate, or the clause without `_if`");
        }
        let updates = self.matched.iter().any(|clause| clause.action == Matched::Update);
        if !self.update.is_empty() && !updates {
            return wrong(
                "`update` names columns, but when_matched updates nothing",
                "add an `update` or `update_if` clause to when_matched, or leave `update` out",
            );
        }
        if let Some(key) = self.update.iter().find(|column| keys.contains(column)) {
            let what = format!("`update` names `{key}`, which is in the primary key");
            return wrong(&what, "matched rows have the same key already; leave it out");
        }
        if let Some((_, twice)) =
            self.update.iter().enumerate().find(|(at, column)| self.update[..*at].contains(column))
        {
            return wrong(&format!("`update` names `{twice}` twice"), "remove one of them");
        }
        let changes = self.matched.iter().any(|clause| clause.action != Matched::Ignore);
        if !changes && self.inserts == Inserts::None && !self.deletes_absent {
            return wrong(
                "its merge ignores every row",
                "let when_matched, when_not_matched or when_not_matched_by_source do something",
            );
        }
        Ok(())
    }

    /// The source's columns as the table will have them: those that an update leaves alone need not be there, and a history has its own.
    pub fn complete(
        &self,
        table: &TableName,
        existing: Option<&StructType>,
        incoming: &StructType,
    ) -> Result<StructType> {
        let mut fields: Vec<StructField> = incoming.fields().cloned().collect();
        if self.history.is_some() {
            if let Some(taken) = fields.iter().find(|field| {
                [VALID_FROM, VALID_TO, IS_CURRENT].iter().any(|name| field.name.eq_ignore_ascii_case(name))
            }) {
                return Err(Error::new(
                    Code::InvalidSpec,
                    format!("table {table}: a history has a column `{}` of its own", taken.name),
                )
                .hint("give the source's column another name with AS; `valid_from:` may name it"));
            }
            if existing.is_some_and(|existing| existing.field(IS_CURRENT).is_none()) {
                return Err(Error::new(Code::InvalidSpec, format!("table {table} is there and is no history"))
                    .hint("make the history a table of its own; rows that are there already have no `valid_from`"));
            }
            fields.extend([
                StructField::nullable(VALID_FROM, deltalake_core::kernel::DataType::TIMESTAMP),
                StructField::nullable(VALID_TO, deltalake_core::kernel::DataType::TIMESTAMP),
                StructField::nullable(IS_CURRENT, deltalake_core::kernel::DataType::BOOLEAN),
            ]);
        } else if let (false, Some(existing)) = (self.update.is_empty(), existing) {
            let missing = existing
                .fields()
                .filter(|field| incoming.field(&field.name).is_none() && !self.update.contains(&field.name));
            fields.extend(missing.cloned());
        }
        StructType::try_new(fields).map_err(|error| Error::new(Code::SchemaMismatch, format!("table {table}: {error}")))
    }
}

/// A merge by clauses, ready to be planned.
#[derive(Debug)]
pub struct ClauseMerge<'a> {
    /// Storage root.
    pub storage: &'a Storage,
    /// The table.
    pub table: &'a TableName,
    /// What it does.
    pub clauses: &'a Clauses,
    /// The primary key.
    pub keys: &'a [String],
    /// The source's columns.
    pub incoming: SchemaRef,
    /// The table's columns afterwards.
    pub columns: SchemaRef,
    /// Whether the table has a change data feed.
    pub changes: bool,
}

impl ClauseMerge<'_> {
    /// How its rows are written.
    pub fn actions(&self) -> ActionSpec {
        ActionSpec { keys: self.match_keys(), keys_that_stay: self.clauses.deletes_absent, changes: self.changes }
    }

    /// The columns by which rows to be retired are found: of a history only the current ones are.
    pub fn match_keys(&self) -> Vec<String> {
        let current = self.clauses.history.iter().map(|_| IS_CURRENT.to_string());
        self.keys.iter().cloned().chain(current).collect()
    }

    /// Whether all files of the table are to be joined, not only those that may have the source's keys.
    pub fn joins_all(&self) -> bool {
        self.changes && self.clauses.deletes_absent
    }

    /// Fails for conditions and columns that can't be, before any work.
    pub fn check(&self, state: &SessionState) -> Result<()> {
        self.clauses.check(self.table, self.keys)?;
        let names = || self.incoming.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        if let Some(missing) = self.clauses.update.iter().find(|name| self.incoming.index_of(name).is_err()) {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {}: `update` names `{missing}`, which the source does not have", self.table),
            )
            .hint(format!("its columns are: {}", names())));
        }
        self.action(state)?;
        self.valid_from()?;
        Ok(())
    }

    /// The joined rows with their actions: the input of a write with [`ClauseMerge::actions`].
    pub fn plan(&self, state: &SessionState, source: DataFiles, target: DataFiles) -> Result<LogicalPlan> {
        let scan = |relation: &str, files: DataFiles| -> Result<LogicalPlanBuilder> {
            let scan = Arc::new(DeltaTableScan::from_files(self.storage, self.table, files)?);
            Ok(LogicalPlanBuilder::scan(TableReference::bare(relation), provider_as_source(scan), None)?)
        };
        let mut table = scan(TARGET, target)?;
        if self.clauses.history.is_some() {
            table = table.filter(of(TARGET, IS_CURRENT).is_true())?;
        }
        let on = |relation: &str| {
            self.keys.iter().map(|key| Column::new(Some(TableReference::bare(relation)), key)).collect::<Vec<_>>()
        };
        let kind = if self.joins_all() { JoinType::Full } else { JoinType::Left };
        let mut source = scan(SOURCE, source)?;
        if let Some(History { order: Some((order, greatest)), valid_from, .. }) = &self.clauses.history {
            if valid_from.is_none() {
                source = self.ranked(source, order, *greatest)?;
            }
            let joined = source.join(table.build()?, kind, (on(SOURCE), on(TARGET)), None)?;
            return self.chained(joined, order, *greatest);
        }
        let joined = source.join(table.build()?, kind, (on(SOURCE), on(TARGET)), None)?;
        let mut columns = Vec::new();
        for field in self.columns.fields() {
            columns.push(self.value(field)?.alias(field.name()));
        }
        columns.push(self.action(state)?.alias(ACTION_COLUMN));
        if self.changes || self.clauses.history.is_some() {
            let names = self.columns.fields().iter().map(|field| field.name());
            columns.extend(names.map(|name| of(TARGET, name).alias(format!("{BEFORE}{name}"))));
        }
        Ok(joined.project(columns)?.build()?)
    }

    /// A column of the row that comes into the table.
    fn value(&self, field: &Field) -> Result<Expr> {
        let name = field.name().as_str();
        let update = &self.clauses.update;
        Ok(match (&self.clauses.history, name) {
            (Some(_), VALID_FROM) => self.valid_from()?,
            (Some(_), VALID_TO) => Expr::Literal(ScalarValue::try_from(field.data_type())?, None),
            (Some(_), IS_CURRENT) => lit(true),
            _ if self.incoming.index_of(name).is_err() => of(TARGET, name),
            _ if update.is_empty() || self.keys.iter().chain(update).any(|set| set == name) => of(SOURCE, name),
            _ => when(self.is_in(TARGET)?, of(TARGET, name)).otherwise(of(SOURCE, name))?,
        })
    }

    /// Whether a joined row has a row of this side: there a key has no null.
    pub(super) fn is_in(&self, relation: &str) -> Result<Expr> {
        match self.keys.first() {
            Some(key) => Ok(of(relation, key).is_not_null()),
            None => {
                Err(Error::new(Code::InvalidSpec, format!("a merge into table {} needs a primary key", self.table)))
            }
        }
    }

    /// Since when a row of the source is so.
    pub(super) fn valid_from(&self) -> Result<Expr> {
        let Some(History { valid_from, at, order }) = &self.clauses.history else {
            return Ok(lit(ScalarValue::Null));
        };
        if valid_from.is_none() && order.is_some() {
            return Ok(Self::ranked_moment(*at));
        }
        let version = lit(ScalarValue::TimestampMicrosecond(Some(*at), Some("UTC".into())));
        let Some(name) = valid_from else { return Ok(version) };
        let Ok(field) = self.incoming.field_with_name(name) else {
            let names: Vec<&str> = self.incoming.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {}: valid_from names `{name}`, which the source does not have", self.table),
            )
            .hint(format!("its columns are: {}", names.join(", "))));
        };
        if !matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32) {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {}: valid_from names `{name}`, which is no timestamp or date", self.table),
            )
            .hint(format!("make it one in `columns`: to_timestamp({name}) AS {name}")));
        }
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let given = Expr::Cast(Cast::new(Box::new(of(SOURCE, name)), moment));
        Ok(when(given.clone().is_not_null(), given).otherwise(version)?)
    }

    /// The code of each joined row's [`Action`].
    fn action(&self, state: &SessionState) -> Result<Expr> {
        let code = |action: Action| lit(action as i8);
        let is_new = !self.is_in(TARGET)?;
        if self.clauses.history.is_some() {
            let distinct = |name: &str| {
                let (one, other) = (Box::new(of(SOURCE, name)), Box::new(of(TARGET, name)));
                Expr::BinaryExpr(BinaryExpr::new(one, Operator::IsDistinctFrom, other))
            };
            let values = self.incoming.fields().iter().filter(|field| !self.keys.contains(field.name()));
            let changed = values.map(|field| distinct(field.name())).reduce(Expr::or).unwrap_or(lit(false));
            let (from, known) = (self.valid_from()?, of(TARGET, VALID_FROM));
            return Ok(when(is_new, code(Action::Insert))
                .when(changed.is_not_true(), code(Action::Keep))
                .when(from.clone().eq(known.clone()), code(Action::Update))
                // One that was made without a moment is older than any.
                .when(from.lt(known).is_true(), code(Action::Keep))
                .otherwise(code(Action::Close))?);
        }
        let both = [(SOURCE, self.incoming.as_ref()), (TARGET, self.columns.as_ref())];
        let predicate = |clause: &str, relations: &[(&str, &Schema)], text: &str| {
            sql::plan_predicate(state, relations, text).map_err(|error| Error {
                message: format!("{clause} of table {}: {}", self.table, error.message),
                ..error
            })
        };
        let inserted = match &self.clauses.inserts {
            Inserts::All => code(Action::Insert),
            Inserts::None => code(Action::Ignore),
            Inserts::If(text) => {
                let holds = predicate("when_not_matched", &both[..1], text)?;
                when(holds.is_true(), code(Action::Insert)).otherwise(code(Action::Ignore))?
            }
        };
        let mut cases = when(!self.is_in(SOURCE)?, code(Action::Absent));
        cases = cases.when(is_new, inserted);
        for clause in &self.clauses.matched {
            let action = match clause.action {
                Matched::Update => Action::Update,
                Matched::Delete => Action::Delete,
                Matched::Ignore => Action::Keep,
            };
            match &clause.condition {
                None => return Ok(cases.otherwise(code(action))?),
                Some(text) => cases = cases.when(predicate("when_matched", &both, text)?.is_true(), code(action)),
            }
        }
        Ok(cases.otherwise(code(Action::Keep))?)
    }

    /// The files of keys that [`ClauseMerge::plan`]'s write gave, to be looked for.
    pub fn key_files(&self, outcome: &WriteOutcome) -> Result<DataFiles> {
        let keys = self.match_keys();
        let indices = keys.iter().map(|key| Ok(self.columns.index_of(key)?)).collect::<Result<Vec<_>>>()?;
        let columns = Arc::new(self.columns.project(&indices)?);
        DataFiles::try_new(self.table, columns, Vec::new(), outcome.key_files.clone())
    }

    /// Compares what the steps of the merge counted, and gives the counts for its commit.
    ///
    /// `source` is the number of the source's rows, which have different keys; `touched` what was found of the keys; `rewritten` the write of
    /// [`super::merge::rewrite_plan`] for copy-on-write.
    pub fn check_counts(
        &self,
        source: u64,
        outcome: &WriteOutcome,
        touched: &[Touched],
        rewritten: Option<&WriteSummary>,
    ) -> Result<MergeCounts> {
        let actions = outcome.summary.actions;
        if actions.source() > source {
            let keys = self.keys.join(", ");
            let what = format!("table {} has several rows with the same primary key ({keys})", self.table);
            return Err(Error::new(Code::DuplicateKey, what).hint(
                "a merge with clauses takes one row of each key; load the table again, with `order_by: COLUMN`",
            ));
        }
        if actions.source() != source {
            return Err(lost(&format!("{source} rows of the source became {}", actions.source())));
        }
        if self.changes && outcome.changed_rows != actions.changes() {
            return Err(lost(&format!("{} changes, {} were written", actions.changes(), outcome.changed_rows)));
        }
        let (retired, copied) = check_files(touched, rewritten)?;
        let absent = match retired.checked_sub(actions.retired()) {
            Some(absent) if self.clauses.deletes_absent => absent,
            Some(0) => 0,
            _ => return Err(lost(&format!("{} rows are to go, {retired} were found", actions.retired()))),
        };
        if self.joins_all() && absent != actions.absent {
            return Err(lost(&format!("{absent} rows have no row of the source, changes say {}", actions.absent)));
        }
        Ok(MergeCounts {
            source,
            inserted: actions.inserted,
            updated: actions.updated + actions.closed,
            deleted: actions.deleted + absent,
            ignored: actions.ignored + actions.kept,
            copied,
        })
    }
}

pub(super) fn of(relation: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(relation)), name))
}
