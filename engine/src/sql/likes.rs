//! `LIKE … ESCAPE`: patterns with the one escape that the engine knows, the backslash.

use datafusion::sql::sqlparser::ast::{Expr, Value, ValueWithSpan};

use crate::error::{Code, Error, Result};

/// Gives a pattern the backslash as its escape. Spark takes no escape before anything but `_`, `%` and itself.
pub(super) fn with_backslashes(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>, place: &str) -> Result<()> {
    let refused = |what: String, hint: &str| Err(Error::new(Code::InvalidSql, format!("{place}{what}")).hint(hint));
    let escape = match escape.take().map(|escape| escape.value.into_string()) {
        None => '\\',
        Some(Some(text)) if text.chars().count() == 1 => text.chars().next().unwrap_or('\\'),
        Some(_) => return refused("ESCAPE takes one character".into(), "write it as a text: ESCAPE '!'"),
    };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text) | Value::DoubleQuotedString(text), .. }) =
        pattern
    else {
        return match escape {
            '\\' => Ok(()),
            _ => refused(
                "ESCAPE needs a pattern that is a text".into(),
                "escape with a backslash in the values, and leave ESCAPE out",
            ),
        };
    };
    let mut with_backslashes = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next != escape {
            if next == '\\' {
                with_backslashes.push('\\');
            }
            with_backslashes.push(next);
            continue;
        }
        match chars.next() {
            Some(escaped @ ('_' | '%')) => with_backslashes.extend(['\\', escaped]),
            Some(escaped) if escaped == escape => match escape {
                '\\' | '_' | '%' => with_backslashes.extend(['\\', escaped]),
                _ => with_backslashes.push(escaped),
            },
            found => {
                let found = found.map_or("its end".to_string(), |c| format!("`{c}`"));
                return refused(
                    format!("the escape `{escape}` of the pattern '{text}' stands before {found}"),
                    "it can stand before _, % and itself only; double it to mean itself",
                );
            }
        }
    }
    *text = with_backslashes;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, escape: Option<&str>) -> Result<String> {
        let value = |text: &str| Value::SingleQuotedString(text.into()).with_empty_span();
        let mut expr = Expr::Value(value(pattern));
        with_backslashes(&mut expr, &mut escape.map(value), "")?;
        match expr {
            Expr::Value(value) => Ok(value.value.into_string().unwrap_or_default()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn patterns_get_backslashes() {
        for (pattern, escape, expected) in [
            ("a%", None, "a%"),
            ("a\\%", None, "a\\%"),
            ("a!%!!b_", Some("!"), "a\\%!b_"),
            ("a\\b", Some("!"), "a\\\\b"),
            ("100%%", Some("%"), "100\\%"),
            ("a\\_", Some("\\"), "a\\_"),
        ] {
            assert_eq!(of(pattern, escape).unwrap(), expected);
        }
        for (pattern, escape) in [("a!b", Some("!")), ("a!", Some("!")), ("\\x", None), ("a", Some("!!"))] {
            of(pattern, escape).unwrap_err();
        }
    }
}
