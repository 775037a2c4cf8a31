//! What an event looks like.
//!
//! A line ends with CR, LF or both, so a payload is split at each of them: none can begin a field of its
//! own. Names have no control characters, and ids are numbers.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::words;
use crate::error::Gap;
use crate::message::Message;

/// The place of an event: in which life of the gateway, of names that come how late, and which one. It is
/// the place of a reader, too, who has all up to it of each name that it reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// What comes later has numbers of its own.
    pub(super) delay: Duration,
    pub(super) epoch: u64,
    pub(super) number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.number)?;
        if self.delay.is_zero() { Ok(()) } else { write!(f, "-{}", self.delay.as_nanos()) }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, rest) = text.split_once('-').ok_or(())?;
        let (number, delay) = rest.split_once('-').unwrap_or((rest, "0"));
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ())?;
        let delay = Duration::from_nanos(delay.parse().map_err(|_| ())?);
        Ok(Self { delay, epoch, number: number.parse().map_err(|_| ())? })
    }
}

/// One event, without its id.
#[derive(Debug)]
pub(super) struct Event {
    /// As a reader of this name alone gets it.
    alone: Bytes,
    /// As a reader of several names gets it; made for the first of them.
    among: OnceLock<Bytes>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// The same for all.
    Any,
    Message(Message),
}

impl Event {
    pub(super) fn message(message: Message) -> Self {
        let alone = match message.as_text() {
            Some(text) => lines(None, text),
            None => lines(Some("base64"), &data_encoding::BASE64.encode(message.as_bytes())),
        };
        Self { alone, among: OnceLock::new(), content: Content::Message(message) }
    }

    pub(super) fn gap(name: &str, gap: &Gap) -> Self {
        Self::any("gap", &words::gap_json(name, gap))
    }

    pub(super) fn status(name: &str, status: &str) -> Self {
        Self::any("status", &words::status_json(name, status))
    }

    /// That a reader came back too late.
    pub(super) fn replayed(name: &str) -> Self {
        Self::any("gap", &words::replayed_json(name))
    }

    /// That a name may be read no more.
    pub(super) fn refused(name: &str, code: &'static str, message: &str) -> Self {
        Self::any("refused", &words::error_json(name, code, message))
    }

    fn any(kind: &'static str, json: &str) -> Self {
        Self { alone: lines(Some(kind), json), among: OnceLock::new(), content: Content::Any }
    }

    pub(super) fn alone(&self) -> &Bytes {
        &self.alone
    }

    /// `prefix` is the beginning of the name's data frames.
    pub(super) fn among(&self, prefix: &[u8]) -> &Bytes {
        match &self.content {
            Content::Any => &self.alone,
            Content::Message(message) => self.among.get_or_init(|| {
                let json = words::data_json(prefix, message);
                lines(None, std::str::from_utf8(&json).unwrap_or_default())
            }),
        }
    }

    /// What it takes to keep it.
    pub(super) fn len(&self) -> usize {
        self.alone.len()
    }
}

/// An event of that kind, which nobody comes back to: it has no id.
#[cfg(feature = "requests")]
pub(super) fn named(kind: &'static str, json: &str) -> Bytes {
    lines(Some(kind), json)
}

/// An event with `data`, line by line.
fn lines(kind: Option<&'static str>, data: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 32);
    if let Some(kind) = kind {
        out.put_slice(b"event: ");
        out.put_slice(kind.as_bytes());
        out.put_u8(b'\n');
    }
    let mut rest = data;
    loop {
        let end = rest.find(['\r', '\n']);
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        out.put_slice(b"data: ");
        out.put_slice(line.as_bytes());
        out.put_u8(b'\n');
        let Some(after) = after.strip_prefix("\r\n").or_else(|| after.get(1..)) else { break };
        rest = after;
    }
    out.put_u8(b'\n');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(text: &str) -> String {
        String::from_utf8(Event::message(text.into()).alone().to_vec()).unwrap()
    }

    #[test]
    fn no_payload_can_begin_a_field_or_another_event() {
        assert_eq!(alone("a"), "data: a\n\n");
        assert_eq!(alone(""), "data: \n\n");
        let evil = "a\rid: 7\n\nevent: gap\r\ndata: x\n";
        let expected = "data: a\ndata: id: 7\ndata: \ndata: event: gap\ndata: data: x\ndata: \n\n";
        assert_eq!(alone(evil), expected);
    }

    #[test]
    fn among_others_a_message_bears_its_name() {
        let event = Event::message("[1,\r\n2]".into());
        let among = event.among(&words::data_prefix("a"));
        let expected = "data: {\"type\":\"data\",\"name\":\"a\",\"data\":[1,\ndata: 2]}\n\n";
        assert_eq!(std::str::from_utf8(among).unwrap(), expected);
        let binary = Event::message(Message::binary(vec![255]));
        assert_eq!(&**binary.alone(), b"event: base64\ndata: /w==\n\n");
    }

    #[test]
    fn ids_are_read_as_they_were_written() {
        let second = Duration::from_secs(1);
        for delay in [Duration::ZERO, 15 * second, Duration::from_nanos(1)] {
            for number in [0, u64::MAX] {
                let place = Place { delay, epoch: u64::MAX, number };
                assert_eq!(place.to_string().parse(), Ok(place));
            }
        }
        for id in ["", "7", "7-x", "-", "7-1-", "7-1-x", "7-1-2-3", "7-1,7-2"] {
            assert!(id.parse::<Place>().is_err(), "{id}");
        }
    }
}
