//! Did you mean …?

/// The candidate nearest to a name, if one is near enough to be what was meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count().max(name.chars().count()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// A hint about a name that there is not: the nearest one, or what there is (at most twelve names).
pub(crate) fn hint<'a>(name: &str, what: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(nearest) = nearest(name, candidates.clone()) {
        return format!("did you mean `{nearest}`?");
    }
    let mut names: Vec<_> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(12);
    names.truncate(12);
    match (names.is_empty(), more) {
        (true, _) => format!("there are no {what}"),
        (false, 0) => format!("{what}: {}", names.join(", ")),
        (false, more) => format!("{what}: {} and {more} more", names.join(", ")),
    }
}

/// How many letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested() {
        let names = ["movie_title", "start_at", "end_at"];
        assert_eq!(nearest("movie_titel", names), Some("movie_title"));
        assert_eq!(nearest("START", names), None);
        assert_eq!(nearest("startat", names), Some("start_at"));
        assert_eq!(hint("zzz", "columns", names), "columns: `movie_title`, `start_at`, `end_at`");
        assert_eq!(hint("zzz", "columns", []), "there are no columns");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("titel", "title"), 1);
    }
}
