//! How JSON-RPC 2.0 is written: calls out, and what comes in as slices of it.
//!
//! - A frame is one object, or an array of them (a batch): replies and notices in any order.
//! - Nothing is copied to route a message: methods, keys and payloads are slices of the frame, but for
//!   strings with escapes.
//!
//! Source: JSON-RPC 2.0 Specification, sections 4 to 6.

use std::borrow::Cow;

use crate::message::Message;
use crate::protocol::json::{Elements, Kind, Malformed, Raw, pick, quote};

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard<'a> {
    /// It calls a method, and wants no answer.
    Notice { method: Cow<'a, str>, params: Option<Raw<'a>> },
    /// It answers a call: with a result, or with an error object.
    Reply { id: u64, outcome: Outcome<'a> },
}

/// What a call comes to.
pub(super) type Outcome<'a> = Result<Raw<'a>, Raw<'a>>;

/// The objects of a frame.
pub(super) enum Objects<'a> {
    Batch(Elements<'a>),
    One(Option<Raw<'a>>),
}

/// The objects of a frame, one by one.
pub(super) fn objects(text: &str) -> Objects<'_> {
    let whole = Raw::new(text);
    match whole.elements() {
        Ok(elements) => Objects::Batch(elements),
        Err(Malformed) => Objects::One(Some(whole)),
    }
}

impl<'a> Iterator for Objects<'a> {
    type Item = Result<Heard<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let object = match self {
            Self::Batch(elements) => elements.next()?,
            Self::One(object) => Ok(object.take()?),
        };
        Some(object.and_then(read))
    }
}

/// One object. A call of the server's that wants an answer is none that a client has.
fn read(object: Raw<'_>) -> Result<Heard<'_>, Malformed> {
    let keys = ["method", "params", "id", "result", "error"];
    let [method, params, id, result, error] = pick(object.as_str(), keys)?;
    let id = id.filter(|id| !id.is_null());
    match (method, id) {
        (Some(method), None) => {
            Ok(Heard::Notice { method: method.string().ok_or(Malformed)?, params })
        }
        (None, Some(id)) => {
            // An error of `null` is how JSON-RPC 1.0 says that there is none.
            let error = error.filter(|error| !error.is_null());
            let outcome = error.map_or_else(|| result.ok_or(Malformed).map(Ok), |e| Ok(Err(e)))?;
            Ok(Heard::Reply { id: id.u64().ok_or(Malformed)?, outcome })
        }
        (Some(_), Some(_)) | (None, None) => Err(Malformed),
    }
}

/// A call that wants an answer. `params` is JSON.
pub(super) fn call(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{params}}}"#, quote(method))
}

/// A call that wants none.
pub(super) fn notice(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":{},"params":{params}}}"#, quote(method))
}

/// Method and parameters of what the program sends: `{"method":…,"params":…}`. `None` where it is not
/// that; a number of the program's own is left out.
pub(super) fn body(message: &Message) -> Option<(Cow<'_, str>, &str)> {
    let text = message.as_text()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let [method, params] = pick(text, ["method", "params"]).ok()?;
    let params = params.map_or(Some("[]"), |params| {
        let by_position_or_name = matches!(params.kind(), Some(Kind::Array | Kind::Object));
        by_position_or_name.then(|| params.as_str())
    });
    Some((method?.string()?, params?))
}

/// An error object, for people and for decisions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) code: Option<i64>,
    pub(super) words: String,
}

impl Fault {
    pub(super) fn read(error: Raw<'_>) -> Self {
        let [code, message] = pick(error.as_str(), ["code", "message"]).unwrap_or_default();
        let code = code.and_then(|code| code.as_str().parse().ok());
        let message = message.and_then(Raw::string);
        let message = message.as_deref().unwrap_or("the server does not say why");
        let words = match code {
            Some(code) => format!("{} ({code})", crate::protocol::short(message)),
            None => crate::protocol::short(message).to_owned(),
        };
        Self { code, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Heard<'_>, Malformed> {
        let mut all = objects(text);
        let first = all.next().unwrap_or(Err(Malformed));
        assert_eq!(all.next(), None, "{text}");
        first
    }

    #[test]
    fn replies_and_notices_are_told_apart_whatever_their_order_of_fields() {
        let reply = one(r#"{"result":{"id":9,"method":"x"},"id":7,"jsonrpc":"2.0"}"#).unwrap();
        let result = Raw::new(r#"{"id":9,"method":"x"}"#);
        assert_eq!(reply, Heard::Reply { id: 7, outcome: Ok(result) });
        let error = one(r#"{"id":7,"error":{"code":-32601}}"#).unwrap();
        assert_eq!(error, Heard::Reply { id: 7, outcome: Err(Raw::new(r#"{"code":-32601}"#)) });
        let none = one(r#"{"id":7,"result":null,"error":null}"#).unwrap();
        assert_eq!(none, Heard::Reply { id: 7, outcome: Ok(Raw::new("null")) });
        let notice = one(r#"{"params":[1],"method":"n","id":null}"#).unwrap();
        assert_eq!(notice, Heard::Notice { method: "n".into(), params: Some(Raw::new("[1]")) });
    }

    #[test]
    fn what_is_neither_is_malformed() {
        for bad in [
            "",
            "7",
            "{}",
            "{",
            r#"{"id":7}"#,
            r#"{"id":"7","result":1}"#,
            r#"{"id":-7,"result":1}"#,
            r#"{"id":7.5,"result":1}"#,
            r#"{"id":null,"error":{"code":-32700}}"#,
            r#"{"id":7,"method":"call of the server's"}"#,
            r#"{"method":7}"#,
        ] {
            assert_eq!(one(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn a_batch_is_read_one_by_one_up_to_where_it_is_not_sound() {
        let batch = r#"[{"id":1,"result":2}, 3, [], {"method":"n"}]"#;
        let all: Vec<_> = objects(batch).map(|object| object.is_ok()).collect();
        assert_eq!(all, [true, false, false, true]);
        let all: Vec<_> = objects(r#"[{"id":1,"result":2},{"id""#).map(|o| o.is_ok()).collect();
        assert_eq!(all, [true, false]);
        assert_eq!(objects("[]").count(), 0);
    }

    #[test]
    fn what_the_program_sends_says_its_method() {
        let body = |text: &str| {
            body(&text.into()).map(|(method, params)| (method.into_owned(), params.to_owned()))
        };
        let is = |method: &str, params: &str| Some((method.to_owned(), params.to_owned()));
        assert_eq!(body(r#"{"method":"a","params":[1]}"#), is("a", "[1]"));
        assert_eq!(body(r#"{"id":3,"method":"a\"","jsonrpc":"2.0"}"#), is("a\"", "[]"));
        assert_eq!(body(r#"{"method":"a","params":{}}"#), is("a", "{}"));
        for bad in
            ["", "[]", "{", r#"{"method":7}"#, r#"{"method":"a","params":7}"#, r#"{"params":[]}"#]
        {
            assert_eq!(body(bad), None, "{bad}");
        }
        assert_eq!(super::body(&Message::binary(&b"{}"[..])), None);
    }

    #[test]
    fn an_error_is_told_with_its_code() {
        let fault = Fault::read(Raw::new(r#"{"code":-32602,"message":"no \"x\""}"#));
        assert_eq!(fault, Fault { code: Some(-32602), words: "no \"x\" (-32602)".into() });
        for odd in ["7", "{}", r#"{"code":"x","message":7}"#, "[1]", ""] {
            let fault = Fault::read(Raw::new(odd));
            assert_eq!((fault.code, &*fault.words), (None, "the server does not say why"), "{odd}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "é".repeat(1000));
        assert_eq!(Fault::read(Raw::new(&long)).words.len(), 256);
    }
}
