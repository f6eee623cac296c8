//! What a merge does, as pipeline files and flags say it: `update`, `update_if: PREDICATE`, `delete_if: PREDICATE`, `ignore`.

use trireme_proto::v1::{MergeAction, MergeClause, NotMatchedBySource};

/// What `when_matched` may be.
pub const WHEN_MATCHED_HINT: &str =
    "`when_matched` is `update`, `update_if: PREDICATE`, `delete_if: PREDICATE` or `ignore`, or a list of them";
/// What `when_not_matched` may be.
pub const WHEN_NOT_MATCHED_HINT: &str = "`when_not_matched` is `insert`, `insert_if: PREDICATE` or `ignore`";
/// What `when_not_matched_by_source` may be.
pub const BY_SOURCE_HINT: &str = "`when_not_matched_by_source` is `keep` (the default) or `delete`";

/// A clause of `when_matched`; none for words that are none.
pub fn when_matched(word: &str, condition: Option<&str>) -> Option<MergeClause> {
    let action = match (word, condition) {
        ("update", None) | ("update_if", Some(_)) => MergeAction::Update,
        ("delete", None) | ("delete_if", Some(_)) => MergeAction::Delete,
        ("ignore", None) => MergeAction::Ignore,
        _ => return None,
    };
    Some(clause(action, condition))
}

/// The clause of `when_not_matched`; none for words that are none.
pub fn when_not_matched(word: &str, condition: Option<&str>) -> Option<MergeClause> {
    let action = match (word, condition) {
        ("insert", None) | ("insert_if", Some(_)) => MergeAction::Insert,
        ("ignore", None) => MergeAction::Ignore,
        _ => return None,
    };
    Some(clause(action, condition))
}

/// What `when_not_matched_by_source` says; none for words that are none.
pub fn by_source(word: &str) -> Option<NotMatchedBySource> {
    match word {
        "keep" => Some(NotMatchedBySource::Unspecified),
        "delete" => Some(NotMatchedBySource::Delete),
        _ => None,
    }
}

fn clause(action: MergeAction, condition: Option<&str>) -> MergeClause {
    MergeClause { action: action.into(), condition: condition.unwrap_or_default().to_string() }
}
