//! The scanner of JSON, against `serde_json`. What that takes is read alike, at each path; and what is
//! read of a text that it does not take has a part that it does not take either: the scanner sees no
//! structure where there is none, as it promises no more of what it skips.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wsmux::protocol::{pick_json, scan_json};

/// Brackets in a text: fewer than either of the two takes in each other.
const BRACKETS: usize = 120;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match serde_json::from_str::<Value>(text) {
        Ok(value) => same(text, &value),
        Err(_) => refused(text),
    }
});

/// `text` is `value`, and is read as it.
fn same(text: &str, value: &Value) {
    let scanned = scan_json(text);
    let count = match value {
        Value::Array(array) => {
            let scanned = scanned.as_deref().expect("an array");
            for (scanned, value) in scanned.iter().zip(array) {
                assert_eq!(scanned.key, None);
                part(scanned.text, value);
            }
            array.len()
        }
        Value::Object(object) => {
            let scanned = scanned.as_deref().expect("an object");
            let mut keys = Vec::new();
            for (at, field) in scanned.iter().enumerate() {
                let key = field.key.as_deref().expect("a key");
                let value: Value = serde_json::from_str(field.text).expect("a value");
                if !keys.contains(&key) {
                    assert_eq!(pick_json(text, key), Some(field.text), "the first of a key");
                    keys.push(key);
                }
                let is_last = !scanned[at + 1..].iter().any(|later| later.key == field.key);
                assert!(!is_last || object.get(key) == Some(&value), "the last of a key");
                part(field.text, &value);
            }
            assert_eq!(keys.len(), object.len());
            scanned.len()
        }
        _ => {
            assert!(scanned.is_none(), "{text} is neither an object nor an array");
            0
        }
    };
    assert_eq!(scanned.map_or(0, |scanned| scanned.len()), count);
}

/// A part that stands by itself.
fn part(text: &str, value: &Value) {
    let whole = format!("[{text}]");
    let scanned = scan_json(&whole).expect("an array");
    let [alone] = &scanned[..] else { panic!("one element") };
    assert_eq!(alone.text, text);
    assert_eq!(alone.bool, value.as_bool());
    assert_eq!(alone.string.as_deref(), value.as_str());
    assert!(alone.number.is_none_or(|number| value.as_u64() == Some(number)));
    same(text, value);
}

/// `text` is no JSON: what is read of it shows where.
fn refused(text: &str) {
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > BRACKETS {
        return;
    }
    let Some(scanned) = scan_json(text) else { return };
    let is_sound = |part: &str| serde_json::from_str::<Value>(part).is_ok();
    assert!(!scanned.iter().all(|scanned| is_sound(scanned.text)), "{text} is taken as sound");
}
