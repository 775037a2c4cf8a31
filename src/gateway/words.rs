//! What is said on `/ws`: JSON, one object per text frame.
//!
//! The frames are described in `docs/gateway/protocol.schema.json`. What a client said comes back in
//! nothing but its `id`, which is a short string or a number, and in names, which are valid ones.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::frame;
use crate::error::Gap;
use crate::message::Message;

/// The longest `id`, in bytes of JSON.
const MAX_ID: usize = 64;

/// A client's word.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Word {
    Auth {
        #[serde(default)]
        id: Id,
        token: String,
    },
    Ping {
        #[serde(default)]
        id: Id,
    },
    Subscribe {
        #[serde(default)]
        id: Id,
        names: Vec<String>,
    },
    Unsubscribe {
        #[serde(default)]
        id: Id,
        names: Vec<String>,
    },
}

impl Word {
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// By kind: a token is never shown.
impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth { .. } => "Auth",
            Self::Ping { .. } => "Ping",
            Self::Subscribe { .. } => "Subscribe",
            Self::Unsubscribe { .. } => "Unsubscribe",
        })
    }
}

/// What a client numbers its words by, as JSON; empty where it does not.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Option<serde_json::Value>")]
pub(super) struct Id(String);

impl TryFrom<Option<serde_json::Value>> for Id {
    type Error = &'static str;

    fn try_from(value: Option<serde_json::Value>) -> Result<Self, Self::Error> {
        match value {
            None | Some(serde_json::Value::Null) => Ok(Self::default()),
            Some(value @ (serde_json::Value::String(_) | serde_json::Value::Number(_))) => {
                let text = value.to_string();
                if text.len() <= MAX_ID { Ok(Self(text)) } else { Err("an id that is too long") }
            }
            Some(_) => Err("an id is a string or a number"),
        }
    }
}

/// An object in the making. Strings that are no constants are quoted by `serde_json`.
#[derive(Debug)]
struct Object(String);

impl Object {
    fn new(kind: &'static str) -> Self {
        Self(format!(r#"{{"type":"{kind}""#))
    }

    /// With a field whose value is JSON already.
    fn raw(mut self, key: &'static str, json: &str) -> Self {
        if !json.is_empty() {
            self.0.extend([",\"", key, "\":", json]);
        }
        self
    }

    fn text(self, key: &'static str, text: &str) -> Self {
        let json = quote(text);
        self.raw(key, &json)
    }

    fn frame(mut self) -> Bytes {
        self.0.push('}');
        frame::frame(frame::TEXT, self.0.as_bytes())
    }

    fn json(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

pub(super) fn quote(text: &str) -> String {
    // A string can always be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// That a word was heard, and the names for which it holds.
pub(super) fn ack<'a>(id: &Id, names: impl IntoIterator<Item = &'a str>) -> Bytes {
    let names: Vec<String> = names.into_iter().map(quote).collect();
    let names = format!("[{}]", names.join(","));
    Object::new("ack").raw("id", &id.0).raw("names", &names).frame()
}

pub(super) fn pong(id: &Id) -> Bytes {
    Object::new("pong").raw("id", &id.0).frame()
}

/// An error, with a stable `code` and a text for people.
pub(super) fn error(id: &Id, code: &'static str, name: Option<&str>, message: &str) -> Bytes {
    refusal(id, code, name, message).frame()
}

pub(super) fn error_json(name: &str, code: &'static str, message: &str) -> String {
    refusal(&Id::default(), code, Some(name), message).json()
}

fn refusal(id: &Id, code: &'static str, name: Option<&str>, message: &str) -> Object {
    let object = Object::new("error").raw("id", &id.0).text("code", code);
    let object = match name {
        Some(name) => object.text("name", name),
        None => object,
    };
    object.text("message", message)
}

pub(super) fn status(name: &str, status: &str) -> Bytes {
    frame::frame(frame::TEXT, status_json(name, status).as_bytes())
}

pub(super) fn status_json(name: &str, status: &str) -> String {
    Object::new("status").text("name", name).text("status", status).json()
}

/// What an upstream gap is to clients.
pub(super) fn gap_json(name: &str, gap: &Gap) -> String {
    let object = Object::new("gap").text("name", name).text("reason", gap.label());
    match gap {
        Gap::Lagged { missed } | Gap::Sequence { missed: Some(missed) } => {
            object.raw("missed", &missed.to_string()).json()
        }
        Gap::Reconnected { down_for, .. } => object.raw("down_ms", &millis(*down_for)).json(),
        _ => object.json(),
    }
}

/// That a client came back too late for all that it has missed.
pub(super) fn replayed_json(name: &str) -> String {
    Object::new("gap").text("name", name).text("reason", "replayed").json()
}

/// The same as a frame, for one that is sent a name earlier or later than before.
pub(super) fn replayed(name: &str) -> Bytes {
    frame::frame(frame::TEXT, replayed_json(name).as_bytes())
}

/// That a client was too slow.
pub(super) fn missed(name: &str, reason: &'static str, missed: u64) -> Bytes {
    let object = Object::new("gap").text("name", name).text("reason", reason);
    object.raw("missed", &missed.to_string()).frame()
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// The beginning of each data frame of a name, up to the payload's key.
pub(super) fn data_prefix(name: &str) -> Bytes {
    Object::new("data").text("name", name).0.into()
}

/// Appends a data frame. A payload that is JSON goes in as it is, as `data`; other text is a string,
/// `text`; and binary is base64 (RFC 4648, section 4), `base64`.
pub(super) fn put_data(out: &mut BytesMut, prefix: &[u8], message: &Message) {
    let mut put = |key: &[u8], value: &[u8]| {
        frame::put_header(out, frame::TEXT, prefix.len() + key.len() + value.len() + 1);
        for part in [prefix, key, value, b"}"] {
            out.put_slice(part);
        }
    };
    match message.as_text() {
        Some(text) if is_json(text) => put(br#","data":"#, text.as_bytes()),
        Some(text) => put(br#","text":"#, quote(text).as_bytes()),
        None => put(br#","base64":"#, base64(message.as_bytes()).as_bytes()),
    }
}

/// The same as text.
pub(super) fn data_json(prefix: &[u8], message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    put_data(&mut out, prefix, message);
    let header = out.len() - frame_payload(&out);
    out.split_off(header).freeze()
}

fn frame_payload(frame: &[u8]) -> usize {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.len().saturating_sub(header)
}

pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", data_encoding::BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: &Bytes) -> &str {
        let at = frame.len() - frame_payload(frame);
        std::str::from_utf8(&frame[at..]).unwrap()
    }

    fn id(json: &str) -> Result<Id, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn ids_are_short_strings_and_numbers_and_come_back_as_they_are() {
        assert_eq!(text(&pong(&id("7").unwrap())), r#"{"type":"pong","id":7}"#);
        assert_eq!(text(&pong(&id(r#""a\"b""#).unwrap())), r#"{"type":"pong","id":"a\"b"}"#);
        assert_eq!(text(&pong(&Id::default())), r#"{"type":"pong"}"#);
        assert!(id("[1]").is_err());
        assert!(id(&format!("\"{}\"", "x".repeat(63))).is_err());
    }

    #[test]
    fn a_payload_goes_in_as_what_it_is() {
        let prefix = data_prefix("a\"b");
        let data = |message: &Message| {
            let mut out = BytesMut::new();
            put_data(&mut out, &prefix, message);
            let json = data_json(&prefix, message);
            assert_eq!(text(&out.freeze()).as_bytes(), &*json);
            String::from_utf8(json.to_vec()).unwrap()
        };
        let start = r#"{"type":"data","name":"a\"b","#;
        assert_eq!(data(&r#"{"p": 1.0}"#.into()), format!(r#"{start}"data":{{"p": 1.0}}}}"#));
        assert_eq!(data(&"{\"p\"\n".into()), format!(r#"{start}"text":"{{\"p\"\n"}}"#));
        assert_eq!(data(&"".into()), format!(r#"{start}"text":""}}"#));
        assert_eq!(data(&Message::binary(vec![255])), format!(r#"{start}"base64":"/w=="}}"#));
        assert_eq!(data(&"1".repeat(70_000).into()).len(), start.len() + 7 + 70_000 + 1);
    }

    #[test]
    fn two_values_after_each_other_are_not_json() {
        assert!(!is_json("{} {}"));
        assert!(!is_json(r#"1,"type":"ack""#));
    }

    #[test]
    fn words_are_read_and_what_is_none_is_not() {
        assert!(matches!(
            Word::read(r#"{"type":"subscribe","id":1,"names":["a"]}"#),
            Some(Word::Subscribe { names, .. }) if names == ["a"]
        ));
        assert!(matches!(Word::read(r#"{"type":"ping"}"#), Some(Word::Ping { .. })));
        for bad in ["", "1", "{}", r#"{"type":"subscribe"}"#, r#"{"type":"data","names":[]}"#] {
            assert!(Word::read(bad).is_none(), "{bad}");
        }
        let auth = Word::read(r#"{"type":"auth","token":"secret"}"#).unwrap();
        assert_eq!(format!("{auth:?}"), "Auth");
    }
}
