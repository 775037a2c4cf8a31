//! What the server says, and what is said to it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::name::StreamName;
use crate::protocol::json::{Kind, Raw, pick, quote};

/// A message of the server's.
#[derive(Debug, PartialEq)]
pub(super) enum Frame<'a> {
    /// It did what request `id` asked for, or it did not and says why. A failure may name no request.
    Answer { id: Option<u64>, outcome: Result<(), Cow<'a, str>> },
    /// A payload of the stream of this name.
    Data { name: Cow<'a, str>, payload: Raw<'a> },
}

impl<'a> Frame<'a> {
    /// `None` for what is neither.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let [stream, data] = pick(text, ["stream", "data"]).ok()?;
        if let (Some(stream), Some(payload)) = (stream, data) {
            return Some(Self::Data { name: stream.string()?, payload });
        }
        let fields = pick(text, ["id", "result", "code", "msg", "error"]).ok()?;
        let [id, result, code, words, error] = fields;
        let id = id.and_then(Raw::u64);
        // Errors are said as they are, and by some hosts within an object.
        let error = error.filter(|error| error.kind() == Some(Kind::Object));
        if let Some([code, words]) = error.and_then(|e| pick(e.as_str(), ["code", "msg"]).ok()) {
            return Some(Self::Answer { id, outcome: Err(refusal(code, words)) });
        }
        match (code, result) {
            (Some(_), _) => Some(Self::Answer { id, outcome: Err(refusal(code, words)) }),
            (None, Some(_)) => id.map(|id| Self::Answer { id: Some(id), outcome: Ok(()) }),
            (None, None) => None,
        }
    }
}

/// The server's words, or its code where it has none.
fn refusal<'a>(code: Option<Raw<'a>>, words: Option<Raw<'a>>) -> Cow<'a, str> {
    let words = words.and_then(Raw::string).filter(|words| !words.is_empty());
    words.unwrap_or_else(|| code.map_or("it does not say why", Raw::as_str).into())
}

/// A request about these names.
pub(super) fn request(method: &str, names: &[StreamName], id: u64) -> String {
    let mut text = format!(r#"{{"method":"{method}","params":["#);
    for (n, name) in names.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&quote(name.as_str()));
    }
    // Writing to a string does not fail.
    let _ = write!(text, r#"],"id":{id}}}"#);
    text
}
