//! The rules for names, checked before anything is sent so that an error can point into the pipeline file. The scheduler checks them again.

use crate::error::{Error, Result};

/// Checks a table name, `schema.table`.
pub fn check_table(name: &str) -> Result<()> {
    check(name, "table", "schema")
}

/// Checks a source name, `group.name`.
pub fn check_source(name: &str) -> Result<()> {
    check(name, "source", "group")
}

fn check(name: &str, what: &str, first: &str) -> Result<()> {
    match name.split_once('.') {
        Some((a, b)) if is_part(a) && is_part(b) => Ok(()),
        _ => Err(Error::invalid(format!("`{name}` is not a {what} name")).hint(format!(
            "a {what} is named `{first}.name`, in lower-case letters, digits and `_`, each part starting with a letter"
        ))),
    }
}

/// Same rule as engine/src/names.rs.
fn is_part(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && part.len() <= 128
}

/// The name nearest to a mistyped one, if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (typed.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(typed, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A hint for a mistyped name: the nearest one, or all there are.
pub fn did_you_mean<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match nearest(typed, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if names.is_empty() => String::new(),
        None => format!("there is {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["stream.movies", "a._b", "a1.b2_c"] {
            check_table(good).unwrap();
        }
        for bad in ["movies", "a.b.c", "A.b", "a.", ".b", "a.b/c", "../x.y", "a.1b", "a.é", ""] {
            assert!(check_source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_typing_error_finds_its_name() {
        let names = ["vendor.reviews", "vendor.books"];
        assert_eq!(nearest("vendor.review", names), Some("vendor.reviews"));
        assert_eq!(nearest("vendro.books", names), Some("vendor.books"));
        assert_eq!(nearest("x.y", names), None);
        assert_eq!(did_you_mean("x.y", names), "there is `vendor.reviews`, `vendor.books`");
    }
}
