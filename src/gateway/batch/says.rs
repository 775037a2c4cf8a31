//! What is said about a batch: requests by clients, events by the gateway.
//!
//! Described in `docs/gateway/batch.schema.json`. Payloads go in as they are, like those of `/ws`.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{RequestError, SendError};
use crate::gateway::event;
use crate::gateway::visitor::Denied;
use crate::gateway::words::{base64, is_json, quote};
use crate::manager::Reply;
use crate::message::Message;
use crate::name::StreamName;

/// What a client posts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Posted {
    pub(super) requests: Vec<Wish>,
}

/// A name, or a name and what goes with it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Wish {
    Name(String),
    With(With),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct With {
    name: String,
    params: Option<Value>,
}

impl Wish {
    pub(super) fn parts(&self) -> (&str, Option<&Value>) {
        match self {
            Self::Name(name) => (name, None),
            Self::With(with) => (&with.name, with.params.as_ref()),
        }
    }
}

/// Why there is no result: a stable code, and a text for people with nothing of the inside in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    Denied(Denied),
    /// The backend refused it.
    Failed,
    InvalidName,
    /// The owner's code says so, or the protocol has no such request.
    NotAllowed,
    TimedOut,
    TooLarge,
    /// It was not asked.
    Unavailable,
    /// It was asked, and may have been acted upon.
    Unknown,
}

impl Failure {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Denied(why) => why.code(),
            Self::Failed => "failed",
            Self::InvalidName => "invalid_name",
            Self::NotAllowed => "unknown_name",
            Self::TimedOut => "timed_out",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied(why) => return fmt::Display::fmt(why, f),
            Self::Failed => "the server refused the request",
            Self::InvalidName => "a name has 1 to 4096 bytes, and no control characters",
            Self::NotAllowed => "there is no such request here",
            Self::TimedOut => "no answer came in time: the server may still act upon it",
            Self::TooLarge => "the answer is too long",
            Self::Unavailable => "it was not asked: try again later",
            Self::Unknown => "the connection was lost: the server may have acted upon it",
        })
    }
}

impl From<&RequestError> for Failure {
    fn from(e: &RequestError) -> Self {
        match e {
            RequestError::Failed(_) => Self::Failed,
            RequestError::NotSent(SendError::Refused | SendError::TooLarge { .. }) => {
                Self::NotAllowed
            }
            RequestError::Overrun => Self::TooLarge,
            RequestError::TimedOut => Self::TimedOut,
            e if e.is_unsent() => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// How far a batch is. What was refused before it was asked has ended, and failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Far {
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) total: usize,
}

impl Far {
    pub(super) fn ended(&mut self, is_good: bool) {
        self.done += 1;
        self.failed += usize::from(!is_good);
    }
}

/// Why a batch is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Complete,
    Draining,
    Expired,
}

impl End {
    fn reason(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Draining => "draining",
            Self::Expired => "expired",
        }
    }
}

/// Some objects of a list, in the making.
#[derive(Debug, Default)]
pub(super) struct Group(String);

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A request that is to be asked.
    pub(super) fn asked(&mut self, index: usize, name: &StreamName) {
        self.begin(index, Some(name));
        self.0.push('}');
    }

    /// What was answered. One part is told by what it is, any other number of them as a list.
    pub(super) fn answered(&mut self, index: usize, name: &StreamName, reply: &Reply) {
        self.begin(index, Some(name));
        self.0.push(',');
        match reply.parts() {
            [part] => payload(&mut self.0, part),
            parts => {
                self.0.push_str("\"parts\":[");
                for (at, part) in parts.iter().enumerate() {
                    self.0.push_str(if at == 0 { "{" } else { ",{" });
                    payload(&mut self.0, part);
                    self.0.push('}');
                }
                self.0.push(']');
            }
        }
        self.0.push('}');
    }

    /// What failed. A name that is none is not said back.
    pub(super) fn failed(&mut self, index: usize, name: Option<&StreamName>, why: Failure) {
        self.begin(index, name);
        let (code, text) = (why.code(), quote(&why.to_string()));
        let _ = write!(self.0, r#","error":{{"code":"{code}","message":{text}}}}}"#);
    }

    fn begin(&mut self, index: usize, name: Option<&StreamName>) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        let _ = write!(self.0, "{{\"index\":{index}");
        if let Some(name) = name {
            let _ = write!(self.0, ",\"name\":{}", quote(name.as_str()));
        }
    }

    /// The list of all that is asked, and of what cannot be.
    pub(super) fn list(self, far: Far) -> Bytes {
        event::named("asked", &format!(r#"{}"requests":[{}]}}"#, head("asked", far), self.0))
    }

    /// Results that have come.
    pub(super) fn results(self, far: Far) -> Bytes {
        event::named("results", &format!(r#"{}"results":[{}]}}"#, head("results", far), self.0))
    }
}

/// What is said last.
pub(super) fn summary(far: Far, end: End) -> Bytes {
    let reason = end.reason();
    event::named("summary", &format!(r#"{}"reason":"{reason}"}}"#, head("summary", far)))
}

fn head(kind: &'static str, Far { done, failed, total }: Far) -> String {
    format!(r#"{{"type":"{kind}","done":{done},"failed":{failed},"total":{total},"#)
}

/// A payload as a field: JSON as `data`, other text as `text`, binary as `base64` (RFC 4648, section 4).
fn payload(out: &mut String, part: &Message) {
    match part.as_text() {
        Some(text) if is_json(text) => out.extend(["\"data\":", text]),
        Some(text) => out.extend(["\"text\":", &quote(text)]),
        None => out.extend(["\"base64\":", &base64(part.as_bytes())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::try_from(text).unwrap()
    }

    fn text(event: &Bytes) -> &str {
        std::str::from_utf8(event).unwrap()
    }

    #[test]
    fn a_request_is_a_name_or_a_name_and_what_goes_with_it_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<Posted>(text).ok();
        let posted = read(r#"{"requests":["a",{"name":"b","params":{"n":1}},{"name":"c"}]}"#);
        let posted = posted.unwrap();
        let parts: Vec<_> = posted.requests.iter().map(Wish::parts).collect();
        assert_eq!(parts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(parts[1].1.unwrap()["n"], 1);
        assert!(parts[0].1.is_none() && parts[2].1.is_none());
        for bad in [
            "[]",
            "{}",
            r#"{"requests":["a"],"url":"wss://evil"}"#,
            r#"{"requests":[{"name":"a","host":"evil"}]}"#,
            r#"{"requests":[{"params":1}]}"#,
            r#"{"requests":[1]}"#,
            r#"{"requests":["a"]}{}"#,
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_reply_goes_in_as_what_it_is_and_its_parts_in_their_order() {
        let mut group = Group::default();
        group.answered(0, &name("a\"b"), &Reply::new(vec![r#"{"p": 1.0}"#.into()]));
        group.answered(1, &name("b"), &Reply::new(vec!["{".into(), Message::binary(vec![255])]));
        group.answered(2, &name("c"), &Reply::new(vec![]));
        let far = Far { done: 3, failed: 0, total: 3 };
        let expected = concat!(
            "event: results\n",
            r#"data: {"type":"results","done":3,"failed":0,"total":3,"results":["#,
            r#"{"index":0,"name":"a\"b","data":{"p": 1.0}},"#,
            r#"{"index":1,"name":"b","parts":[{"text":"{"},{"base64":"/w=="}]},"#,
            r#"{"index":2,"name":"c","parts":[]}]}"#,
            "\n\n"
        );
        assert_eq!(text(&group.results(far)), expected);
    }

    #[test]
    fn a_reply_of_several_lines_is_one_event_whose_lines_are_data() {
        let mut group = Group::default();
        group.answered(0, &name("a"), &Reply::new(vec!["[1,\r\nevent: x\n]".into()]));
        let event = group.results(Far::default());
        assert!(text(&event).ends_with("\"text\":\"[1,\\r\\nevent: x\\n]\"}]}\n\n"), "not JSON");
        let mut group = Group::default();
        group.answered(0, &name("a"), &Reply::new(vec!["[1,\n\n2]".into()]));
        let event = group.results(Far::default());
        assert!(text(&event).ends_with("\"data\":[1,\ndata: \ndata: 2]}]}\n\n"));
    }

    #[test]
    fn of_a_failure_nothing_is_told_but_its_code_and_our_words() {
        let secret = "token=hunter2 at 10.0.0.7";
        let errors = [
            (RequestError::Failed(secret.into()), "failed"),
            (RequestError::NotSent(SendError::Expired), "unavailable"),
            (RequestError::NotSent(SendError::Refused), "unknown_name"),
            (RequestError::Overrun, "too_large"),
            (RequestError::TimedOut, "timed_out"),
            (RequestError::Unknown, "unknown"),
        ];
        for (error, code) in errors {
            let mut group = Group::default();
            group.failed(7, Some(&name("a")), (&error).into());
            let json: Value = serde_json::from_str(&group.0).unwrap();
            assert_eq!(json["error"]["code"], code);
            assert!(!group.0.contains("hunter2") && !group.0.contains("10.0.0.7"));
        }
    }
}
