//! The application database's full loads: streams.csv, users.csv and movies.csv.

use std::io::{self, Write};

use crate::catalogue::{self, Movie, RESERVED_MOVIES};
use crate::keys::DayKeys;
use crate::month;
use crate::output::Output;
use crate::plan::Plan;
use crate::random::Random;
use crate::sessions::{RESERVED_USERS, SESSIONS, Session};

/// The number that stands for streams.csv in random paths.
const FILE: u64 = 1;
/// Sessions last from ten seconds to a day.
const SHORTEST: u64 = 10 * month::SECOND;
/// Digits after the point of a stream's size.
const DECIMALS: usize = 13;
const ONE: u64 = 10_u64.pow(DECIMALS as u32);

/// The keys of a day's streams.
///
/// # Errors
/// If the month has too few milliseconds for them.
pub fn keys(plan: &Plan, day: u64) -> Result<DayKeys, String> {
    let taken = SESSIONS.iter().map(|session| session.start).collect();
    DayKeys::new(plan.seed, FILE, plan.streams, day, taken)
}

/// Writes a day's streams.csv: the sessions that every delivery has, spread among the others.
///
/// # Errors
/// If the disk does not take it.
pub fn write_streams(plan: &Plan, day: u64, keys: &DayKeys, out: &mut Output) -> io::Result<()> {
    let titles: Vec<(String, u64)> = movies(plan, day).map(|movie| (field(&movie.title), movie.megabytes)).collect();
    let emails: Vec<String> =
        (0..Plan::grown(plan.users, day)).map(|number| catalogue::user(plan.seed, number).email).collect();
    writeln!(out.buffer, "movie_title,user_email,size_mb,start_at,end_at")?;
    let mut row = |session: &Session, random: &mut Random| {
        let (title, megabytes) = &titles[session.movie];
        let buffer = &mut out.buffer;
        buffer.extend_from_slice(title.as_bytes());
        buffer.push(b',');
        buffer.extend_from_slice(emails[session.user].as_bytes());
        buffer.push(b',');
        // Up to 1.6 times the movie's own size.
        write_decimal(buffer, megabytes * random.below(ONE / 10 * 16));
        buffer.push(b',');
        month::write_instant(buffer, session.start);
        buffer.push(b',');
        month::write_instant(buffer, session.start + session.length);
        buffer.push(b'\n');
        out.row_done()
    };

    let mut fixed = SESSIONS.iter();
    let stride = (keys.ordinary() / SESSIONS.len() as u64).max(1);
    for number in 0..keys.ordinary() {
        if number % stride == 0
            && let Some(session) = fixed.next()
        {
            row(session, &mut Random::of(plan.seed, &[FILE, day, 3, session.start]))?;
        }
        let key = keys.number(number);
        let mut random = Random::of(plan.seed, &[FILE, day, 4, key]);
        let session = Session {
            user: RESERVED_USERS + random.index(emails.len() - RESERVED_USERS),
            movie: RESERVED_MOVIES + random.index(titles.len() - RESERVED_MOVIES),
            start: keys.instant(key),
            length: SHORTEST + random.below(month::DAY - SHORTEST),
        };
        row(&session, &mut random)?;
    }
    Ok(())
}

/// Writes a day's users.csv.
///
/// # Errors
/// If the disk does not take it.
pub fn write_users(plan: &Plan, day: u64, out: &mut Output) -> io::Result<()> {
    writeln!(out.buffer, "first_name,last_name,email")?;
    for number in 0..Plan::grown(plan.users, day) {
        let user = catalogue::user(plan.seed, number);
        writeln!(out.buffer, "{},{},{}", user.first_name, user.last_name, user.email)?;
        out.row_done()?;
    }
    Ok(())
}

/// Writes a day's movies.csv, which has no newline at its end.
///
/// # Errors
/// If the disk does not take it.
pub fn write_movies(plan: &Plan, day: u64, out: &mut Output) -> io::Result<()> {
    write!(out.buffer, "title,duration_mins,original_language,size_mb")?;
    for Movie { title, minutes, language, megabytes } in movies(plan, day) {
        write!(out.buffer, "\n{},{minutes},{language},{megabytes}", field(&title))?;
        out.row_done()?;
    }
    Ok(())
}

fn movies(plan: &Plan, day: u64) -> impl Iterator<Item = Movie> {
    (0..Plan::grown(plan.movies, day)).map(|number| catalogue::movie(plan.seed, number))
}

/// A CSV field, between quotes where it must be.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Writes `value` / 10^13 with the digits it needs, at least one after the point.
fn write_decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [b'0'; 24];
    let (mut place, mut rest) = (digits.len(), value);
    let point = digits.len() - DECIMALS - 1;
    while rest > 0 || place >= point {
        place -= 1;
        if place == point {
            digits[place] = b'.';
            continue;
        }
        digits[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let zeros = digits[point + 2..].iter().rev().take_while(|digit| **digit == b'0').count();
    out.extend_from_slice(&digits[place..digits.len() - zeros]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_no_idle_zeros() {
        let text = |value| {
            let mut out = Vec::new();
            write_decimal(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "0.0");
        assert_eq!(text(1), "0.0000000000001");
        assert_eq!(text(ONE), "1.0");
        assert_eq!(text(2_381 * (ONE / 10 * 16 - 1)), "3809.5999999997619");
        assert_eq!(text(ONE * 42 + ONE / 2), "42.5");
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(field("Hotel Equator"), "Hotel Equator");
        assert_eq!(field("a \"b\", c"), "\"a \"\"b\"\", c\"");
    }
}
