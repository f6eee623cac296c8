//! Progress on stderr: a line for each running part on a terminal, else a line for each change of state.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use chrono::Utc;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use trireme_proto::v1::{self, JobState};

use crate::{
    error::Error,
    job::Job,
    output::{Style, first_line, printable},
    units,
    watch::has_ended,
};

/// Shows jobs as they go.
pub struct Progress {
    bars: Option<MultiProgress>,
    /// By job id.
    running: HashMap<String, ProgressBar>,
    states: HashMap<String, JobState>,
    style: Style,
}

impl Progress {
    /// Progress on stderr.
    pub fn stderr() -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            bars: terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            running: HashMap::new(),
            states: HashMap::new(),
            style: Style::of(&io::stderr()),
        }
    }

    /// Writes a line above the progress.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            // Not `eprintln`, which panics; a stderr that nobody reads is no reason to fail a job.
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    /// Shows a job, or a pipeline's part, as it is now.
    pub fn see(&mut self, message: &v1::Job) {
        let state = message.state();
        if self.states.insert(message.id.clone(), state) != Some(state) {
            self.changed(message);
        }
        match &self.bars {
            Some(bars) if state == JobState::Running && message.kind != "pipeline" => {
                let bar = self.running.entry(message.id.clone()).or_insert_with(|| bars.add(spinner(message)));
                bar.set_message(activity(message));
            }
            _ => {
                if let Some(bar) = self.running.remove(&message.id) {
                    bar.finish_and_clear();
                }
            }
        }
    }

    /// Takes everything off the terminal again.
    pub fn clear(&mut self) {
        for (_, bar) in self.running.drain() {
            bar.finish_and_clear();
        }
    }

    fn changed(&self, message: &v1::Job) {
        let state = message.state();
        // On a terminal running parts have their own lines.
        if self.bars.is_some() && !has_ended(state) && message.kind != "pipeline" {
            return;
        }
        let job = Job(message);
        let name = format!("{} {}", message.kind, printable(&message.name));
        let text = match state {
            JobState::Succeeded => {
                let duration = job.duration(Utc::now()).map(units::duration).unwrap_or_default();
                format!("{name}: {} in {duration}", job.result())
            }
            JobState::Failed => match Error::of_job(message) {
                Some(error) => {
                    format!("{name}: {}: {}", self.style.failure("failed"), printable(first_line(&error.message)))
                }
                None => format!("{name}: {}", self.style.failure("failed")),
            },
            _ if message.parent.is_empty() && !has_ended(state) => {
                format!("{name}: {} as job {}", job.state(), message.id)
            }
            _ => format!("{name}: {}", job.result()),
        };
        self.say(&text);
    }
}

fn spinner(message: &v1::Job) -> ProgressBar {
    let elapsed = Job(message).duration(Utc::now()).and_then(|elapsed| elapsed.to_std().ok()).unwrap_or_default();
    let bar = ProgressBar::new_spinner().with_elapsed(elapsed).with_prefix(format!(
        "{} {}",
        message.kind,
        printable(&message.name)
    ));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Phase and tasks: `write  3/8 tasks`.
fn activity(message: &v1::Job) -> String {
    let stages = message.stages.iter().filter(|stage| !stage.discarded);
    let (done, total) = stages.fold((0_u64, 0_u64), |(done, total), stage| {
        (done + u64::from(stage.tasks_done), total + u64::from(stage.tasks_total))
    });
    let tasks = if total > 0 { format!("{done}/{total} tasks") } else { String::new() };
    [printable(&message.phase), tasks].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_tasks_do_not_count() {
        let stage =
            |tasks_done, tasks_total, discarded| v1::Stage { tasks_done, tasks_total, discarded, ..Default::default() };
        let job = v1::Job {
            phase: "writing files".into(),
            stages: vec![stage(3, 8, false), stage(1, 2, false), stage(7, 8, true)],
            ..Default::default()
        };
        assert_eq!(activity(&job), "writing files  4/10 tasks");
        assert_eq!(activity(&v1::Job::default()), "");
    }
}
