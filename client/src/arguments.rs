//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};
use trireme_proto::v1;

use crate::text::TextArguments;

/// Runs ELT jobs on a Trireme cluster: downloads, loads, merges and questions over Delta tables.
///
/// Data goes to stdout, progress and logs to stderr.
#[derive(Debug, Parser)]
#[command(name = "trireme", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Arguments {
    /// For all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  trireme --embedded run pipeline.yaml          run a pipeline on this machine, with no cluster
  trireme --scheduler http://host:50051 run pipeline.yaml
  trireme sql 'SELECT count(*) FROM stream.streams'

Environment:
  TRIREME_API_TOKEN, TRIREME_API_TOKEN_FILE     the scheduler's API token, or a file that holds it
  NO_COLOR                                      no colours

Exit codes:
  0 done, 1 job failed, 64 wrong usage or settings, 69 scheduler unreachable, 130 interrupted (Ctrl-C)";

impl Arguments {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, or the help that it asks for.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(line)?;
        let mut arguments = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        // Not `requires` and `conflicts_with` of clap: it checks those before it has brought flags before and after the command together.
        let global = &mut arguments.global;
        if global.embedded && by_flag(&matches, "scheduler") {
            let why = "--embedded starts a scheduler of its own; it can't be used with --scheduler";
            return Err(command.error(ErrorKind::ArgumentConflict, why));
        }
        if !global.embedded {
            let only_embedded = [
                ("executors", "--executors"),
                ("vcores", "--vcores"),
                ("memory_pool_size", "--memory-pool-size"),
                ("storage", "--storage"),
            ];
            if let Some((_, flag)) = only_embedded.iter().find(|(id, _)| by_flag(&matches, id)) {
                let why = format!("{flag} is a setting of --embedded; a scheduler that runs elsewhere has its own");
                return Err(command.error(ErrorKind::MissingRequiredArgument, why));
            }
        }
        for setting in [&mut global.scheduler, &mut global.storage] {
            // `TRIREME_URL=` is a way to say that it is not set.
            setting.take_if(|value| value.is_empty());
        }
        Ok(arguments)
    }
}

fn by_flag(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Options of all commands.
#[derive(Debug, Args)]
pub struct Global {
    /// The scheduler to talk to [default: http://127.0.0.1:50051]
    #[arg(long, global = true, value_name = "URL", env = "TRIREME_URL", help_heading = "Where it runs")]
    pub scheduler: Option<String>,
    /// Start a scheduler and executors on this machine for this one command
    #[arg(long, global = true, help_heading = "Where it runs")]
    pub embedded: bool,
    /// With --embedded: how many executors [default: 2]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), help_heading = "Where it runs")]
    pub executors: Option<u32>,
    /// With --embedded: tasks that one executor runs at a time [default: 1]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Where it runs")]
    pub vcores: Option<u32>,
    /// With --embedded: memory for one executor's operators [default: 1GB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Where it runs")]
    pub memory_pool_size: Option<String>,
    /// With --embedded: folder or URL that holds raw data and tables [default: ./trireme-data]
    #[arg(long, global = true, value_name = "DIR_OR_URL", env = "TRIREME_STORAGE", help_heading = "Where it runs")]
    pub storage: Option<String>,
    /// How results are written to stdout
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// Write tables as records, one column a line; else they are folded where the terminal ends
    #[arg(long, global = true)]
    pub vertical: bool,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Tables for people
    Text,
    /// One document, or one object a line for listings and streams
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline file: downloads, tables, questions; print every question's answer
    #[command(after_help = RUN_HELP)]
    Run {
        /// Pipeline file
        file: PathBuf,
        /// Only this source, table or question, and the sources its table is made of (repeatable)
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Which raw versions its merged tables get, if not those that are pending.
        #[command(flatten)]
        versions: RangeArguments,
        /// Apply the versions to its tables again though they hold them
        #[arg(long)]
        force: bool,
    },
    /// Bring the bytes behind a URL into the raw zone, as a new version of a source
    #[command(after_help = "\
Content that is the current version's makes no new version.

Examples:
  trireme download --from https://host/reviews.json --to vendor.reviews
  trireme download --from data/streams.dat --to stream.streams --format csv
  trireme download --from export.csv --to erp.items --delimiter ';' --encoding windows-1252 --escape '\\'
  trireme download --from 'sftp://host/out/day=*/x-*.json' --to vendor.days --credentials vendor --checksum auto")]
    Download {
        /// Path or URL: file://, http(s)://, ftp(s)://, sftp://, s3://; with `*` or a `/` at its end, many files are one version
        #[arg(long, value_name = "URL")]
        from: String,
        /// Source, `group.name`
        #[arg(long, value_name = "SOURCE")]
        to: String,
        /// Layout of the bytes; told from the URL's end when left out
        #[arg(long)]
        format: Option<RawFormat>,
        /// Name of the credentials, which the executors have: TRIREME_CREDENTIALS_<NAME>_USER, …_PASSWORD, …_TOKEN, …
        #[arg(long, value_name = "NAME")]
        credentials: Option<String>,
        /// Compare with `auto` (what the origin publishes), `sha256:HEX` or `md5:HEX`
        #[arg(long, value_name = "CHECKSUM")]
        checksum: Option<String>,
        /// How its text is written.
        #[command(flatten)]
        text: TextArguments,
    },
    /// Look into the raw zone: sources and their versions
    #[command(subcommand)]
    Raw(RawCommand),
    /// Replace a table's content by a raw version
    #[command(after_help = "\
Examples:
  trireme load --table stream.movies --source stream.movies -t 'lower(title) AS title' -t 'CAST(size_mb AS double) AS size_mb'
  trireme load --table stream.users --source stream.users@20261122T201533123Z --pk email --order-by created_at
  trireme load --table stream.movies --source stream.movies -t title -t 'strict_cast(size_mb AS double) AS size_mb' \\
    --on-bad-record quarantine --max-bad-records 100 --expect 'sized:warn=size_mb > 0'")]
    Load {
        /// What the table's rows are made of.
        #[command(flatten)]
        table: TableArguments,
        /// Result column that identifies a row; duplicates are an error (repeatable)
        #[arg(long = "pk", value_name = "COL")]
        primary_key: Vec<String>,
    },
    /// Upsert a raw version into a table: a row whose key exists replaces it, any other is inserted
    #[command(after_help = "\
Examples:
  trireme merge --table vendor.reviews --source vendor.reviews --pk created_at --where 'created IS NOT NULL' \\
    -t 'rating.rate AS rate_value' -t 'to_timestamp(created) AS created_at'
  trireme merge --table vendor.reviews --source vendor.reviews --pk created_at --all-pending
  trireme merge --table vendor.reviews --source vendor.reviews --pk created_at --versions 20261101..20261107
  trireme merge --table vendor.reviews --source vendor.reviews --pk created_at --since 20261101 --force
  trireme merge --table crm.users --source crm.changes --pk id \\
    --when-matched \"delete_if=source.op = 'D'\" --when-matched update --when-not-matched \"insert_if=source.op <> 'D'\"
  trireme merge --table crm.users_history --source crm.users --pk id --history --valid-from updated_at")]
    Merge {
        /// What the table's rows are made of.
        #[command(flatten)]
        table: TableArguments,
        /// Result column that identifies a row (repeatable)
        #[arg(long = "pk", value_name = "COL", required = true)]
        primary_key: Vec<String>,
        /// Which raw versions, if not one.
        #[command(flatten)]
        versions: VersionsArguments,
        /// What it does with the rows.
        #[command(flatten)]
        clauses: ClauseArguments,
    },
    /// Run one SELECT over the tables; its result replaces a table and is printed
    #[command(after_help = "\
Examples:
  trireme question --sql questions/4-average.sql --table analytics.average_streaming_duration")]
    Question {
        /// File with one SELECT
        #[arg(long, value_name = "FILE")]
        sql: PathBuf,
        /// Result table, `schema.table`
        #[arg(long, value_name = "S.T")]
        table: String,
        /// Result columns by which rows are sorted within each file; comma-separated or repeated
        #[arg(long, value_name = "COL", value_delimiter = ',')]
        sort_by: Vec<String>,
    },
    /// Rewrite a table's small files, and those with many retired rows, as files of a good size; its rows stay what they are
    #[command(after_help = "\
It waits for no other job of the table, and none waits for it. The scheduler does this by itself after merges, see its settings
--auto-optimize-small-files and --auto-optimize-retired-percent.

Examples:
  trireme optimize vendor.reviews
  trireme optimize stream.streams --target-size 512MiB
  trireme optimize vendor.reviews --retired-percent 1
  trireme optimize stream.streams --z-order user_email,start_at")]
    Optimize {
        /// Table, `schema.table`
        #[arg(value_name = "S.T")]
        table: String,
        /// Lay all rows out anew, near each other in these columns at once, so that filters on them pass files over
        #[arg(long, value_name = "COLS", value_delimiter = ',')]
        z_order: Vec<String>,
        /// Bytes of a file, about, such as 256MiB or 1GB; a file below half of it is small [default: the scheduler's --target-file-size]
        #[arg(long, value_name = "SIZE", value_parser = crate::units::parse_size)]
        target_size: Option<u64>,
        /// Rewrite a file when so many percent of its rows are retired [default: 30]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        retired_percent: Option<u32>,
    },
    /// Print the rows of one SELECT; nothing is written
    #[command(after_help = "\
Text output ends after 10,000 rows; --output json prints all, one object a line.

Examples:
  trireme sql 'SELECT title, size_mb FROM stream.movies ORDER BY size_mb DESC LIMIT 5'
  trireme --output json sql 'SELECT * FROM stream.streams' > streams.ndjson
  trireme sql --functions")]
    Sql {
        /// One SELECT, or EXPLAIN of one
        #[arg(value_name = "SELECT", allow_hyphen_values = true, required_unless_present = "functions")]
        sql: Option<String>,
        /// List the functions of SQL, with an example of each and what differs from Spark, instead
        #[arg(long, conflicts_with = "sql")]
        functions: bool,
    },
    /// Look at jobs, wait for them, end them
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Look at Delta tables
    #[command(subcommand)]
    Tables(TablesCommand),
}

const RUN_HELP: &str = "\
A pipeline file:
  name: books-and-movies
  sources:
    vendor.reviews: { from: data/reviews.json, format: json }   # path or URL, relative to this file; json, csv, parquet
  tables:
    vendor.reviews:
      source: vendor.reviews
      mode: merge                      # or overwrite, or history: changed rows stay, with valid_from, valid_to, is_current
      primary_key: [created_at]
      where: created IS NOT NULL       # optional
      columns:                         # optional: every field as it is
        - rating.rate AS rate_value
        - to_timestamp(created) AS created_at
      sort_by: [created_at]            # optional: the order of rows within each file; also of a question
      latest_by: created_at            # optional: of several rows with one key, the one with the greatest stays; earliest_by: the least
      schema_evolution: add_columns    # optional
      on_bad_record: quarantine        # optional: what does not parse goes to quarantine.vendor_reviews; else the job fails
      max_bad_records: 100             # optional: more of them fail the job
      expect:                          # optional
        - { name: rated, check: rate_value BETWEEN 0 AND 5, on_failure: warn }   # or quarantine, or fail (the default)
      properties: { delta.enableChangeDataFeed: 'true' }   # optional: of the table, when it is made
      when_matched: { update_if: source.created_at > target.created_at }   # optional: or update, delete_if, ignore, or a list of them
      when_not_matched: insert         # optional: or insert_if, ignore
      when_not_matched_by_source: keep # optional: or delete
      update: [rate_value]             # optional: the columns that an update sets
  questions:
    analytics.ratings: { sql: questions/ratings.sql }

A source may also have `schema`, its columns as DDL: `a INT, b STRUCT<c: STRING>`, and say how its text is written: `delimiter`,
`quote`, `escape` ('\\' for Spark's), `null_value` and `header: false` of CSV, `encoding` (ISO-8859-1, UTF-16 …) of any text. What is independent runs side by side; one failed
table fails only what depends on it. --only QUESTION runs the question on the tables as they are: which tables it reads is known
only to the scheduler, so name those tables too to have them made anew. Ctrl-C cancels the job; a killed client leaves it to the
scheduler.

Examples:
  trireme run pipeline.yaml
  trireme run pipeline.yaml --only vendor.reviews --only analytics.ratings
  trireme run pipeline.yaml --only vendor.reviews --since 20261101 --force      # everything since then once more, in order
  trireme run pipeline.yaml --embedded --executors 4 --storage /data/lake --output json";

/// What a loaded or merged table is made of.
#[derive(Debug, Args)]
pub struct TableArguments {
    /// Table, `schema.table`
    #[arg(long, value_name = "S.T")]
    pub table: String,
    /// Source, and its version if not the current one
    #[arg(long, value_name = "SOURCE[@VERSION]")]
    pub source: String,
    /// Column as a SQL expression, `EXPR AS name` (repeatable); every field as it is when left out
    #[arg(short = 't', long = "transform", value_name = "EXPR", allow_hyphen_values = true)]
    pub columns: Vec<String>,
    /// Drop rows for which this SQL predicate is not true
    #[arg(long = "where", value_name = "EXPR", allow_hyphen_values = true)]
    pub predicate: Option<String>,
    /// Column that decides which of several rows with one key stays: the one with the greatest value
    #[arg(long, value_name = "COL", alias = "latest-by")]
    pub order_by: Option<String>,
    /// The same, but the row with the least value stays
    #[arg(long, value_name = "COL", conflicts_with = "order_by")]
    pub earliest_by: Option<String>,
    /// The source's columns, as DDL: `a INT, b STRUCT<c: STRING>`
    #[arg(long, value_name = "DDL")]
    pub schema: Option<String>,
    /// Layout of the raw bytes; told from the file's name when left out
    #[arg(long)]
    pub format: Option<RawFormat>,
    /// How its text is written.
    #[command(flatten)]
    pub text: TextArguments,
    /// What to do when the columns are not the table's; an error when left out
    #[arg(long, value_name = "HOW")]
    pub schema_evolution: Option<SchemaEvolution>,
    /// What becomes of a record that does not parse, has values of other types, or fails a strict_cast
    #[arg(long, value_name = "HOW", default_value = "fail")]
    pub on_bad_record: OnBadRecord,
    /// Fail if more records than this go to the quarantine
    #[arg(long, value_name = "N")]
    pub max_bad_records: Option<u64>,
    /// SQL predicate over the result columns, `NAME[:fail|quarantine|warn]=PREDICATE` (repeatable)
    #[arg(long, value_name = "EXPECTATION")]
    pub expect: Vec<String>,
    /// Delta property of a table that is made, such as delta.enableChangeDataFeed=true (repeatable)
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
    /// Result columns by which rows are sorted within each file, so that later reads and merges pass over more; comma-separated or repeated
    #[arg(long, value_name = "COL", value_delimiter = ',')]
    pub sort_by: Vec<String>,
    /// Apply the version again though the table holds it
    #[arg(long)]
    pub force: bool,
}

/// What a merge does with rows, if not: update those whose key is there, insert the others.
#[derive(Debug, Default, Args)]
pub struct ClauseArguments {
    /// Key in both: `update`, `update_if=PREDICATE`, `delete_if=PREDICATE` or `ignore`, over source.x and target.x (repeatable: the first that holds)
    #[arg(long, value_name = "CLAUSE", conflicts_with = "history")]
    pub when_matched: Vec<String>,
    /// Key in the source only: `insert`, `insert_if=PREDICATE` or `ignore`
    #[arg(long, value_name = "CLAUSE", conflicts_with = "history")]
    pub when_not_matched: Option<String>,
    /// Key in the table only
    #[arg(long, value_name = "HOW", default_value = "keep", conflicts_with = "history")]
    pub when_not_matched_by_source: NotMatchedBySource,
    /// Column that an update sets, instead of all (repeatable)
    #[arg(long, value_name = "COL", conflicts_with = "history")]
    pub update: Vec<String>,
    /// Keep what rows were: changed ones are closed (valid_to, is_current) and added again
    #[arg(long)]
    pub history: bool,
    /// Column that says since when a row is so; the raw version's moment when left out
    #[arg(long, value_name = "COL", requires = "history")]
    pub valid_from: Option<String>,
}

/// What becomes of rows that a merge's source does not have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NotMatchedBySource {
    /// They stay
    #[default]
    Keep,
    /// They are deleted
    Delete,
}

/// What becomes of bad records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnBadRecord {
    /// The job fails and changes nothing
    Fail,
    /// They go to the table `quarantine.SCHEMA_TABLE`
    Quarantine,
}

/// A range of raw versions.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub struct RangeArguments {
    /// Apply the versions from A to B, and again what the table holds that is newer; either may be left out, or be a day: 20261101..20261107
    #[arg(long, value_name = "A..B")]
    pub versions: Option<String>,
    /// Apply this version, or the first of this day, and all that are newer
    #[arg(long, value_name = "A")]
    pub since: Option<String>,
}

/// Several raw versions of a source, applied oldest first, each in a commit of its own.
#[derive(Debug, Default, Args)]
pub struct VersionsArguments {
    /// Those of a range.
    #[command(flatten)]
    pub range: RangeArguments,
    /// Apply every version that is newer than what the table holds of the source, or that it lacks: one that failed, came late, or is not skipped any more
    #[arg(long, conflicts_with = "RangeArguments")]
    pub all_pending: bool,
}

/// Layout of raw bytes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RawFormat {
    /// An array of records, or one record a line
    Json,
    /// Comma-separated, with a header
    Csv,
    /// Apache Parquet
    Parquet,
}

impl From<RawFormat> for v1::RawFormat {
    fn from(format: RawFormat) -> Self {
        match format {
            RawFormat::Json => Self::Json,
            RawFormat::Csv => Self::Csv,
            RawFormat::Parquet => Self::Parquet,
        }
    }
}

/// What to do with other columns.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchemaEvolution {
    /// Add new columns at the end; old rows read them as null
    #[value(name = "add_columns")]
    AddColumns,
}

/// `raw …`
#[derive(Debug, Subcommand)]
pub enum RawCommand {
    /// List the sources
    #[command(after_help = "Examples:\n  trireme raw list\n  trireme raw list --output json | jq .name")]
    List,
    /// List a source's versions, newest first, or show one version's columns
    #[command(after_help = "\
With a version (or `@current`): its fields, with counts of values by kind, type conflicts, and what is new or gone since the version before.

Examples:
  trireme raw show vendor.reviews
  trireme raw show vendor.reviews@20261122T201533123Z
  trireme raw show vendor.reviews@current --output json")]
    Show {
        /// Source, `group.name`, and one of its versions
        #[arg(value_name = "SOURCE[@VERSION]")]
        source: String,
    },
    /// Make versions of files that others put into their folders: find where they can be cut, and keep that
    #[command(after_help = "\
A merge of several versions (--all-pending, --since, --versions) does the same by itself, and so does a load or merge that names such a version.

Examples:
  trireme raw adopt vendor.reviews                            all versions that have files only
  trireme raw adopt vendor.reviews@20261122T201533123Z")]
    Adopt {
        /// Source, and the version if only one is to be adopted
        #[arg(value_name = "SOURCE[@VERSION]")]
        source: String,
        /// Layout of the bytes; told from the files' names and first bytes when left out
        #[arg(long)]
        format: Option<RawFormat>,
        /// How its text is written.
        #[command(flatten)]
        text: TextArguments,
    },
    /// Leave a version out from now on: jobs pass it over, and say so
    #[command(after_help = "\
What tables hold of it stays there. Its files stay too, so it can be taken back.

Examples:
  trireme raw skip vendor.reviews@20261122T201533123Z --reason 'half a file, redelivered on Monday'")]
    Skip {
        /// Source and version
        #[arg(value_name = "SOURCE@VERSION")]
        source: String,
        /// Why; kept with it
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Take back that a version is skipped or superseded
    #[command(after_help = "\
The next job that applies pending versions applies it, and again all that are newer.

Examples:
  trireme raw unskip vendor.reviews@20261122T201533123Z")]
    Unskip {
        /// Source and version
        #[arg(value_name = "SOURCE@VERSION")]
        source: String,
    },
    /// Have a redelivery read in the place of the version that it corrects, not in its own
    #[command(after_help = "\
The next job applies it there, and again all versions that are newer than the one it corrects.

Examples:
  trireme raw supersede vendor.reviews@20261122T201533123Z --by 20261124T080000000Z")]
    Supersede {
        /// Source and the version that is wrong
        #[arg(value_name = "SOURCE@VERSION")]
        source: String,
        /// The version that is right
        #[arg(long, value_name = "VERSION")]
        by: String,
        /// Why; kept with both
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Remove the files of a version for good
    #[command(after_help = "\
What it was stays in the list: where from, when, its checksum, and why it was dropped. What tables hold of it stays there.

Examples:
  trireme raw drop vendor.reviews@20261122T201533123Z --reason 'personal data' --yes")]
    Drop {
        /// Source and version
        #[arg(value_name = "SOURCE@VERSION")]
        source: String,
        /// Why; kept with it
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Yes, this can't be undone
        #[arg(long)]
        yes: bool,
    },
}

/// `jobs …`
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, newest first
    #[command(after_help = "Examples:\n  trireme jobs list\n  trireme jobs list --parts --limit 200")]
    List {
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Parts of pipelines too
        #[arg(long)]
        parts: bool,
    },
    /// Show a job: stages, tasks per executor, rows, bytes, files, versions, duration
    #[command(after_help = "Examples:\n  trireme jobs show 0198c0de-7b1c-7000-8000-000000000001")]
    Show {
        /// Job
        id: String,
    },
    /// Follow a job until it has ended; Ctrl-C stops only the following
    #[command(after_help = "\
Examples:
  trireme jobs watch 0198c0de-7b1c-7000-8000-000000000001
  trireme jobs watch 0198c0de-7b1c-7000-8000-000000000001 --output json    # an object a change")]
    Watch {
        /// Job
        id: String,
    },
    /// End a job that runs or waits
    #[command(after_help = "Examples:\n  trireme jobs cancel 0198c0de-7b1c-7000-8000-000000000001")]
    Cancel {
        /// Job
        id: String,
    },
}

/// `tables …`
#[derive(Debug, Subcommand)]
pub enum TablesCommand {
    /// List the tables
    #[command(after_help = "Examples:\n  trireme tables list")]
    List,
    /// Show a table: columns, properties, size
    #[command(after_help = "Examples:\n  trireme tables show stream.movies")]
    Show {
        /// Table, `schema.table`
        table: String,
    },
    /// List a table's commits, newest first
    #[command(after_help = "Examples:\n  trireme tables history stream.movies --limit 5")]
    History {
        /// Table, `schema.table`
        table: String,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    fn kind(line: &[&str]) -> Option<ErrorKind> {
        Arguments::read(["trireme"].iter().chain(line)).err().map(|error| error.kind())
    }

    #[test]
    fn global_flags_may_be_anywhere_and_are_checked() {
        assert_eq!(kind(&["--embedded", "tables", "list", "--executors", "3", "--storage", "x"]), None);
        assert_eq!(kind(&["tables", "list", "--executors", "3"]), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(kind(&["--storage", "x", "tables", "list"]), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(
            kind(&["--scheduler", "http://x:1", "tables", "list", "--embedded"]),
            Some(ErrorKind::ArgumentConflict)
        );
        assert_eq!(kind(&["--embedded", "tables", "list", "--executors", "0"]), Some(ErrorKind::ValueValidation));
        assert_eq!(kind(&["merge", "--table", "a.b", "--source", "a.b"]), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(kind(&["tables"]), Some(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand));
        let json = Arguments::read(["trireme", "tables", "list", "--output", "json"]).unwrap();
        assert_eq!(json.global.output, OutputFormat::Json);
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() && command.get_name() != "trireme" {
                return command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(check);
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  trireme "), "{} has no examples", command.get_name());
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(check);
        }
        check(&Arguments::command());
    }

    #[test]
    fn an_expression_may_start_with_a_minus() {
        let parsed = Arguments::try_parse_from([
            "trireme", "merge", "--table", "a.b", "--source", "a.b", "--pk", "x", "-t", "-x AS x", "--where", "-x < 1",
        ])
        .unwrap();
        let Command::Merge { table, .. } = parsed.command else { panic!("not a merge") };
        assert_eq!((table.columns, table.predicate), (vec!["-x AS x".to_string()], Some("-x < 1".to_string())));
    }
}
