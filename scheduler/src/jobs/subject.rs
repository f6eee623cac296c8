//! What a job is about, read off its spec.

use std::fmt;

use trireme_engine::{Code, Error, Result, SourceName, TableName};
use trireme_proto::v1::{JobSpec, Location, TableSpec, job_spec::Spec};

/// A job's kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Download of a source.
    Download(SourceName),
    /// Adoption of a source's version.
    Adopt(SourceName),
    /// Load of a table.
    Load(TableName),
    /// Merge of a table.
    Merge(TableName),
    /// Question, by its result table.
    Question(TableName),
    /// Optimization of a table.
    Optimize(TableName),
    /// Pipeline, by the name in its file.
    Pipeline(String),
}

/// What a job writes. Two jobs that write the same run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A source of the raw zone.
    Source(SourceName),
    /// A table of the catalog.
    Table(TableName),
    /// Which files hold a table's rows, not the rows: it waits for no other job of the table.
    Layout(TableName),
}

impl Subject {
    /// The subject of a spec. Errors: [`Code::InvalidSpec`] for a name that is missing or not well formed.
    pub fn of(spec: &JobSpec) -> Result<Self> {
        let table = |spec: &Option<TableSpec>| match spec {
            Some(spec) => spec.table.parse::<TableName>(),
            None => Err(Error::new(Code::InvalidSpec, "a load or merge without a table")),
        };
        match &spec.spec {
            Some(Spec::Download(download)) => Ok(Self::Download(download.source.parse()?)),
            Some(Spec::Adopt(adopt)) => Ok(Self::Adopt(adopt.source.parse()?)),
            Some(Spec::Load(load)) => Ok(Self::Load(table(&load.spec)?)),
            Some(Spec::Merge(merge)) => Ok(Self::Merge(table(&merge.spec)?)),
            Some(Spec::Question(question)) => Ok(Self::Question(question.table.parse()?)),
            Some(Spec::Optimize(optimize)) => Ok(Self::Optimize(optimize.table.parse()?)),
            Some(Spec::Pipeline(pipeline)) if pipeline.name.is_empty() => {
                Err(Error::new(Code::InvalidSpec, "a pipeline without a name").hint("add `name:` to the pipeline file"))
            }
            Some(Spec::Pipeline(pipeline)) => Ok(Self::Pipeline(pipeline.name.clone())),
            None => Err(Error::new(Code::InvalidSpec, "a job without a spec")),
        }
    }

    /// `download`, `adopt`, `load`, `merge`, `question`, `optimize` or `pipeline`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Download(_) => "download",
            Self::Adopt(_) => "adopt",
            Self::Load(_) => "load",
            Self::Merge(_) => "merge",
            Self::Question(_) => "question",
            Self::Optimize(_) => "optimize",
            Self::Pipeline(_) => "pipeline",
        }
    }

    /// The source, table or pipeline.
    pub fn name(&self) -> String {
        match self {
            Self::Download(source) | Self::Adopt(source) => source.to_string(),
            Self::Load(table) | Self::Merge(table) | Self::Question(table) | Self::Optimize(table) => table.to_string(),
            Self::Pipeline(name) => name.clone(),
        }
    }

    /// What it writes itself; a pipeline writes nothing itself.
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Download(source) | Self::Adopt(source) => Some(Target::Source(source.clone())),
            Self::Load(table) | Self::Merge(table) | Self::Question(table) => Some(Target::Table(table.clone())),
            Self::Optimize(table) => Some(Target::Layout(table.clone())),
            Self::Pipeline(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", label(self.kind(), &self.name()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => write!(f, "source `{source}`"),
            Self::Table(table) => write!(f, "table `{table}`"),
            Self::Layout(table) => write!(f, "files of table `{table}`"),
        }
    }
}

/// A job in a message: `merge of vendor.reviews`, `question analytics.top`.
pub fn label(kind: &str, name: &str) -> String {
    match kind {
        "question" | "pipeline" => format!("{kind} {name}"),
        _ => format!("{kind} of {name}"),
    }
}

/// Where a spec was written; none for a pipeline, whose parts have their own.
pub fn location(spec: &JobSpec) -> Option<&Location> {
    match spec.spec.as_ref()? {
        Spec::Download(download) => download.location.as_ref(),
        Spec::Load(load) => load.spec.as_ref()?.location.as_ref(),
        Spec::Merge(merge) => merge.spec.as_ref()?.location.as_ref(),
        Spec::Question(question) => question.location.as_ref(),
        Spec::Adopt(_) | Spec::Optimize(_) | Spec::Pipeline(_) => None,
    }
}

/// Puts `file:line:column: ` before an error's message, unless the error names a place in that file or in the question's SQL file itself.
pub fn located(spec: &JobSpec, mut error: Error) -> Error {
    let Some(at) = location(spec).filter(|at| !at.file.is_empty()) else { return error };
    let sql_file = match &spec.spec {
        Some(Spec::Question(question)) => question.sql_file.as_str(),
        _ => "",
    };
    let names_a_place = |file: &str| !file.is_empty() && error.message.starts_with(&format!("{file}:"));
    if !names_a_place(&at.file) && !names_a_place(sql_file) {
        error.message = format!("{}: {}", place(at), error.message);
    }
    error
}

/// `file:line:column`, as far as it is known.
pub fn place(at: &Location) -> String {
    match (at.line, at.column) {
        (0, _) => at.file.clone(),
        (line, 0) => format!("{}:{line}", at.file),
        (line, column) => format!("{}:{line}:{column}", at.file),
    }
}
