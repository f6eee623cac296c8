//! Taking a pipeline apart: which jobs it is made of, and which of them wait for which.
//!
//! A table waits for its source's download, unless it names a version; a question waits for the tables it reads. What the
//! pipeline does not make itself has to exist: a source in the raw zone, a table in the catalog.

use std::collections::BTreeMap;

use futures::future::join_all;
use trireme_engine::{Code, Error, Result, SourceName};
use trireme_proto::v1::{JobSpec, Pipeline, job_spec::Spec};

use crate::jobs::{Promised, Subject, Target, Work, located, location, place};

/// A job of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is about.
    pub subject: Subject,
    /// What it is asked to do.
    pub spec: JobSpec,
    /// Indices of the parts that it waits for.
    pub after: Vec<usize>,
}

/// The parts of a pipeline: downloads, loads, merges, questions, each in the order of the spec.
///
/// Errors name the place in the pipeline file: a name that is not well formed, a target that two parts write, a cycle of questions,
/// and whatever [`Work::check`] finds.
pub async fn plan(pipeline: &Pipeline, work: &dyn Work) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for spec in specs(pipeline) {
        let subject = Subject::of(&spec).map_err(|error| located(&spec, error))?;
        parts.push(Part { subject, spec, after: Vec::new() });
    }
    if parts.is_empty() {
        return Err(Error::new(Code::InvalidSpec, format!("pipeline `{}` has nothing to do", pipeline.name))
            .hint("give it sources, tables or questions"));
    }
    let makers = makers(&parts)?;
    let promised = promised(&makers);
    let checks = join_all(parts.iter().map(|part| work.check(&part.spec, &promised))).await;
    for (part, check) in parts.iter().zip(checks) {
        check.map_err(|error| located(&part.spec, error))?;
    }
    for part in &mut parts {
        let reads = reads(&part.spec, work).await.map_err(|error| located(&part.spec, error))?;
        part.after = reads.iter().filter_map(|target| makers.get(target).copied()).collect();
    }
    refuse_cycles(&parts)?;
    Ok(parts)
}

fn specs(pipeline: &Pipeline) -> impl Iterator<Item = JobSpec> {
    let downloads = pipeline.downloads.iter().cloned().map(Spec::Download);
    let loads = pipeline.loads.iter().cloned().map(Spec::Load);
    let merges = pipeline.merges.iter().cloned().map(Spec::Merge);
    let questions = pipeline.questions.iter().cloned().map(Spec::Question);
    downloads.chain(loads).chain(merges).chain(questions).map(|spec| JobSpec { spec: Some(spec) })
}

/// Which part writes what.
fn makers(parts: &[Part]) -> Result<BTreeMap<Target, usize>> {
    let mut makers = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        let Some(target) = part.subject.target() else { continue };
        if let Some(first) = makers.insert(target.clone(), at).and_then(|first| parts.get(first)) {
            let elsewhere = match location(&first.spec) {
                Some(at) if !at.file.is_empty() => format!(", first at {}", place(at)),
                _ => String::new(),
            };
            let error = Error::new(Code::InvalidSpec, format!("{target} is made twice{elsewhere}"))
                .hint("each source and each table has one place in a pipeline");
            return Err(located(&part.spec, error));
        }
    }
    Ok(makers)
}

fn promised(makers: &BTreeMap<Target, usize>) -> Promised {
    let mut promised = Promised::default();
    for target in makers.keys() {
        match target {
            Target::Source(source) => promised.sources.insert(source.clone()),
            Target::Table(table) => promised.tables.insert(table.clone()),
            Target::Layout(_) => false,
        };
    }
    promised
}

/// What a part reads that another part may make.
async fn reads(spec: &JobSpec, work: &dyn Work) -> Result<Vec<Target>> {
    let table = match &spec.spec {
        Some(Spec::Load(load)) => load.spec.as_ref(),
        Some(Spec::Merge(merge)) => merge.spec.as_ref(),
        Some(Spec::Question(question)) => {
            return Ok(work.reads(question).await?.into_iter().map(Target::Table).collect());
        }
        _ => None,
    };
    match table.and_then(|table| table.source.as_ref()) {
        // A version that is named exists already, whatever a download brings.
        Some(source) if source.version.is_empty() => Ok(vec![Target::Source(source.source.parse::<SourceName>()?)]),
        _ => Ok(Vec::new()),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    OnPath,
    Done,
}

/// Errors with the loop's names when parts wait for one another in a circle.
fn refuse_cycles(parts: &[Part]) -> Result<()> {
    let mut marks = vec![Mark::New; parts.len()];
    for start in 0..parts.len() {
        // Depth first, on a stack of our own: a pipeline's length is the user's.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((at, next)) = path.pop() {
            if next == 0 && marks[at] != Mark::New {
                continue;
            }
            marks[at] = Mark::OnPath;
            let Some(&before) = parts[at].after.get(next) else {
                marks[at] = Mark::Done;
                continue;
            };
            path.push((at, next + 1));
            match marks[before] {
                Mark::New => path.push((before, 0)),
                Mark::OnPath => return Err(cycle(parts, &path, before)),
                Mark::Done => {}
            }
        }
    }
    Ok(())
}

fn cycle(parts: &[Part], path: &[(usize, usize)], back_to: usize) -> Error {
    let names = path.iter().map(|(at, _)| *at).skip_while(|at| *at != back_to).chain([back_to]);
    let names: Vec<String> = names.map(|at| parts[at].subject.name()).collect();
    let error = Error::new(Code::InvalidSpec, format!("a cycle: {} (each reads the next)", names.join(" → ")))
        .hint("a question can't read what is made of its own result");
    located(&parts[back_to].spec, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(at: usize, after: Vec<usize>) -> Part {
        let subject = Subject::Question(format!("q.q{at}").parse().unwrap());
        Part { subject, spec: JobSpec::default(), after }
    }

    /// Whether all parts can be put in an order, by taking those away that wait for nothing (Kahn).
    fn can_be_ordered(parts: &[Part]) -> bool {
        let mut left: Vec<usize> = (0..parts.len()).collect();
        loop {
            let ready = |at: &usize| parts[*at].after.iter().all(|before| !left.contains(before));
            let rest: Vec<usize> = left.iter().copied().filter(|at| !ready(at)).collect();
            if rest.len() == left.len() {
                return left.is_empty();
            }
            left = rest;
        }
    }

    proptest! {
        #[test]
        fn a_cycle_is_found_exactly_when_there_is_one(edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..14)) {
            let parts: Vec<Part> = (0..8)
                .map(|at| part(at, edges.iter().filter(|(from, _)| *from == at).map(|(_, to)| *to).collect()))
                .collect();
            match refuse_cycles(&parts) {
                Ok(()) => prop_assert!(can_be_ordered(&parts)),
                Err(error) => {
                    prop_assert!(!can_be_ordered(&parts));
                    let names = error.message.trim_start_matches("a cycle: ").split(" (").next().unwrap_or_default();
                    let at: Vec<usize> = names.split(" → ").map(|name| name[3..].parse().unwrap()).collect();
                    prop_assert!(at.len() > 1 && at.first() == at.last());
                    prop_assert!(at.windows(2).all(|edge| edges.contains(&(edge[0], edge[1]))), "{}", error.message);
                }
            }
        }
    }

    #[test]
    fn a_long_pipeline_is_no_deep_recursion() {
        let parts: Vec<Part> = (0..100_000).map(|at| part(at, if at == 0 { vec![] } else { vec![at - 1] })).collect();
        assert!(refuse_cycles(&parts).is_ok());
    }
}
