//! The movies, books, authors and users that deliveries are about.
//!
//! The first of each are made by hand, so that every question has something to find and something to be misled by; the
//! rest follow from their number. Text keys are unique within each list, also in lower case.

use crate::random::Random;
use crate::vocabulary as words;

/// A movie of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movie {
    /// Its title.
    pub title: String,
    /// Its duration in minutes.
    pub minutes: u64,
    /// The language it was made in.
    pub language: &'static str,
    /// The size of its file in MB.
    pub megabytes: u64,
}

/// A book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// Its title.
    pub title: String,
    /// The name of its author, who is not always among the authors.
    pub author: String,
    /// Its publisher.
    pub publisher: &'static str,
}

/// A user of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Given name.
    pub first_name: &'static str,
    /// Family name.
    pub last_name: String,
    /// Email address, unique.
    pub email: String,
}

/// Number of a movie by a Singaporean author that nobody streamed.
pub const NEVER_STREAMED: usize = 0;
/// Number of a movie by a Singaporean author that was streamed once, in the month's first hour.
pub const STREAMED_ONCE: usize = 1;
/// Number of "Unforgiven".
pub const UNFORGIVEN: usize = 2;
/// Number of a movie whose title begins as "Unforgiven" does.
pub const UNFORGIVEN_NAMESAKE: usize = 3;
/// Number of a movie that lasts 101 minutes, half of which is a whole number of seconds but not of minutes.
pub const ODD_DURATION: usize = 4;
/// Movies below this number are streamed only as [`crate::sessions`] says.
pub const RESERVED_MOVIES: usize = 2;

const MOVIES: [(&str, u64, &str, u64); 16] = [
    ("The Ninth Ferry", 118, "Malay", 1204),
    ("Lantern Quay", 97, "English", 1633),
    ("Unforgiven", 124, "Welsh", 1871),
    ("Unforgiven Waters", 109, "Norwegian", 922),
    ("Seven Brass Keys", 101, "Polish", 1450),
    ("A Tiger in the Rain Trees", 133, "Malay", 2216),
    ("The Cartographer's Daughter", 142, "Portuguese", 781),
    ("Salt, Smoke and Silver", 88, "Basque", 1999),
    ("The \"Perfect\" Alibi", 76, "English", 640),
    ("Nought, or \"How to Lose an Island\"", 23, "Danish", 507),
    ("Midnight·9", 52, "Korean", 1127),
    ("Café Méridien", 158, "French", 1745),
    ("Comet Riders: Chapter II – The Long Way Home", 126, "German", 2381),
    ("Comet Riders: Chapter VII - The Last Signal", 61, "German", 2050),
    ("The Orchard Telegram", 94, "Greek", 1318),
    ("Hotel Equator", 119, "Swahili", 876),
];

const BOOKS: [(&str, &str, &str); 12] = [
    ("The Ninth Ferry", "Tan Wei Lorne", "Capstan Books"),
    ("Lantern Quay", "Priya Maralee", "Dovecote House"),
    ("A Tiger in the Rain Trees", "Josephine Teo-Brandt", "Saltmarsh"),
    ("Hotel Equator", "Marguerite Sim", "Longboat"), // "Singaporeans (overseas)" is another label
    ("SEVEN BRASS KEYS", "Edna O'Hallam", "Twelve Oaks"), // the movie's title in another case
    ("The Cartographer's Daughter", "Benedikt Rauch IV", "Fernhill & Co."),
    ("Salt, Smoke and Silver", "Edna O'Hallam", "Merchant & Sons"),
    ("The World, the Wind and the Weaver", "Tan Wei Lorne", "Quarto Yard"),
    ("Alone on a Narrow, Narrow Shore", "Priya Maralee", "Old Mill Press"),
    ("The Miller's \"Ghost\"", "Ms. Ottoline Grey", "Hearthstone"),
    ("Unforgivable", "Benedikt Rauch IV", "Nightjar Books"),
    ("Voyage à l'Île Verte", "Dr. Anselm Coldbourne", "Riverside Presse d'Or"),
];

/// Names and nationality labels. The first has neither name nor dates.
const AUTHORS: [(Option<&str>, [Option<&str>; 2]); 8] = [
    (None, [Some(""), Some("unknown")]),
    (Some("Tan Wei Lorne"), [Some(""), Some("Singaporeans")]),
    (Some("Priya Maralee"), [Some("Singaporeans"), Some("")]),
    (Some("Josephine Teo-Brandt"), [Some("Singaporeans"), None]),
    (Some("Marguerite Sim"), [Some(""), Some("Singaporeans (overseas)")]),
    (Some("Edna O'Hallam"), [None, Some("Welsh")]),
    (Some("Benedikt Rauch IV"), [Some("Austrians"), Some("")]),
    (Some("Ms. Ottoline Grey"), [Some(""), Some("English")]),
];

/// How many titles [`title`] can make, all different.
const TITLES: usize = words::ADJECTIVES.len() * words::NOUNS.len();
/// How many people [`person`] can make, all different.
const PEOPLE: usize = words::FIRST_NAMES.len() * words::NAME_HEADS.len() * words::NAME_TAILS.len();

/// The most movies, half of the titles.
pub const MOST_MOVIES: usize = TITLES / 2;
/// The most books, half of the titles.
pub const MOST_BOOKS: usize = TITLES / 2;
/// The most authors.
pub const MOST_AUTHORS: usize = PEOPLE / 2;
/// The most users.
pub const MOST_USERS: usize = PEOPLE - 1_000;

/// Of this many books made from a number, one has a movie of its title, as long as there are movies.
const FILMED_ONE_IN: usize = 20;

/// The movie number `number`.
pub fn movie(seed: u64, number: usize) -> Movie {
    if let Some((title, minutes, language, megabytes)) = MOVIES.get(number).copied() {
        return Movie { title: title.to_owned(), minutes, language, megabytes };
    }
    let mut random = Random::of(seed, &[10, number as u64]);
    Movie {
        title: title(number - MOVIES.len()),
        minutes: 23 + random.below(136),
        language: random.pick(&words::LANGUAGES),
        megabytes: 507 + random.below(1_875),
    }
}

/// The book number `number`, written by one of `authors` authors, seldom by somebody else.
pub fn book(seed: u64, number: usize, authors: usize) -> Book {
    if let Some((title, author, publisher)) = BOOKS.get(number).copied() {
        return Book { title: title.to_owned(), author: author.to_owned(), publisher };
    }
    let mut random = Random::of(seed, &[11, number as u64]);
    let made = number - BOOKS.len();
    let name = if random.below(13) == 0 {
        author_name(seed, MOST_AUTHORS + made) // there is no such author
    } else {
        author_name(seed, 1 + random.index(authors - 1))
    };
    Book {
        title: title(if made.is_multiple_of(FILMED_ONE_IN) { made / FILMED_ONE_IN } else { MOST_MOVIES + made }),
        author: name.unwrap_or_default(),
        publisher: random.pick(&words::PUBLISHERS),
    }
}

/// The name of the author number `number`; the first has none.
pub fn author_name(seed: u64, number: usize) -> Option<String> {
    if let Some((name, _)) = AUTHORS.get(number) {
        return name.map(str::to_owned);
    }
    let (first, last) = person(number * 15_013);
    let mut random = Random::of(seed, &[12, number as u64]);
    Some(match random.below(10) {
        0 => format!("{}{first} {last}", random.pick(&words::HONORIFICS)),
        1 => format!("{first} {last}{}", random.pick(&words::SUFFIXES)),
        _ => format!("{first} {last}"),
    })
}

/// The two nationality labels of the author number `number`: as a rule one empty and one not, seldom one null.
pub fn nationalities(seed: u64, number: usize) -> [Option<&'static str>; 2] {
    if let Some((_, labels)) = AUTHORS.get(number) {
        return *labels;
    }
    let mut random = Random::of(seed, &[13, number as u64]);
    let label = Some(random.pick(&words::NATIONALITIES));
    let other = if random.below(25) == 0 { None } else { Some("") };
    if random.below(2) == 0 { [label, other] } else { [other, label] }
}

/// The user number `number`.
pub fn user(seed: u64, number: usize) -> User {
    let (first_name, last_name) = person(number * 9_001);
    let plain = |name: &str| name.replace('\'', "").to_ascii_lowercase();
    let mut random = Random::of(seed, &[14, number as u64]);
    let company = format!(
        "{}{}{}",
        random.pick(&words::NAME_HEADS),
        random.pick(&["", "", "-"]),
        random.pick(&words::NAME_TAILS)
    );
    let email = format!(
        "{}{}{}@{}.{}",
        plain(first_name),
        random.pick(&[".", "_"]),
        plain(&last_name),
        plain(&company),
        random.pick(&words::TOP_LEVELS)
    );
    User { first_name, last_name, email }
}

/// A title of its own for each number below [`TITLES`]: the multiplier shares no factor with it.
fn title(number: usize) -> String {
    let place = number * 4_801 % TITLES;
    let adjective = words::ADJECTIVES[place % words::ADJECTIVES.len()];
    let noun = words::NOUNS[place / words::ADJECTIVES.len()];
    match number % 5 {
        0 | 3 => format!("The {adjective} {noun}"),
        2 => format!("Return to the {adjective} {noun}"),
        _ => format!("{adjective} {noun}"),
    }
}

/// A given and a family name, a different pair for each place below [`PEOPLE`]; places go round.
fn person(place: usize) -> (&'static str, String) {
    let place = place % PEOPLE;
    let (first, rest) = (place % words::FIRST_NAMES.len(), place / words::FIRST_NAMES.len());
    let (head, tail) = (rest % words::NAME_HEADS.len(), rest / words::NAME_HEADS.len());
    let (head, tail) = (words::NAME_HEADS[head], words::NAME_TAILS[tail]);
    let last = match head {
        "O'" | "Mac" => format!("{head}{}{}", tail[..1].to_ascii_uppercase(), &tail[1..]),
        _ => format!("{head}{tail}"),
    };
    (words::FIRST_NAMES[first], last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn unique(keys: impl ExactSizeIterator<Item = String>) -> bool {
        let count = keys.len();
        keys.map(|key| key.to_lowercase()).collect::<HashSet<_>>().len() == count
    }

    #[test]
    fn text_keys_are_unique_up_to_the_most() {
        assert!(unique((0..MOST_MOVIES).map(|n| movie(7, n).title)));
        assert!(unique((0..MOST_BOOKS).map(|n| book(7, n, 100).title)));
        assert!(unique((1..MOST_AUTHORS).map(|n| author_name(7, n).unwrap())));
        assert!(unique((0..MOST_USERS).map(|n| user(7, n).email)));
        assert!(unique((0..MOST_USERS).map(|n| {
            let user = user(7, n);
            format!("{}\t{}", user.first_name, user.last_name)
        })));
    }

    #[test]
    fn the_numbers_with_a_meaning_are_right() {
        assert_eq!(movie(7, UNFORGIVEN).title, "Unforgiven");
        assert_eq!(movie(7, ODD_DURATION).minutes, 101);
        for number in [NEVER_STREAMED, STREAMED_ONCE] {
            assert!(number < RESERVED_MOVIES);
            let title = movie(7, number).title;
            let (_, author, _) = BOOKS.iter().find(|(book, ..)| *book == title).unwrap();
            let (_, labels) = AUTHORS.iter().find(|(name, _)| *name == Some(*author)).unwrap();
            assert!(labels.contains(&Some("Singaporeans")));
        }
    }
}
