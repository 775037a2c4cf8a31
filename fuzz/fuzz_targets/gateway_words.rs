//! What clients of a gateway say and are told in JSON, in events and in queries.
//!
//! A word is answered by JSON in a frame of its own, with the client's own `id`, and whatever is said in
//! it stays a value. A message from upstream stays the data of one event, whatever is in it: it begins no
//! field and no other event. A query asks for the names that are in it, each once, and for nothing else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use wsmux::gateway::{answer_word, read_names, read_place, write_event};
use wsmux::{Message, StreamName};

/// A name of which each part has to be quoted.
const NAME: &str = "n\"\u{e4}me";

/// Most names of a query.
const MOST: usize = 5;

fuzz_target!(|input: &[u8]| {
    match std::str::from_utf8(input) {
        Ok(text) => {
            word(text);
            place(text);
            query(text);
            event(text.into());
        }
        Err(_) => event(Message::binary(input.to_vec())),
    }
});

fn word(text: &str) {
    let Some((names, answer)) = answer_word(text) else { return };
    let said: Value = serde_json::from_str(text).expect("a word is JSON");
    let answer: Value = serde_json::from_slice(payload(&answer)).expect("an answer is JSON");
    let id = said.get("id").filter(|id| !id.is_null());
    // Fractions may come back as their neighbours, each time that they are read.
    if id.is_some_and(Value::is_f64) {
        assert!(answer["id"].is_number());
    } else {
        assert_eq!(answer.get("id"), id);
    }
    if let Some(told) = answer.get("names") {
        assert_eq!(told, &Value::from(names));
    }
    assert!(matches!(answer["type"].as_str(), Some("ack" | "error" | "pong")));
}

/// An id that is read is written so that it is read as the same.
fn place(text: &str) {
    if let Some(place) = read_place(text) {
        assert_eq!(read_place(&place), Some(place));
        assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"+-".contains(&byte)));
    }
}

fn query(text: &str) {
    let Ok(uri) = format!("/sse?{text}").parse::<http::Uri>() else { return };
    let read = read_names(&uri, MOST);
    assert_eq!(read, names(uri.query().unwrap_or_default()));
}

/// The same, read by hand: `None` where a name is none, or there are none or too many.
fn names(query: &str) -> Option<Vec<String>> {
    let decoded = |text: &str| {
        let spaces = text.replace('+', " ");
        percent_decode_str(&spaces).decode_utf8().map(|text| text.into_owned()).ok()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let read: Option<Vec<_>> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| Some((decoded(key)?, decoded(value)?)))
        .collect();
    let mut all = read?.into_iter().filter(|(key, _)| key == "names");
    let (_, names) = all.next()?;
    if all.next().is_some() {
        return None;
    }
    let mut distinct = Vec::new();
    for name in names.split(',').map(str::to_owned) {
        StreamName::try_from(&*name).ok()?;
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    (distinct.len() <= MOST).then_some(distinct)
}

/// A data frame: one key besides its type and its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    base64: Option<String>,
    data: Option<IgnoredAny>,
    name: String,
    text: Option<String>,
    r#type: String,
}

fn event(message: Message) {
    let [alone, among, frame] = write_event(NAME, message.clone());
    let (kind, data) = read_event(&alone);
    match message.as_text() {
        Some(text) => assert_eq!((kind, data), (None, lines(text))),
        None => assert_eq!(kind, Some("base64")),
    }
    let (kind, told) = read_event(&among);
    assert_eq!(kind, None);
    let framed = std::str::from_utf8(payload(&frame)).expect("a frame is text");
    assert_eq!(told, lines(framed), "both are the same");
    let data: Data = serde_json::from_str(framed).expect("a data frame is JSON");
    assert_eq!((&*data.r#type, &*data.name), ("data", NAME));
    let prefix = format!(r#"{{"type":"data","name":{},"data":"#, Value::from(NAME));
    match (message.as_text(), data.data, data.text, data.base64) {
        (Some(text), Some(_), None, None) => assert_eq!(framed, format!("{prefix}{text}}}")),
        (Some(text), None, Some(told), None) => {
            assert_eq!(told, text);
            assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "it is JSON");
        }
        // `null` is JSON, and reads as nothing.
        (Some(text), None, None, None) => assert_eq!(text.trim(), "null"),
        (None, None, None, Some(told)) => {
            let bytes = data_encoding::BASE64.decode(told.as_bytes());
            assert_eq!(bytes.as_deref(), Ok(message.as_bytes()));
        }
        _ => panic!("{framed}"),
    }
}

/// A text whose lines end as those of events do.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// One event, as a browser reads it: its kind and its data.
fn read_event(bytes: &[u8]) -> (Option<&str>, String) {
    let text = std::str::from_utf8(bytes).expect("events are text");
    assert!(!text.contains('\r'));
    let lines = text.strip_suffix("\n\n").expect("an event ends with an empty line");
    let (mut kind, mut data) = (None, Vec::new());
    for line in lines.split('\n') {
        match line.split_once(": ") {
            Some(("event", value)) if data.is_empty() => kind = Some(value),
            Some(("data", value)) => data.push(value),
            _ => panic!("{line:?}"),
        }
    }
    (kind, data.join("\n"))
}

/// The payload of the only frame there is.
fn payload(frame: &[u8]) -> &[u8] {
    assert_eq!(frame[0], 0x81, "one text frame, as a whole");
    let (at, len) = match frame[1] {
        126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
        127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize),
        len => (2, usize::from(len)),
    };
    assert_eq!(frame.len(), at + len);
    &frame[at..]
}
