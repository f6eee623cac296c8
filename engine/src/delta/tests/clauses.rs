//! Merges by clauses against a plain model and the library's own merge; and their change data.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    datasource::provider_as_source,
    execution::runtime_env::RuntimeEnv,
    logical_expr::LogicalPlanBuilder,
    prelude::{Expr, SessionContext, col, lit},
};
use deltalake_core::{
    kernel::{Action, Add},
    logstore::get_actions,
};
use proptest::{collection::btree_map, prelude::*, sample::subsequence, test_runner::Config};

use super::{Lake, name, render, text, touched};
use crate::{
    TableName,
    delta::{
        ClauseMerge, Clauses, CommitLabel, DataFiles, DeltaTableScan, SchemaPolicy, Table, WriteOutcome, WriteSpec,
        actions::CHANGE_TYPE,
        catalog,
        clauses::{History, Inserts, Matched, MatchedClause},
        commit::{self, MergeCommit, MergeCounts},
        feature,
        matching::Match,
        merge::Touched,
        schema, write,
    },
    error::{Code, Result},
    session::{SessionOptions, session_config, session_state},
};

/// `sorts` joins as large merges do.
fn lake_that(sorts: bool, vectors: bool, changes: bool, key_bytes: u64) -> Lake {
    let config = session_config(&SessionOptions { target_partitions: 3, ..SessionOptions::default() })
        .with_repartition_file_min_size(1)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", 0)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", 0)
        .set_bool("datafusion.optimizer.prefer_hash_join", !sorts);
    let state = session_state(config, Arc::new(RuntimeEnv::default())).unwrap();
    Lake { vectors, changes, key_bytes, session: SessionContext::new_with_state(state), ..Lake::new() }
}

pub(super) fn lake(vectors: bool, changes: bool) -> Lake {
    lake_that(false, vectors, changes, 1 << 20)
}

impl Lake {
    /// A merge by clauses as the scheduler drives it.
    pub(super) async fn merge_by(
        &self,
        table: &TableName,
        batches: Vec<RecordBatch>,
        keys: &[&str],
        clauses: &Clauses,
    ) -> Result<MergeCounts> {
        let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
        let base = Table::open(&self.storage, table).await?;
        let incoming = schema::to_delta(&batches.first().unwrap().schema())?;
        let existing = base.as_ref().map(Table::schema);
        let mut merged = clauses.complete(table, existing.as_deref(), &incoming)?;
        if let Some(existing) = &existing {
            merged = schema::reconcile(table, existing, &merged, SchemaPolicy::Same)?;
        }
        let merge = ClauseMerge {
            storage: &self.storage,
            table,
            clauses,
            keys: &keys,
            incoming: schema::to_arrow(&incoming)?,
            columns: schema::to_arrow(&merged)?,
            changes: base.as_ref().is_some_and(feature::feeds_changes),
        };
        let state = self.session.state();
        merge.check(&state)?;
        let spec = |schema, keys: &[String]| WriteSpec {
            settings: self.settings.clone(),
            ..WriteSpec::new(&self.storage, table, schema, keys)
        };
        let written = self.write(spec(&incoming, &keys), batches).await?;
        let source = DataFiles::try_new(table, merge.incoming.clone(), Vec::new(), written.files.clone())?;
        let adds = match &base {
            Some(base) => base.files()?.adds().to_vec(),
            None => Vec::new(),
        };
        let target = DataFiles::try_new(table, merge.columns.clone(), Vec::new(), adds)?;
        let candidates =
            if merge.joins_all() { (0..target.len()).collect() } else { target.overlapping(&source, &keys)? };
        let plan = merge.plan(&state, source, target.subset(&candidates))?;
        let spec_of_rows = WriteSpec { actions: Some(merge.actions()), ..spec(&merged, &keys) };
        let plan = write::plan_write(&state, &plan, spec_of_rows).await?;
        let joined = WriteOutcome::collect(&self.run(plan).await?)?;
        let label = CommitLabel::default();
        let Some(base) = base else {
            let counts = merge.check_counts(written.summary.rows_written, &joined, &[], None)?;
            commit::create(&self.storage, table, &merged, &self.properties(), joined.files, &label).await?;
            return Ok(counts);
        };
        let keys_found = merge.key_files(&joined)?;
        let match_keys = merge.match_keys();
        let search = Match {
            storage: &self.storage,
            table,
            target: &target,
            source: &keys_found,
            keys: &match_keys,
            inverted: clauses.deletes_absent,
            key_bytes: self.key_bytes,
        };
        let candidates = match (clauses.deletes_absent, keys_found.is_empty()) {
            (true, _) => (0..target.len()).collect(),
            (false, true) => Vec::new(),
            (false, false) => target.overlapping(&keys_found, &match_keys)?,
        };
        let found = match candidates.is_empty() {
            true => Vec::new(),
            false => search.found(&self.run(search.plan(&candidates, 2)?).await?)?.files,
        };
        let touched = touched(&target, found);
        let on_read = feature::takes_deletion_vectors(&base)?;
        let rewritten = self.rest_of(&touched, on_read, &merge.columns, spec(&merged, &[])).await?;
        let rewritten_summary = rewritten.as_ref().map(|outcome| &outcome.summary);
        let counts = merge.check_counts(written.summary.rows_written, &joined, &touched, rewritten_summary)?;
        let commit = MergeCommit {
            schema: &merged,
            keys: &keys,
            clauses,
            changes: joined.change_files,
            new: joined.files,
            kept: match on_read {
                true => touched.iter().filter_map(Touched::updated).collect(),
                false => rewritten.map(|outcome| outcome.files).unwrap_or_default(),
            },
            touched: touched.into_iter().map(|file| file.add).collect(),
            counts,
        };
        commit::merge(&base, commit, &label).await?;
        Ok(counts)
    }

    /// The change data of the newest commit, as text, sorted: the kind first.
    pub(super) async fn changes(&self, table: &TableName) -> Vec<String> {
        let open = catalog::open(&self.storage, table).await.unwrap();
        let entry = open.log().read_commit_entry(open.version()).await.unwrap().unwrap();
        let actions = get_actions(open.version(), &entry).unwrap();
        let files: Vec<Add> = actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Cdc(file) => {
                    assert!(!file.data_change && file.path.starts_with("_change_data/"), "{file:?}");
                    Some(Add { path: file.path, size: file.size, ..Add::default() })
                }
                _ => None,
            })
            .collect();
        let kind = Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true));
        let columns = open.arrow_schema().unwrap();
        let fields: Vec<_> = [kind].into_iter().chain(columns.fields().iter().cloned()).collect();
        let files = DataFiles::try_new(table, Arc::new(Schema::new(fields)), Vec::new(), files).unwrap();
        let scan = Arc::new(DeltaTableScan::from_files(&self.storage, table, files).unwrap());
        let plan = LogicalPlanBuilder::scan("changes", provider_as_source(scan), None).unwrap().build().unwrap();
        render(&self.query(&plan).await.unwrap())
    }
}

type Key = (i64, Option<String>);
type Values = (Option<i64>, String);
/// A table's rows; those with a null in their key may come more than once.
type Rows = BTreeMap<Key, Values>;

fn rows(nulls: bool, most: usize) -> impl Strategy<Value = Rows> {
    let part = prop_oneof![8 => Just(Some("a".to_string())), 8 => Just(Some("zz".to_string())),
        u32::from(nulls) => Just(None)];
    btree_map((-5i64..5, part), (prop::option::of(0i64..6), "[ab]"), 1..most)
}

/// The rows as `parts` batches, each a file with its own key range.
fn batches(rows: &Rows, parts: usize) -> Vec<RecordBatch> {
    let rows: Vec<_> = rows.iter().collect();
    let batch = |rows: &[(&Key, &Values)]| {
        RecordBatch::try_from_iter_with_nullable([
            ("k", Arc::new(rows.iter().map(|((k, _), _)| *k).collect::<Int64Array>()) as ArrayRef, true),
            ("part", Arc::new(rows.iter().map(|((_, p), _)| p.clone()).collect::<StringArray>()) as ArrayRef, true),
            ("a", Arc::new(rows.iter().map(|(_, (a, _))| *a).collect::<Int64Array>()) as ArrayRef, true),
            ("b", Arc::new(rows.iter().map(|(_, (_, b))| Some(b.clone())).collect::<StringArray>()) as ArrayRef, true),
        ])
        .unwrap()
    };
    rows.chunks(rows.len().div_ceil(parts)).map(batch).collect()
}

fn line((k, part): &Key, (a, b): &Values) -> String {
    let a = a.map_or("NULL".to_string(), |a| a.to_string());
    format!("{k}|{}|{a}|{b}", part.as_deref().unwrap_or("NULL"))
}

/// A condition as SQL, as the library's expression, and as it is meant.
#[derive(Debug, Clone, Copy)]
enum Condition {
    Newer,
    Even,
    OldOrUnknown,
}

impl Condition {
    fn sql(self) -> String {
        match self {
            Condition::Newer => "source.a > target.A",
            Condition::Even => "source.a % 2 = 0",
            Condition::OldOrUnknown => "target.b = 'a' OR source.a IS NULL",
        }
        .to_string()
    }

    fn expression(self) -> Expr {
        match self {
            Condition::Newer => col("source.a").gt(col("target.a")),
            Condition::Even => (col("source.a") % lit(2i64)).eq(lit(0i64)),
            Condition::OldOrUnknown => col("target.b").eq(lit("a")).or(col("source.a").is_null()),
        }
    }

    fn holds(self, source: &Values, target: &Values) -> bool {
        match self {
            Condition::Newer => source.0.zip(target.0).is_some_and(|(source, target)| source > target),
            Condition::Even => source.0.is_some_and(|a| a % 2 == 0),
            Condition::OldOrUnknown => target.1 == "a" || source.0.is_none(),
        }
    }
}

#[derive(Debug, Clone)]
struct Merging {
    source: Rows,
    matched: Vec<(Matched, Option<Condition>)>,
    inserts: Option<Option<Condition>>,
    deletes_absent: bool,
    update: Vec<&'static str>,
}

impl Merging {
    fn clauses(&self) -> Clauses {
        let clause = |(action, condition): &(Matched, Option<Condition>)| MatchedClause {
            action: *action,
            condition: condition.map(Condition::sql),
        };
        Clauses {
            matched: self.matched.iter().map(clause).collect(),
            inserts: match self.inserts {
                None => Inserts::None,
                Some(None) => Inserts::All,
                Some(Some(condition)) => Inserts::If(condition.sql()),
            },
            deletes_absent: self.deletes_absent,
            update: self.update.iter().map(|column| column.to_string()).collect(),
            history: None,
        }
    }

    /// The rows afterwards, the counts, and the changes.
    fn apply(&self, before: &Rows) -> (Rows, MergeCounts, Vec<String>) {
        let mut after = before.clone();
        let mut counts = MergeCounts { source: self.source.len() as u64, ..MergeCounts::default() };
        let mut changes = Vec::new();
        for (key, new) in &self.source {
            let Some(old) = before.get(key) else {
                if self.inserts.is_some_and(|condition| condition.is_none_or(|condition| condition.holds(new, new))) {
                    after.insert(key.clone(), new.clone());
                    changes.push(format!("insert|{}", line(key, new)));
                    counts.inserted += 1;
                } else {
                    counts.ignored += 1;
                }
                continue;
            };
            let holds =
                |clause: &&(Matched, Option<Condition>)| clause.1.is_none_or(|condition| condition.holds(new, old));
            match self.matched.iter().find(holds).map(|clause| clause.0) {
                Some(Matched::Update) => {
                    let sets = |column: &str| self.update.is_empty() || self.update.contains(&column);
                    let merged =
                        (if sets("a") { new.0 } else { old.0 }, if sets("b") { new.1.clone() } else { old.1.clone() });
                    changes.push(format!("update_preimage|{}", line(key, old)));
                    changes.push(format!("update_postimage|{}", line(key, &merged)));
                    after.insert(key.clone(), merged);
                    counts.updated += 1;
                }
                Some(Matched::Delete) => {
                    changes.push(format!("delete|{}", line(key, old)));
                    after.remove(key);
                    counts.deleted += 1;
                }
                Some(Matched::Ignore) | None => counts.ignored += 1,
            }
        }
        if self.deletes_absent {
            for (key, old) in before.iter().filter(|(key, _)| !self.source.contains_key(*key)) {
                changes.push(format!("delete|{}", line(key, old)));
                after.remove(key);
                counts.deleted += 1;
            }
        }
        changes.sort();
        (after, counts, changes)
    }

    /// The same by the library.
    async fn by_library(&self, lake: &Lake, table: &TableName) {
        let table = Table::require(&lake.storage, table).await.unwrap().to_delta().await.unwrap();
        let [source] = batches(&self.source, 1).try_into().unwrap();
        let source = SessionContext::new().read_batch(source).unwrap();
        let on = col("target.k").eq(col("source.k")).and(col("target.part").eq(col("source.part")));
        let mut merge = table.merge(source, on).with_source_alias("source").with_target_alias("target");
        let sets: Vec<&str> = if self.update.is_empty() { vec!["a", "b"] } else { self.update.clone() };
        for (action, condition) in &self.matched {
            let condition = condition.map(Condition::expression);
            merge = match action {
                Matched::Update => merge.when_matched_update(|update| {
                    let update =
                        sets.iter().fold(update, |update, name| update.update(*name, col(format!("source.{name}"))));
                    match condition {
                        Some(condition) => update.predicate(condition),
                        None => update,
                    }
                }),
                Matched::Delete => merge.when_matched_delete(|delete| match condition {
                    Some(condition) => delete.predicate(condition),
                    None => delete,
                }),
                Matched::Ignore => continue,
            }
            .unwrap();
        }
        if let Some(condition) = self.inserts {
            let insert = merge.when_not_matched_insert(|insert| {
                let names = ["k", "part", "a", "b"].into_iter();
                let insert = names.fold(insert, |insert, name| insert.set(name, col(format!("source.{name}"))));
                match condition {
                    Some(condition) => insert.predicate(condition.expression()),
                    None => insert,
                }
            });
            merge = insert.unwrap();
        }
        if self.deletes_absent {
            merge = merge.when_not_matched_by_source_delete(|delete| delete).unwrap();
        }
        merge.await.unwrap();
    }
}

fn merging() -> impl Strategy<Value = Merging> {
    let condition = || prop_oneof![Just(Condition::Newer), Just(Condition::Even), Just(Condition::OldOrUnknown)];
    let action = || prop_oneof![3 => Just(Matched::Update), 2 => Just(Matched::Delete)];
    let last = prop::option::of(prop_oneof![3 => Just(Matched::Update), 1 => Just(Matched::Ignore)]);
    let matched =
        (prop::collection::vec((action(), condition().prop_map(Some)), 0..3), last).prop_map(|(mut all, last)| {
            all.extend(last.map(|action| (action, None)));
            all
        });
    let inserts = prop_oneof![3 => Just(Some(None)), 1 => Just(Some(Some(Condition::Even))), 1 => Just(None)];
    let update = subsequence(vec!["a", "b"], 0..2);
    (rows(false, 9), matched, inserts, any::<bool>(), update).prop_filter_map(
        "does nothing",
        |(source, matched, inserts, deletes_absent, mut update)| {
            if !matched.iter().any(|(action, _)| *action == Matched::Update) {
                update.clear();
            }
            let merging = Merging { source, matched, inserts, deletes_absent, update };
            merging.clauses().check(&name("t.t"), &[]).is_ok().then_some(merging)
        },
    )
}

async fn replay(first: Rows, merges: Vec<Merging>, [sorts, vectors, changes]: [bool; 3], slices: u64) {
    let lake = lake_that(sorts, vectors, changes, 19 * 8 / slices);
    let (ours, theirs) = (name("test.ours"), name("test.theirs"));
    lake.overwrite(&ours, batches(&first, 3), SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let plain = Lake { vectors: false, changes: false, ..lake };
    plain.overwrite(&theirs, batches(&first, 1), SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let lake = plain;
    let mut model = first;
    for (at, merging) in merges.iter().enumerate() {
        let (after, expected, changed) = merging.apply(&model);
        let counts = lake.merge_by(&ours, batches(&merging.source, 2), &["k", "part"], &merging.clauses()).await;
        let counts = counts.unwrap_or_else(|error| panic!("merge {at}: {error:?}"));
        assert_eq!(MergeCounts { copied: 0, ..counts }, expected, "merge {at}");
        let found = lake.rows(&ours).await;
        let mut lines: Vec<_> = after.iter().map(|(key, values)| line(key, values)).collect();
        lines.sort();
        assert_eq!(found, lines, "merge {at} against the model");
        merging.by_library(&lake, &theirs).await;
        assert_eq!(found, lake.rows(&theirs).await, "merge {at} against the library");
        if changes {
            assert_eq!(lake.changes(&ours).await, changed, "changes of merge {at}");
        }
        model = after;
    }
}

proptest! {
    #![proptest_config(Config { cases: 20, ..Config::default() })]

    #[test]
    fn merges_by_clauses_give_what_a_map_and_the_library_give(
        first in rows(true, 12), merges in prop::collection::vec(merging(), 1..4),
        settings in any::<[bool; 3]>(), slices in 1..4u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(replay(first, merges, settings, slices));
    }
}

fn one_row() -> RecordBatch {
    batches(&Rows::from([((1, Some("a".to_string())), (Some(1), "x".to_string()))]), 1).remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn clauses_that_can_not_be_are_refused_with_a_hint() {
    let lake = lake(true, false);
    let table = name("test.refused");
    lake.overwrite(&table, vec![one_row()], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let updates = |condition: &str| Clauses {
        matched: vec![MatchedClause { action: Matched::Update, condition: Some(condition.to_string()) }],
        ..Clauses::default()
    };
    let ignored = vec![MatchedClause { action: Matched::Ignore, condition: None }];
    let twice = [Clauses::default().matched, Clauses::default().matched].concat();
    let cases = [
        (updates("source.nme = 'x'"), "there is no column `source.nme`", ""),
        (updates("a > 1"), "`a` is a column of several tables", "`source.` or `target.`"),
        (updates("source.a + 1"), "not boolean", "condition"),
        (updates("source.a >"), "when_matched of table test.refused", ""),
        (updates("strict_cast(source.b AS int) = 1"), "strict_cast", "cast in"),
        (Clauses { inserts: Inserts::If("target.a = 1".to_string()), ..Clauses::default() }, "target.a", ""),
        (
            Clauses { update: vec!["c".to_string()], ..Clauses::default() },
            "`c`, which the source does not have",
            "k, part",
        ),
        (Clauses { update: vec!["k".to_string()], ..Clauses::default() }, "in the primary key", "leave it out"),
        (Clauses { matched: twice, ..Clauses::default() }, "never reached", "last"),
        (Clauses { matched: ignored.clone(), inserts: Inserts::None, ..Clauses::default() }, "ignores every row", ""),
        (Clauses { matched: ignored, update: vec!["a".to_string()], ..Clauses::default() }, "updates nothing", ""),
        (
            Clauses { history: Some(History { valid_from: None, at: 1, order: None }), ..Clauses::default() },
            "is no history",
            "a table of its own",
        ),
    ];
    for (clauses, message, hint) in cases {
        let error = lake.merge_by(&table, vec![one_row()], &["k", "part"], &clauses).await.unwrap_err();
        assert!(error.message.contains(message) && error.hint.contains(hint), "{error} {}", error.hint);
    }
    let history = |valid_from: &str| Clauses {
        history: Some(History { valid_from: Some(valid_from.to_string()), at: 1, order: None }),
        ..Clauses::default()
    };
    for (column, message) in [("b", "no timestamp or date"), ("c", "the source does not have")] {
        let new = name("test.new");
        let error = lake.merge_by(&new, vec![one_row()], &["k", "part"], &history(column)).await.unwrap_err();
        assert!(error.message.contains(message), "{}", text(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_key_is_not_unique_is_refused() {
    let lake = lake(true, false);
    let table = name("test.twice");
    lake.overwrite(&table, vec![one_row(), one_row()], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let clauses = Clauses { update: vec!["a".to_string()], ..Clauses::default() };
    let error = lake.merge_by(&table, vec![one_row()], &["k", "part"], &clauses).await.unwrap_err();
    assert_eq!(error.code, Code::DuplicateKey, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_lack_columns_that_an_update_leaves_alone() {
    let lake = lake(true, true);
    let table = name("test.partial");
    lake.overwrite(&table, vec![one_row()], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let partial = RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, true),
        ("part", Arc::new(StringArray::from(vec!["a", "a"])) as ArrayRef, true),
        ("a", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef, true),
    ])
    .unwrap();
    let clauses = Clauses { update: vec!["a".to_string()], ..Clauses::default() };
    let counts = lake.merge_by(&table, vec![partial.clone()], &["k", "part"], &clauses).await.unwrap();
    assert_eq!((counts.updated, counts.inserted), (1, 1));
    assert_eq!(lake.rows(&table).await, ["1|a|7|x", "2|a|8|NULL"]);
    let error = lake.merge_by(&table, vec![partial], &["k", "part"], &Clauses::default()).await.unwrap_err();
    assert_eq!(error.code, Code::SchemaMismatch);
}
