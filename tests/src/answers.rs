//! Six answers, as a run gives them and as they should be.

use serde_json::{Value, json};

/// Numbers of two answers may differ by this much: they are rounded to six decimals.
const TOLERANCE: f64 = 1e-6;

/// Checks the `answers` of a run's document against those of `oracle/answers.py`.
#[track_caller]
pub fn assert_answers(run: &Value, expected: &Value) {
    let answers = &run["answers"];
    let rows = |question: &str| {
        let rows = answers[format!("analytics.{question}")].as_array();
        rows.unwrap_or_else(|| panic!("no answer to {question}: {answers}"))
    };
    for (question, expected) in expected.as_object().unwrap() {
        if question == "movies_based_on_books" {
            let scoped = |scope: &str| {
                let mut row = json!({ "scope": scope });
                row.as_object_mut().unwrap().extend(expected[scope].as_object().unwrap().clone());
                row
            };
            assert_same(question, rows(question), &[scoped("streamed"), scoped("catalogue")]);
        } else {
            assert_same(question, rows(question), std::slice::from_ref(expected));
        }
    }
    let count = expected.as_object().unwrap().len();
    assert_eq!(answers.as_object().map(|answers| answers.len()), Some(count), "{answers}");
}

/// Checks rows: the same columns, the same values, numbers within the tolerance.
#[track_caller]
pub fn assert_same(what: &str, found: &[Value], expected: &[Value]) {
    let same = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE,
        _ => a == b,
    };
    let equal = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let (Some(found), Some(expected)) = (found.as_object(), expected.as_object()) else { return false };
            found.len() == expected.len()
                && expected.iter().all(|(name, value)| found.get(name).is_some_and(|other| same(other, value)))
        });
    assert!(equal, "{what}:\nfound    {found:?}\nexpected {expected:?}");
}

/// The right answers on the shared real data, from its ANSWERS.md.
pub fn real() -> Value {
    json!({
        "movies_based_on_books": {
            "streamed": { "movies": 91, "based_on_books": 0, "percentage": 0.00 },
            "catalogue": { "movies": 92, "based_on_books": 1, "percentage": 1.09 },
        },
        "unforgiven_outage": { "affected_users": 4, "affected_sessions": 4 },
        "singaporean_authors_movies": { "streamed_movies": 0 },
        "average_streaming_duration": { "sessions": 9652, "average_minutes": 722.266836 },
        "median_streaming_size": { "median_gb": 0.935901 },
        "half_watched_last_week": { "users": 712 },
    })
}

/// The part of a run with this kind and name.
#[track_caller]
pub fn part<'a>(run: &'a Value, kind: &str, name: &str) -> &'a Value {
    let parts = run["parts"].as_array().unwrap();
    let found = parts.iter().find(|part| part["kind"] == kind && part["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {run}"))
}
