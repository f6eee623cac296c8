//! The vendor's authors.json and books.json: complete each day, with new values in a fifth of the records.

use std::io;

use crate::catalogue;
use crate::json::{self, Dump};
use crate::month;
use crate::output::Output;
use crate::plan::Plan;
use crate::random::Random;

/// The numbers that stand for the files in random paths.
const AUTHORS_FILE: u64 = 3;
const BOOKS_FILE: u64 = 4;
/// Of this many records, one changes a day.
const CHANGED_ONE_IN: u64 = 5;
/// Days of a year, near enough for dates of birth and death.
const YEAR: u64 = 365;

/// Writes a day's authors.json. The first author has neither name nor dates.
///
/// # Errors
/// If the disk does not take it.
pub fn write_authors(plan: &Plan, day: u64, out: &mut Output) -> io::Result<()> {
    let mut dump = Dump::open(&mut out.buffer, plan.layout);
    for number in 0..Plan::grown(plan.authors, day) {
        let buffer = &mut out.buffer;
        let name = catalogue::author_name(plan.seed, number);
        let birth = Random::of(plan.seed, &[AUTHORS_FILE, 0, 4, number as u64]).below(32 * YEAR);
        let mut random = random_of_version(plan.seed, AUTHORS_FILE, number, day);
        let death = (random.below(10) > 0).then(|| birth + 19 * YEAR + random.below(45 * YEAR));
        dump.begin_record(buffer);

        dump.key(buffer, "metadata");
        dump.begin(buffer, b'{');
        dump.entry(buffer, "name", json::optional_string(name.as_deref()));
        for (key, date) in [("birth_date", Some(birth)), ("died_at", death)] {
            match date.filter(|_| name.is_some()) {
                Some(date) => dump.quoted(buffer, key, |out| month::write_midnight(out, date)),
                None => dump.entry(buffer, key, "null"),
            }
        }
        dump.end(buffer, b'}');

        dump.key(buffer, "nationalities");
        dump.begin(buffer, b'[');
        for label in catalogue::nationalities(plan.seed, number) {
            dump.separate(buffer);
            dump.begin(buffer, b'{');
            dump.entry(buffer, "id", "null");
            dump.entry(buffer, "label", json::optional_string(label));
            dump.entry(buffer, "slug", json::optional_string(slug(label).as_deref()));
            dump.end(buffer, b'}');
        }
        dump.end(buffer, b']');
        dump.end_record(buffer);
        out.row_done()?;
    }
    dump.close(&mut out.buffer);
    Ok(())
}

/// Writes a day's books.json.
///
/// # Errors
/// If the disk does not take it.
pub fn write_books(plan: &Plan, day: u64, out: &mut Output) -> io::Result<()> {
    let mut dump = Dump::open(&mut out.buffer, plan.layout);
    for number in 0..Plan::grown(plan.books, day) {
        let buffer = &mut out.buffer;
        let book = catalogue::book(plan.seed, number, plan.authors);
        let pages = 170 + random_of_version(plan.seed, BOOKS_FILE, number, day).below(9_730);
        dump.begin_record(buffer);
        dump.entry(buffer, "name", json::string(&book.title));
        dump.entry(buffer, "pages", pages.to_string());
        dump.entry(buffer, "author", json::string(&book.author));
        dump.entry(buffer, "publisher", json::string(book.publisher));
        dump.end_record(buffer);
        out.row_done()?;
    }
    dump.close(&mut out.buffer);
    Ok(())
}

/// The randomness of a record as of a day: that of the last day that changed it, or of the first.
fn random_of_version(seed: u64, file: u64, number: usize, day: u64) -> Random {
    let number = number as u64;
    let changed_on = |day: u64| Random::of(seed, &[file, day, 5, number]).below(CHANGED_ONE_IN) == 0;
    let version = (2..=day).rev().find(|day| changed_on(*day)).unwrap_or(1);
    Random::of(seed, &[file, version, 4, number])
}

/// `Moldovans (Romanian)` becomes `moldovans-romanian`; an empty label and "unknown" have none.
fn slug(label: Option<&str>) -> Option<String> {
    label
        .filter(|label| !matches!(*label, "" | "unknown"))
        .map(|label| label.to_lowercase().replace(['(', ')', '\''], "").replace(' ', "-"))
}
