//! What a name takes of its channel.

use super::wire::{Frame, Payload};
use crate::message::{Message, Text};
use crate::protocol::json::{Raw, pick, quote};

/// What a name takes of its channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Want {
    /// All events, as whole frames.
    Whole,
    /// The payloads of one event.
    Event(Box<str>),
    /// Supabase: the payloads of one event that clients broadcast.
    Broadcast(Box<str>),
    /// Supabase: the state of presence and what changes in it, as whole frames.
    Presence,
    /// Supabase: what one of the channel's bindings sees change, by its place in the join.
    Changes(usize),
}

impl Want {
    /// What of `frame`, which `message` is, is for this name. `ids` are those that the server gave to
    /// the channel's bindings.
    pub(super) fn take(
        &self,
        frame: &Frame<'_>,
        message: &Message,
        ids: &[u64],
    ) -> Option<Message> {
        match self {
            Self::Whole => Some(message.clone()),
            Self::Event(event) => (**event == *frame.event).then(|| payload(frame, message)),
            Self::Presence => {
                matches!(&*frame.event, "presence_state" | "presence_diff").then(|| message.clone())
            }
            Self::Broadcast(wanted) => {
                if let Payload::User(event, bytes, is_json) = frame.payload {
                    let part = (event == &**wanted).then(|| message.part(bytes))?;
                    let text = is_json.then(|| Text::try_from(part.clone().into_bytes()).ok());
                    return Some(text.flatten().map_or(part, Message::Text));
                }
                let payload = object(frame, "broadcast")?;
                let [event, inner] = pick(payload.as_str(), ["event", "payload"]).ok()?;
                let inner = inner?.as_str().as_bytes();
                (event?.string()? == **wanted).then(|| message.part(inner))
            }
            Self::Changes(place) => {
                let id = ids.get(*place)?;
                let payload = object(frame, "postgres_changes")?;
                let [found, data] = pick(payload.as_str(), ["ids", "data"]).ok()?;
                let mut found = found?.elements().ok()?.map_while(Result::ok);
                let is_for_it = found.any(|found| found.u64() == Some(*id));
                let data = data?.as_str().as_bytes();
                is_for_it.then(|| message.part(data))
            }
        }
    }

    /// Event and payload of what the program sends on this name; `None` where there is none.
    pub(super) fn push(&self, text: &str) -> Option<(String, String)> {
        serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
        match self {
            Self::Event(event) => Some((event.to_string(), text.to_owned())),
            Self::Broadcast(event) => {
                let payload =
                    format!(r#"{{"type":"broadcast","event":{},"payload":{text}}}"#, quote(event));
                Some(("broadcast".to_owned(), payload))
            }
            Self::Whole => {
                let [event, payload] = pick(text, ["event", "payload"]).ok()?;
                Some((event?.string()?.into_owned(), payload?.as_str().to_owned()))
            }
            Self::Presence => Some(("presence".to_owned(), text.to_owned())),
            Self::Changes(_) => None,
        }
    }
}

fn payload(frame: &Frame<'_>, message: &Message) -> Message {
    match frame.payload {
        Payload::Binary(bytes) | Payload::Reply(_, bytes) | Payload::User(_, bytes, _) => {
            message.part(bytes)
        }
        Payload::Json(payload) => message.part(payload.as_str().as_bytes()),
    }
}

/// The payload of a frame of this event.
fn object<'a>(frame: &Frame<'a>, event: &str) -> Option<Raw<'a>> {
    match frame.payload {
        Payload::Json(payload) if frame.event == event => Some(payload),
        _ => None,
    }
}
