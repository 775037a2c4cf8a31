//! How the API is written: requests out, and what comes in as slices of it.
//!
//! One text frame has one request, or one answer, or one event.

use std::time::Duration;

use serde::de::IgnoredAny;

use crate::message::Message;
use crate::protocol::json::{Kind, Raw, pick};

/// What the server says.
#[derive(Debug, PartialEq)]
pub(super) enum Heard<'a> {
    Answer {
        id: u64,
        outcome: Outcome<'a>,
    },
    Event(Raw<'a>),
    /// An error that answers nothing.
    Notice,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome<'a> {
    Done(Raw<'a>),
    Failed {
        error: Raw<'a>,
        status: u64,
    },
    /// The server does not know.
    Unknown,
}

const ERROR: u64 = 400;
const SERVER_ERROR: u64 = 500;

pub(super) fn read(text: &str) -> Option<Heard<'_>> {
    let [id, status, result, error, event] =
        pick(text, ["id", "status", "result", "error", "event"]).ok()?;
    let (Some(id), Some(status)) = (id, status) else {
        return event.filter(|event| event.kind() == Some(Kind::Object)).map(Heard::Event);
    };
    let status = status.u64()?;
    if id.is_null() {
        return error.map(|_| Heard::Notice);
    }
    let outcome = match (result, error) {
        _ if status >= SERVER_ERROR => Outcome::Unknown,
        (_, Some(error)) if status >= ERROR => Outcome::Failed { error, status },
        (Some(result), None) if status < ERROR => Outcome::Done(result),
        _ => return None,
    };
    Some(Heard::Answer { id: id.u64()?, outcome })
}

/// For how long the server takes no requests, after an answer of this status. `now` is since 1970.
pub(super) fn pause(error: Raw<'_>, status: u64, now: Duration) -> Option<Duration> {
    let otherwise = match status {
        418 => Duration::from_secs(120), // Where bans begin.
        429 => Duration::from_secs(60),  // Weights are counted by the minute.
        _ => return None,
    };
    let until = error.field("data").and_then(|data| data.field("retryAfter")).and_then(Raw::u64);
    let left = until.map(|until| Duration::from_millis(until).saturating_sub(now));
    // One that is over already is of a clock that goes wrong.
    Some(left.filter(|left| !left.is_zero()).unwrap_or(otherwise))
}

/// `body` with the client's id: an object that has a method, and parameters that are an object.
pub(super) fn request(id: u64, body: &Message) -> Option<String> {
    let text = body.as_text()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let [method, params] = pick(text, ["method", "params"]).ok()?;
    let method = method.filter(|method| method.kind() == Some(Kind::String))?.as_str();
    Some(match params {
        None => format!(r#"{{"id":{id},"method":{method}}}"#),
        Some(params) if params.kind() == Some(Kind::Object) => {
            format!(r#"{{"id":{id},"method":{method},"params":{}}}"#, params.as_str())
        }
        Some(_) => return None,
    })
}
