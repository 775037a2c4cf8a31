//! Phoenix's two serializers: what a frame holds, and how one is written.
//!
//! Version 2 is `[join_ref, ref, topic, event, payload]`, version 1 an object with the same fields,
//! without a `join_ref` from the server (Phoenix, `Phoenix.Socket.V2.JSONSerializer` and
//! `Phoenix.Socket.V1.JSONSerializer`). Version 2 also has binary frames: a kind, a length byte for
//! each field, the fields, and the payload as it is.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};

use crate::message::Message;
use crate::protocol::json::{Malformed, Raw, pick, quote};

/// A serializer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    V1,
    V2,
}

/// What came. Its parts are slices of the message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame<'a> {
    pub(super) event: Cow<'a, str>,
    /// Of which instance of its channel it is, if it says so.
    pub(super) join_ref: Option<Ref>,
    pub(super) payload: Payload<'a>,
    /// What it answers.
    pub(super) reference: Option<Ref>,
    pub(super) topic: Cow<'a, str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    Binary(&'a [u8]),
    Json(Raw<'a>),
    /// A reply in a binary frame: its status is beside the payload.
    Reply(&'a str, &'a [u8]),
    /// Supabase: what a client broadcasts, by its event, and whether it is JSON.
    User(&'a str, &'a [u8], bool),
}

/// A reference. We count them from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ref {
    Number(u64),
    /// None of ours.
    Strange,
}

impl Version {
    /// The value of the parameter `vsn`.
    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }

    pub(super) fn read(self, message: &Message) -> Result<Frame<'_>, Malformed> {
        match (self, message) {
            (Self::V1, Message::Text(text)) => read_object(text),
            (Self::V2, Message::Text(text)) => read_array(text),
            (Self::V1, Message::Binary(_)) => Err(Malformed),
            (Self::V2, Message::Binary(bytes)) => read_binary(bytes),
        }
    }

    /// A message to the server. `payload` is JSON.
    pub(super) fn write(
        self,
        join_ref: Option<u64>,
        reference: u64,
        topic: &str,
        event: &str,
        payload: &str,
    ) -> Message {
        let join_ref = join_ref.map_or_else(|| "null".to_owned(), |number| format!("\"{number}\""));
        let (topic, event) = (quote(topic), quote(event));
        match self {
            Self::V1 => format!(
                r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":"{reference}","join_ref":{join_ref}}}"#
            ),
            Self::V2 => format!(r#"[{join_ref},"{reference}",{topic},{event},{payload}]"#),
        }
        .into()
    }

    /// A binary push; `None` where it has no form.
    pub(super) fn write_binary(
        self,
        join_ref: u64,
        reference: u64,
        topic: &str,
        event: &str,
        payload: &[u8],
    ) -> Option<Message> {
        let (join_ref, reference) = (join_ref.to_string(), reference.to_string());
        let fields = [&*join_ref, &*reference, topic, event];
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        for field in fields {
            bytes.put_u8(u8::try_from(field.len()).ok()?);
        }
        fields.iter().for_each(|field| bytes.put_slice(field.as_bytes()));
        bytes.put_slice(payload);
        (self == Self::V2).then(|| Message::Binary(bytes.freeze()))
    }
}

fn read_object(text: &str) -> Result<Frame<'_>, Malformed> {
    let keys = ["topic", "event", "payload", "ref", "join_ref"];
    let [topic, event, payload, reference, join_ref] = pick(text, keys)?;
    frame([join_ref, reference, topic, event, payload])
}

fn read_array(text: &str) -> Result<Frame<'_>, Malformed> {
    let mut elements = Raw::new(text).elements()?;
    let mut fields = [None; 5];
    for field in &mut fields {
        *field = Some(elements.next().ok_or(Malformed)??);
    }
    match elements.next() {
        None => frame(fields),
        Some(_) => Err(Malformed),
    }
}

fn frame(
    [join_ref, reference, topic, event, payload]: [Option<Raw<'_>>; 5],
) -> Result<Frame<'_>, Malformed> {
    Ok(Frame {
        event: event.and_then(Raw::string).ok_or(Malformed)?,
        join_ref: join_ref.and_then(Ref::read),
        payload: Payload::Json(payload.ok_or(Malformed)?),
        reference: reference.and_then(Ref::read),
        topic: topic.and_then(Raw::string).ok_or(Malformed)?,
    })
}

fn read_binary(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let (kind, rest) = bytes.split_first().ok_or(Malformed)?;
    if *kind == 4 {
        return read_user(rest);
    }
    let count = match kind {
        0 => 3, // join_ref, topic, event
        1 => 4, // join_ref, ref, topic, status
        2 => 2, // topic, event
        _ => return Err(Malformed),
    };
    let (lens, rest) = rest.split_at_checked(count).ok_or(Malformed)?;
    let (fields, rest) = read_fields(lens, rest)?;
    let (join_ref, reference, topic, event, payload) = match (kind, fields) {
        (0, [join_ref, topic, event, _]) => (join_ref, "", topic, event, Payload::Binary(rest)),
        (1, [join_ref, reference, topic, status]) => {
            (join_ref, reference, topic, "phx_reply", Payload::Reply(status, rest))
        }
        (_, [topic, event, ..]) => ("", "", topic, event, Payload::Binary(rest)),
    };
    let reference_of = |text: &str| (!text.is_empty()).then(|| Ref::parse(text));
    Ok(Frame {
        event: event.into(),
        join_ref: reference_of(join_ref),
        payload,
        reference: reference_of(reference),
        topic: topic.into(),
    })
}

/// Up to four fields of these lengths, and what is behind them.
fn read_fields<'a>(lens: &[u8], mut rest: &'a [u8]) -> Result<([&'a str; 4], &'a [u8]), Malformed> {
    let mut fields = [""; 4];
    for (field, len) in fields.iter_mut().zip(lens) {
        let (bytes, after) = rest.split_at_checked((*len).into()).ok_or(Malformed)?;
        *field = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
        rest = after;
    }
    Ok((fields, rest))
}

/// A broadcast of a client (`realtime-js`, `lib/serializer`): lengths of topic, event and metadata,
/// the encoding, and what they are of.
fn read_user(rest: &[u8]) -> Result<Frame<'_>, Malformed> {
    let (&[topic, event, metadata, encoding], rest) =
        rest.split_first_chunk::<4>().ok_or(Malformed)?;
    let ([topic, event, ..], rest) = read_fields(&[topic, event, metadata], rest)?;
    Ok(Frame {
        event: "broadcast".into(),
        join_ref: None,
        payload: Payload::User(event, rest, encoding == 1),
        reference: None,
        topic: topic.into(),
    })
}

impl Ref {
    fn read(value: Raw<'_>) -> Option<Self> {
        if value.is_null() {
            return None;
        }
        Some(value.string().map_or(Self::Strange, |text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Self {
        Raw::new(text).u64().map_or(Self::Strange, Self::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_serializers_say_the_same() {
        let v2 = Message::text(r#"["3",null,"room:\"1\"","new",{"a":[1]}]"#);
        let v1 = Message::text(
            r#"{"ref":null,"payload":{"a":[1]},"event":"new","topic":"room:\"1\"","join_ref":"3"}"#,
        );
        let frame = Version::V2.read(&v2).unwrap();
        assert_eq!(frame, Version::V1.read(&v1).unwrap());
        assert_eq!((&*frame.topic, &*frame.event), ("room:\"1\"", "new"));
        assert_eq!((frame.join_ref, frame.reference), (Some(Ref::Number(3)), None));
        assert_eq!(frame.payload, Payload::Json(Raw::new(r#"{"a":[1]}"#)));
        let written = Version::V2.write(Some(3), 4, "room:\"1\"", "new", "{}");
        assert_eq!(written.as_text(), Some(r#"["3","4","room:\"1\"","new",{}]"#));
    }

    #[test]
    fn binary_frames_are_read_by_their_lengths() {
        let read = |bytes: &'static [u8]| {
            Version::V2.read(&Message::Binary(bytes.into())).map(|frame| {
                let Payload::Binary(payload) = frame.payload else {
                    return (String::new(), vec![]);
                };
                (format!("{:?} {} {}", frame.join_ref, frame.topic, frame.event), payload.to_vec())
            })
        };
        let push = read(b"\x00\x02\x01\x0312tnew\x01\x02").unwrap();
        assert_eq!(push, ("Some(Number(12)) t new".to_owned(), vec![1, 2]));
        assert_eq!(read(b"\x02\x01\x03tnew").unwrap().0, "None t new");
        for bad in
            [&b""[..], b"\x03", b"\x00\x02\x01", b"\x00\x02\x01\xff12tnew", b"\x02\x01\x01\xff\xff"]
        {
            assert_eq!(Version::V2.read(&Message::binary(bad.to_vec())), Err(Malformed), "{bad:?}");
        }
        let written = Version::V2.write_binary(1, 2, "t", "new", b"x").unwrap();
        assert_eq!(written.as_bytes(), b"\x00\x01\x01\x01\x0312tnewx");
        assert_eq!(Version::V2.write_binary(1, 2, &"t".repeat(256), "new", b"x"), None);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "[1,2,3,4]",
            r#"["1","1","t","e"]"#,
            r#"["1","1","t","e",{},1]"#,
            r#"["1","1",1,"e",{}]"#,
        ] {
            assert_eq!(Version::V2.read(&bad.into()), Err(Malformed), "{bad}");
            assert_eq!(Version::V1.read(&bad.into()), Err(Malformed), "{bad}");
        }
        let strange = Message::text(r#"[7,"x","t","e",{}]"#);
        let frame = Version::V2.read(&strange).unwrap();
        assert_eq!((frame.join_ref, frame.reference), (Some(Ref::Strange), Some(Ref::Strange)));
    }
}
