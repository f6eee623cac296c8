//! Jobs as text.

use chrono::Utc;
use trireme_proto::v1;

use crate::{
    answer::Answer,
    error::Result,
    grid::{Align, Grid},
    job::{Job, moment},
    listing,
    output::{Style, printable},
    units,
    watch::Ended,
};

use Align::{Left, Right};

/// What each part of a pipeline did.
pub fn parts(ended: &Ended) -> String {
    outcomes(&ended.parts)
}

/// What a job of its own did.
pub fn single(job: &v1::Job) -> String {
    outcomes(std::slice::from_ref(job))
}

/// Rows that a job counted.
type Counter = fn(&v1::JobMetrics) -> u64;

/// What became of rows; of the optional ones, those are shown that some job has.
const COUNTERS: [(&str, Counter, bool); 8] = [
    ("rows in", |metrics| metrics.rows_in, true),
    ("inserted", |metrics| metrics.rows_inserted, true),
    ("updated", |metrics| metrics.rows_updated, true),
    ("deleted", |metrics| metrics.rows_deleted, false),
    ("dropped", |metrics| metrics.rows_dropped, true),
    ("ignored", |metrics| metrics.rows_ignored, false),
    ("superseded", |metrics| metrics.rows_superseded, false),
    ("quarantined", |metrics| metrics.rows_quarantined, false),
];

fn outcomes(jobs: &[v1::Job]) -> String {
    let any = |counter: Counter| jobs.iter().any(|job| counter(&Job(job).metrics()) > 0);
    let counters = COUNTERS.into_iter().filter(|(_, counter, always)| *always || any(*counter)).collect::<Vec<_>>();
    let mut names = vec![("name", Left), ("kind", Left), ("outcome", Left)];
    names.extend(counters.iter().map(|(name, ..)| (*name, Right)));
    names.extend([("bytes", Right), ("version", Right), ("duration", Right)]);
    let mut grid = Grid::new(&names);
    for message in jobs {
        let job = Job(message);
        let metrics = job.metrics();
        // Downloads count no rows.
        let rows = |n: u64| {
            if matches!(message.kind.as_str(), "download" | "adopt") { String::new() } else { units::count(n) }
        };
        let mut row = vec![message.name.clone(), message.kind.clone(), job.result()];
        row.extend(counters.iter().map(|(_, counter, _)| rows(counter(&metrics))));
        row.extend([units::size(job.bytes()), job.version(), duration(job)]);
        grid.row(row);
    }
    let remarks: Vec<String> = jobs.iter().flat_map(remarks).collect();
    if remarks.is_empty() { grid.text() } else { format!("{}\n\n{}", grid.text(), remarks.join("\n")) }
}

/// Lines on bad records and failed checks of a job.
fn remarks(job: &v1::Job) -> Vec<String> {
    let name = printable(&job.name);
    let mut lines = Vec::new();
    if let Some(quarantine) = &job.quarantine {
        lines.push(format!("{name}: {}", quarantined(quarantine)));
    }
    lines.extend(job.checks.iter().map(|check| format!("{name}: {}", failed(check))));
    lines.extend(job.skipped.iter().map(|skipped| format!("{name}: left out {}", left_out(skipped))));
    lines
}

fn quarantined(quarantine: &v1::Quarantine) -> String {
    let reasons = quarantine.reasons.iter().take(5);
    let reasons = reasons.map(|reason| format!("{} {}", units::count(reason.rows), printable(&reason.reason)));
    let place = match quarantine.version {
        0.. => format!("in {}", printable(&quarantine.table)),
        _ => "not committed".to_string(),
    };
    let records = if quarantine.rows == 1 { "record" } else { "records" };
    format!("{} bad {records} {place} ({})", units::count(quarantine.rows), reasons.collect::<Vec<_>>().join(", "))
}

fn failed(check: &v1::CheckCount) -> String {
    let example = check.examples.first().map(|example| format!(", first: {}", printable(example))).unwrap_or_default();
    let rows = if check.rows == 1 { "row fails" } else { "rows fail" };
    format!("{} {rows} `{}`{example}", units::count(check.rows), printable(&check.name))
}

fn left_out(skipped: &v1::SkippedVersion) -> String {
    format!("{} ({})", printable(&skipped.version), printable(&skipped.why))
}

fn duration(job: Job<'_>) -> String {
    job.duration(Utc::now()).map(units::duration).unwrap_or_default()
}

/// A question's answer under its name; nothing for other jobs.
pub fn answer(job: &v1::Job, style: Style) -> Result<Option<String>> {
    if job.answer.is_empty() {
        return Ok(None);
    }
    let answer = Answer::read(&job.answer)?;
    let mut text = format!("{}\n{}", style.heading(&printable(&job.name)), answer.text()?);
    let more = job.answer_rows.saturating_sub(answer.rows() as u64);
    if more > 0 {
        text.push_str(&format!(
            "\n… and {} more rows: trireme sql 'SELECT * FROM {}'",
            units::count(more),
            printable(&job.name)
        ));
    }
    Ok(Some(text))
}

/// A list of jobs.
pub fn jobs(jobs: &[v1::Job]) -> String {
    let mut grid = Grid::new(&[
        ("id", Left),
        ("kind", Left),
        ("name", Left),
        ("state", Left),
        ("submitted", Left),
        ("duration", Right),
    ]);
    for message in jobs {
        let job = Job(message);
        grid.row([
            message.id.clone(),
            message.kind.clone(),
            message.name.clone(),
            job.result(),
            moment(message.submitted_at.as_ref()).map(units::moment).unwrap_or_default(),
            duration(job),
        ]);
    }
    grid.text()
}

/// Everything about one job, and a pipeline's parts.
pub fn details(message: &v1::Job, parts: &[v1::Job], style: Style) -> Result<String> {
    let job = Job(message);
    let metrics = job.metrics();
    let mut facts = Facts::default();
    facts.add("job", &message.id);
    facts.add("kind", &message.kind);
    facts.add("name", &message.name);
    facts.add("pipeline", &message.parent);
    facts.add("state", job.result());
    facts.add("phase", &message.phase);
    for (name, at) in
        [("submitted", &message.submitted_at), ("started", &message.started_at), ("ended", &message.ended_at)]
    {
        facts.add(name, moment(at.as_ref()).map(units::moment).unwrap_or_default());
    }
    facts.add("duration", duration(job));
    if message.raw_versions.len() > 1 {
        facts.add("raw versions", message.raw_versions.join(", "));
    } else {
        facts.add("raw version", &message.raw_version);
    }
    facts.add("Delta version", job.delta_version().map(|version| version.to_string()).unwrap_or_default());
    for (name, n) in [
        ("rows in", metrics.rows_in),
        ("rows inserted", metrics.rows_inserted),
        ("rows updated", metrics.rows_updated),
        ("rows deleted", metrics.rows_deleted),
        ("rows ignored", metrics.rows_ignored),
        ("rows dropped", metrics.rows_dropped),
        ("rows superseded", metrics.rows_superseded),
        ("rows quarantined", metrics.rows_quarantined),
        ("rows copied", metrics.rows_copied),
    ] {
        facts.add_number(name, n, units::count);
    }
    facts.add_number("bytes in", metrics.bytes_in, units::size);
    facts.add_number("bytes out", metrics.bytes_out, units::size);
    facts.add_number("files added", metrics.files_added, units::count);
    facts.add_number("files removed", metrics.files_removed, units::count);
    facts.add_number("retries", metrics.retries.into(), units::count);
    if let Some(quarantine) = &message.quarantine {
        facts.add("quarantine", quarantined(quarantine));
        quarantine.examples.iter().for_each(|example| facts.add("bad record", example));
    }
    for check in &message.checks {
        facts.add("check", failed(check));
    }
    message.skipped.iter().for_each(|skipped| facts.add("left out", left_out(skipped)));
    if let Some(report) = &message.schema {
        listing::schema_facts(report, &mut facts);
    }
    if let Some(error) = crate::error::Error::of_job(message) {
        facts.add("error", format!("{}: {}", error.code, error.message));
        facts.add("hint", error.hint);
    }
    let mut sections = vec![facts.text(style)];
    if !message.stages.is_empty() {
        sections.push(stages(&message.stages));
    }
    if !parts.is_empty() {
        sections.push(outcomes(parts));
    }
    sections.extend(answer(message, style)?);
    Ok(sections.join("\n\n"))
}

fn stages(stages: &[v1::Stage]) -> String {
    let mut grid = Grid::new(&[("stage", Left), ("tasks", Right), ("try", Right), ("tasks by executor", Left)]);
    for stage in stages {
        let mut by_executor: Vec<_> = stage.tasks_by_executor.iter().collect();
        by_executor.sort();
        let by_executor: Vec<_> = by_executor.iter().map(|(executor, tasks)| format!("{executor}: {tasks}")).collect();
        let discarded = if stage.discarded { " (discarded)" } else { "" };
        grid.row([
            stage.name.clone(),
            format!("{}/{}", stage.tasks_done, stage.tasks_total),
            stage.attempt.to_string(),
            format!("{}{discarded}", by_executor.join(", ")),
        ]);
    }
    grid.text()
}

/// Names and values below each other; what is empty is left out.
#[derive(Default)]
pub struct Facts {
    lines: Vec<(String, String)>,
}

impl Facts {
    /// Adds a line unless the value is empty.
    pub fn add(&mut self, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            self.lines.push((printable(name), printable(value.as_ref())));
        }
    }

    fn add_number(&mut self, name: &str, n: u64, text: fn(u64) -> String) {
        if n > 0 {
            self.add(name, text(n));
        }
    }

    /// The lines, values aligned.
    pub fn text(&self, style: Style) -> String {
        let width = self.lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let line = |(name, value): &(String, String)| {
            let gap = " ".repeat(width - name.chars().count() + 2);
            format!("{}{gap}{value}", style.heading(name))
        };
        self.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
