//! What a packet says: the server's word (`m`), and what it says it of (`p`).

use std::borrow::Cow;

use super::frame;
use crate::protocol::json::{Malformed, Raw, pick, quote};
use crate::protocol::short;

/// What the server says.
pub(super) enum Heard<'a> {
    /// The first packet: the server has opened a session.
    Hello,
    /// JSON that is none of its words.
    Other,
    Word(Word<'a>),
}

/// The arguments that are looked at.
const ARGUMENTS: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct Word<'a> {
    arguments: [Option<Raw<'a>>; ARGUMENTS],
    pub(super) method: Cow<'a, str>,
}

pub(super) fn read(packet: &str) -> Result<Heard<'_>, Malformed> {
    let [method, list] = pick(packet, ["m", "p"])?;
    let (Some(method), Some(list)) = (method, list) else {
        let id = Raw::new(packet).field("session_id").and_then(Raw::string);
        let is_hello = method.is_none() && id.is_some_and(|id| !id.is_empty());
        return Ok(if is_hello { Heard::Hello } else { Heard::Other });
    };
    let Some(method) = method.string() else { return Ok(Heard::Other) };
    let Ok(elements) = list.elements() else { return Ok(Heard::Other) };
    let mut arguments = [None; ARGUMENTS];
    for (place, element) in arguments.iter_mut().zip(elements) {
        *place = Some(element?);
    }
    Ok(Heard::Word(Word { arguments, method }))
}

impl<'a> Word<'a> {
    pub(super) fn at(&self, place: usize) -> Option<Raw<'a>> {
        self.arguments.get(place).copied().flatten()
    }

    pub(super) fn text(&self, place: usize) -> Option<Cow<'a, str>> {
        self.at(place)?.string()
    }

    /// The server's words on what is wrong: the last argument that is text.
    pub(super) fn why(&self) -> String {
        let last = (0..ARGUMENTS).rev().find_map(|place| self.text(place));
        short(last.as_deref().unwrap_or("the server does not say why")).to_owned()
    }
}

/// A frame with one command. The arguments are JSON.
pub(super) fn command(method: &str, arguments: &[&str]) -> String {
    frame::write(&format!(r#"{{"m":{},"p":[{}]}}"#, quote(method), arguments.join(",")))
}

/// Whether `text` is a command.
pub(super) fn is_command(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        && matches!(read(text), Ok(Heard::Word(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_the_first_packet_and_from_all_else() {
        let Ok(Heard::Word(word)) = read(r#"{"t":1,"p":["cs_1",{"a":[1]},"why"],"m":"du"}"#) else {
            panic!()
        };
        assert_eq!((&*word.method, word.text(0).as_deref()), ("du", Some("cs_1")));
        assert_eq!(word.at(1).map(Raw::as_str), Some(r#"{"a":[1]}"#));
        assert_eq!((&*word.why(), word.at(3)), ("why", None));
        assert!(matches!(read(r#"{"session_id":"<0.1>_x","protocol":"json"}"#), Ok(Heard::Hello)));
        for other in [
            "{}",
            r#"{"session_id":""}"#,
            r#"{"session_id":7}"#,
            r#"{"m":"du"}"#,
            r#"{"m":7,"p":[]}"#,
            r#"{"m":"du","p":{}}"#,
            r#"{"m":"du","session_id":"x"}"#,
        ] {
            assert!(matches!(read(other), Ok(Heard::Other)), "{other}");
        }
        for bad in ["", "7", "[]", "{", r#"{"m":"du","p":[}"#, r#"{"m":"du","p":[1 2]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_is_framed_and_its_arguments_are_as_they_are() {
        let text = r#"{"m":"a\"","p":["x",1]}"#;
        assert_eq!(command("a\"", &["\"x\"", "1"]), format!("~m~{}~m~{text}", text.len()));
        assert!(is_command(text));
        assert!(["", "{}", "~h~1", r#"{"m":"a","p":[1,]}"#].iter().all(|text| !is_command(text)));
    }
}
