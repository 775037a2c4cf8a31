//! Text of others, made safe to print.
//!
//! A server chooses what it sends. Written to a terminal as it is, it could move the cursor, forge
//! lines, set the clipboard, or turn the direction of writing so that one thing reads as another.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::IgnoredAny;

/// Whether a terminal does anything but show it: control characters, those of eight bits included,
/// and what turns the direction of writing or breaks a line.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}')
}

/// `text` on one line, with escapes for what must not be printed.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c if is_hostile(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.into()
}

/// `text` without the white space between its tokens, if it is JSON; what must not be printed is
/// escaped, which changes nothing of what it means. Numbers and the order of keys stay as they are.
pub(super) fn compact_json(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let (mut in_string, mut after_backslash) = (false, false);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if in_string {
            push_armoured(&mut out, c);
            in_string = after_backslash || c != '"';
            after_backslash = !after_backslash && c == '\\';
        } else if !matches!(c, ' ' | '\t' | '\n' | '\r') {
            out.push(c);
            in_string = c == '"';
        }
    }
    Some(out)
}

/// `text` as a string of JSON.
pub(super) fn json_string(text: &str) -> String {
    armoured(&serde_json::Value::from(text).to_string())
}

/// JSON without what must not be printed: it can stand in strings only.
pub(super) fn armoured(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    json.chars().for_each(|c| push_armoured(&mut out, c));
    out
}

fn push_armoured(out: &mut String, c: char) {
    if is_hostile(c) {
        // All of them are in the basic plane.
        let _ = write!(out, "\\u{:04x}", u32::from(c));
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(escaped("plain é 漢 \\"), "plain é 漢 \\");
        assert_eq!(escaped("a\x1b[31m\r\n\tb"), "a\\u{1b}[31m\\r\\n\\tb");
        assert_eq!(escaped("\u{9b}31m \u{7f} \u{202e}"), "\\u{9b}31m \\u{7f} \\u{202e}");
    }

    #[test]
    fn json_is_compacted_and_otherwise_left_alone() {
        let text = " { \"b\" : 1.10 ,\n \"a\\\" \\\\\" : [ 12345678901234567890123 , \"x  y\" ] } ";
        let compact = r#"{"b":1.10,"a\" \\":[12345678901234567890123,"x  y"]}"#;
        assert_eq!(compact_json(text).unwrap(), compact);
        assert_eq!(compact_json("\"\u{9b}\u{7f}\"").unwrap(), r#""\u009b\u007f""#);
        for no in ["", "x", "{", "1 2", "\"\u{1b}\"", "{\"a\":1,}"] {
            assert_eq!(compact_json(no), None, "{no:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_hostile_remains_and_json_means_what_it_meant(text in r"(\PC|\p{Cc}|[\\\x22])*") {
            prop_assert!(!escaped(&text).contains(is_hostile));
            let string = json_string(&text);
            prop_assert!(!string.contains(is_hostile));
            prop_assert_eq!(serde_json::from_str::<Value>(&string).unwrap(), Value::from(&*text));
            let spaced = format!("[ {string} , {{ {string}\n: null }} ]");
            let compact = compact_json(&spaced).unwrap();
            prop_assert!(!compact.contains(is_hostile));
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            prop_assert_eq!(read(&compact), read(&spaced));
        }
    }
}
