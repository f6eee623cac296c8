//! Masks, and addresses of the web.

use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::{
    common::{Result, exec_err},
    logical_expr::ScalarUDF,
};
use percent_encoding::percent_decode_str;

use super::args::{gives_text, kernel};
use crate::sql::kernel::{Arguments, wrong_call};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("mask", [Text], [Text, Text, Text, Text], gives_text, mask),
        kernel!("url_encode", [Text], [], gives_text, |arguments| {
            arguments.texts(|row| {
                let text = arguments.text(0, row)?;
                // The crate leaves `*-._` alone and makes a space a plus, as Java does.
                Some(url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>())
            })
        }),
        kernel!("url_decode", [Text], [], gives_text, |arguments| {
            arguments.try_texts(|row| match arguments.text(0, row) {
                None => Ok(None),
                Some(text) => match decoded(text) {
                    Some(decoded) => Ok(Some(decoded)),
                    None => exec_err!("url_decode: this is not encoded as it should be: {text}"),
                },
            })
        }),
        kernel!("parse_url", [Text, Text], [Text], gives_text, parse_url),
    ]
}

/// `mask(text[, upper, lower, digit, other])`; what is masked by NULL stays.
fn mask(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.try_texts(|row| {
        let Some(text) = arguments.text(0, row) else { return Ok(None) };
        let masks = [(1, Some('X')), (2, Some('x')), (3, Some('n')), (4, None)].map(|(argument, usual)| {
            if argument >= arguments.count() {
                return Ok(usual);
            }
            let Some(mask) = arguments.text(argument, row) else { return Ok(None) };
            let mut chars = mask.chars();
            match (chars.next(), chars.next()) {
                (Some(mask), None) => Ok(Some(mask)),
                _ => Err(wrong_call(format!("mask takes single letters as masks, not `{mask}`"))),
            }
        });
        let [upper, lower, digit, other] = masks;
        let (upper, lower, digit, other) = (upper?, lower?, digit?, other?);
        let masked = text.chars().map(|c| {
            // Java asks for the category of a letter.
            let with = match c {
                'A'..='Z' => upper,
                'a'..='z' => lower,
                '0'..='9' => digit,
                c if c.is_ascii() => other,
                c if c.is_uppercase() => upper,
                c if c.is_lowercase() => lower,
                _ => other,
            };
            with.unwrap_or(c)
        });
        Ok(Some(masked.collect::<String>()))
    })
}

fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let whole = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    let plain = text.replace('+', " ");
    whole.then(|| percent_decode_str(&plain).decode_utf8_lossy().into_owned())
}

/// The parts of an address, as Java's `URI` tells them.
struct Address<'a> {
    protocol: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// Reads an address; `None` where Java would not take it.
fn address(text: &str) -> Option<Address<'_>> {
    let allowed = |c: char| {
        c.is_ascii_alphanumeric()
            || "-_.!~*'();/?:@&=+$,#[]%".contains(c)
            || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
    };
    if !text.chars().all(allowed) {
        return None;
    }
    let (rest, fragment) = match text.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (text, None),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let (protocol, rest) = match rest.split_once(':') {
        Some((protocol, after))
            if protocol.starts_with(|c: char| c.is_ascii_alphabetic())
                && protocol.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            (Some(protocol), after)
        }
        _ => (None, rest),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            ((!authority.is_empty()).then_some(authority), path)
        }
        None => (None, rest),
    };
    // What is neither a path nor after `//` has no parts.
    if protocol.is_some() && authority.is_none() && !path.starts_with('/') {
        return Some(Address { protocol, authority: None, path: "", query: None, fragment });
    }
    Some(Address { protocol, authority, path, query, fragment })
}

fn host_of(authority: &str) -> Option<&str> {
    let after_user = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match after_user.strip_prefix('[') {
        Some(inner) => return inner.split_once(']').map(|(host, _)| &after_user[..host.len() + 2]),
        None => after_user.split_once(':').map_or(after_user, |(host, _)| host),
    };
    // Java knows no hosts with underscores.
    (!host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')).then_some(host)
}

fn parse_url(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.texts(|row| {
        let (text, part) = (arguments.text(0, row)?, arguments.text(1, row)?);
        let address = address(text)?;
        if arguments.count() > 2 {
            let name = arguments.text(2, row)?;
            if part != "QUERY" || name.is_empty() {
                return None;
            }
            let pairs = address.query?.split('&').filter_map(|pair| pair.split_once('='));
            return pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        }
        match part {
            "PROTOCOL" => address.protocol.map(str::to_string),
            "AUTHORITY" => address.authority.map(str::to_string),
            "HOST" => address.authority.and_then(host_of).map(str::to_string),
            "USERINFO" => {
                let (user, host) = address.authority?.rsplit_once('@')?;
                host_of(host).map(|_| user.to_string())
            }
            "PATH" => Some(address.path.to_string()),
            "QUERY" => address.query.map(str::to_string),
            "REF" => address.fragment.map(str::to_string),
            "FILE" => Some(match address.query {
                Some(query) => format!("{}?{query}", address.path),
                None => address.path.to_string(),
            }),
            _ => None,
        }
    })
}
