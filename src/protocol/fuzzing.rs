//! The scanner of JSON, for a fuzzer. Built only with `--cfg fuzzing`.

use std::borrow::Cow;

use super::json::{Raw, pick};

/// A field or an element, as the scanner reads it.
#[derive(Debug)]
pub struct Scanned<'a> {
    /// The text, a slice of what was scanned.
    pub text: &'a str,
    /// The key, where it is a field.
    pub key: Option<String>,
    /// What it is as `true` or `false`.
    pub bool: Option<bool>,
    /// What it is as a number without sign, fraction and exponent.
    pub number: Option<u64>,
    /// What it is as a string.
    pub string: Option<String>,
}

/// The fields of an object or the elements of an array; `None` where it is neither, or malformed.
#[must_use]
pub fn scan_json<'a>(text: &'a str) -> Option<Vec<Scanned<'a>>> {
    let fields = Raw::new(text).fields().and_then(|fields| {
        fields.map(|field| field.map(|(key, value)| (Some(key.into_owned()), value))).collect()
    });
    let all: Vec<_> = fields
        .or_else(|_| {
            Raw::new(text).elements()?.map(|value| value.map(|value| (None, value))).collect()
        })
        .ok()?;
    let read = |(key, value): (Option<String>, Raw<'a>)| Scanned {
        text: value.as_str(),
        key,
        bool: value.bool(),
        number: value.u64(),
        string: value.string().map(Cow::into_owned),
    };
    Some(all.into_iter().map(read).collect())
}

/// The first field of this key.
#[must_use]
pub fn pick_json<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let [found] = pick(text, [key]).ok()?;
    found.map(Raw::as_str)
}
