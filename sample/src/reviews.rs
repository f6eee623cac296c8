//! The vendor's reviews.json.

use std::io;

use crate::catalogue;
use crate::json::{self, Dump};
use crate::keys::DayKeys;
use crate::month;
use crate::output::Output;
use crate::plan::Plan;
use crate::random::Random;
use crate::vocabulary::LATIN;

/// The number that stands for reviews.json in random paths.
const FILE: u64 = 2;
const RATES: [(&str, &str); 5] = [("1", "ONE"), ("2", "TWO"), ("3", "THREE"), ("4", "FOUR"), ("5", "FIVE")];

/// The keys of a day's reviews.
///
/// # Errors
/// If the month has too few milliseconds for them.
pub fn keys(plan: &Plan, day: u64) -> Result<DayKeys, String> {
    DayKeys::new(plan.seed, FILE, plan.reviews, day, Vec::new())
}

/// Writes a day's reviews.json. Titles are in upper case; of the two movies, one is "end".
///
/// # Errors
/// If the disk does not take it.
pub fn write_reviews(plan: &Plan, day: u64, keys: &DayKeys, out: &mut Output) -> io::Result<()> {
    let title = |title: String| json::string(&title.to_uppercase());
    let movies: Vec<String> =
        (0..Plan::grown(plan.movies, day)).map(|number| title(catalogue::movie(plan.seed, number).title)).collect();
    let books: Vec<String> = (0..Plan::grown(plan.books, day))
        .map(|number| title(catalogue::book(plan.seed, number, plan.authors).title))
        .collect();

    let mut dump = Dump::open(&mut out.buffer, plan.layout);
    for row in 0..keys.ordinary() {
        let key = keys.number(row);
        let mut random = Random::of(plan.seed, &[FILE, day, 4, key]);
        let buffer = &mut out.buffer;
        dump.begin_record(buffer);

        dump.key(buffer, "content");
        dump.begin(buffer, b'{');
        dump.quoted(buffer, "text", |buffer| write_text(buffer, &mut random));
        dump.end(buffer, b'}');

        let (rate, label) = RATES[random.index(RATES.len())];
        dump.key(buffer, "rating");
        dump.begin(buffer, b'{');
        dump.entry(buffer, "rate", rate);
        dump.quoted(buffer, "label", |buffer| buffer.extend_from_slice(label.as_bytes()));
        dump.end(buffer, b'}');

        dump.key(buffer, "books");
        dump.begin(buffer, b'[');
        dump.separate(buffer);
        dump.begin(buffer, b'{');
        dump.entry(buffer, "id", "null");
        dump.key(buffer, "metadata");
        dump.begin(buffer, b'{');
        dump.entry(buffer, "title", &books[random.index(books.len())]);
        dump.entry(buffer, "pages", "\"unknown\"");
        dump.end(buffer, b'}');
        dump.end(buffer, b'}');
        dump.end(buffer, b']');

        let mut pair = [movies[random.index(movies.len())].as_str(), "\"end\""];
        if random.below(2) == 0 {
            pair.reverse();
        }
        dump.key(buffer, "movies");
        dump.begin(buffer, b'[');
        for title in pair {
            dump.separate(buffer);
            dump.begin(buffer, b'{');
            dump.entry(buffer, "id", "0");
            dump.entry(buffer, "title", title);
            dump.end(buffer, b'}');
        }
        dump.end(buffer, b']');

        let updated = random.below(month::LENGTH);
        dump.quoted(buffer, "updated", |buffer| month::write_instant(buffer, updated));
        dump.quoted(buffer, "created", |buffer| {
            month::write_instant(buffer, keys.instant(key));
        });
        dump.end_record(buffer);
        out.row_done()?;
    }
    dump.close(&mut out.buffer);
    Ok(())
}

/// Two sentences of three words.
fn write_text(out: &mut Vec<u8>, random: &mut Random) {
    for place in 0..6 {
        let word = random.pick(&LATIN);
        if place > 0 {
            out.push(b' ');
        }
        let start = out.len();
        out.extend_from_slice(word.as_bytes());
        if place % 3 == 0 {
            out[start].make_ascii_uppercase();
        }
        if place % 3 == 2 {
            out.push(b'.');
        }
    }
}
