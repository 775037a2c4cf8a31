//! What is said on one socket to a server of channels: Phoenix, or Supabase on top of it.
//!
//! - A channel is joined once, for all names of its topic, by a reference that rises with each join.
//!   What carries the reference of an earlier join is late, and for nobody.
//! - A name is joined with its channel, and a name of changes (Supabase) once the server has said that
//!   they flow.
//! - A channel that the server ends, by `phx_error` or `phx_close`, ends its names; the socket and its
//!   other channels live.
//! - A heartbeat that is not answered in time ends the socket.
//!
//! What is kept grows with the names that are wanted, and with nothing that the server says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::dialect::{Dialect, Refusal};
use super::want::Want;
use super::wire::{Frame, Payload, Ref, Version};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::json::{Raw, pick};
use crate::protocol::{Cx, Rotation, Session, To, Verdict, short};

pub(super) struct Channels {
    beat: Beat,
    channels: HashMap<Box<str>, Channel>,
    dialect: Arc<dyn Dialect>,
    last_ref: u64,
    version: Version,
}

/// The heartbeat: when the next is due, and by when the last is to be answered.
struct Beat {
    interval: Duration,
    next: Option<Instant>,
    pending: Option<(u64, Instant)>,
    timeout: Duration,
}

struct Channel {
    /// Whether changes flow.
    flows: bool,
    ids: Vec<u64>,
    join_ref: u64,
    joined: bool,
    names: Vec<(StreamName, Want)>,
}

impl Channels {
    pub(super) fn new(
        dialect: Arc<dyn Dialect>,
        version: Version,
        (interval, timeout): (Duration, Duration),
    ) -> Self {
        let beat = Beat { interval, next: None, pending: None, timeout };
        Self { beat, channels: HashMap::new(), dialect, last_ref: 0, version }
    }

    fn next_ref(&mut self) -> u64 {
        self.last_ref += 1;
        self.last_ref
    }

    fn join_one(&mut self, name: &StreamName, cx: &mut Cx<'_>) {
        let (topic, want) = match self.dialect.place(name.as_str()) {
            Ok(place) => place,
            Err(e) => return cx.rejected(name.as_str(), &e.to_string()),
        };
        if let Some(channel) = self.channels.get_mut(&*topic) {
            channel.names.retain(|(known, _)| known != name);
            if channel.is_open_to(&want) {
                cx.joined(name.as_str());
            }
            return channel.names.push((name.clone(), want));
        }
        let join_ref = self.next_ref();
        let payload = self.dialect.join(&topic, cx.token());
        cx.push(self.version.write(Some(join_ref), join_ref, &topic, "phx_join", &payload));
        let names = vec![(name.clone(), want)];
        let channel = Channel { flows: false, ids: Vec::new(), join_ref, joined: false, names };
        self.channels.insert(topic.into(), channel);
    }

    fn leave_one(&mut self, name: &StreamName, cx: &mut Cx<'_>) {
        let Ok((topic, _)) = self.dialect.place(name.as_str()) else { return };
        let Some(channel) = self.channels.get_mut(&*topic) else { return };
        channel.names.retain(|(known, _)| known != name);
        if channel.names.is_empty() {
            self.give_up(&topic, cx);
        }
    }

    /// Tells the server that a channel is not wanted any more.
    fn give_up(&mut self, topic: &str, cx: &mut Cx<'_>) -> Vec<(StreamName, Want)> {
        let Some(channel) = self.channels.remove(topic) else { return Vec::new() };
        let reference = self.next_ref();
        cx.push(self.version.write(Some(channel.join_ref), reference, topic, "phx_leave", "{}"));
        channel.names
    }

    fn frame(&mut self, frame: &Frame<'_>, message: &Message, cx: &mut Cx<'_>) {
        if frame.topic == "phoenix" {
            return self.beat.answered(frame.reference);
        }
        let is_lifecycle = matches!(&*frame.event, "phx_reply" | "phx_close" | "phx_error");
        let Some(channel) = self.channels.get_mut(&*frame.topic) else {
            // Of a channel that was left, the end is no surprise.
            if !is_lifecycle {
                cx.unroutable(message);
            }
            return;
        };
        let of = match &*frame.event {
            // Version 1 has no `join_ref`: the end of a channel says it as `ref`.
            "phx_close" | "phx_error" => frame.join_ref.or(frame.reference),
            _ => frame.join_ref,
        };
        if of.is_some_and(|of| of != Ref::Number(channel.join_ref)) {
            return;
        }
        match &*frame.event {
            "phx_close" | "phx_error" => {
                let names = self.channels.remove(&*frame.topic).map(|channel| channel.names);
                end(&names.unwrap_or_default(), cx);
            }
            "phx_reply" if frame.reference == Some(Ref::Number(channel.join_ref)) => {
                if !channel.joined {
                    self.join_reply(frame, cx);
                }
            }
            _ if !channel.joined => cx.unroutable(message),
            event => {
                let mut is_early = false;
                for (name, want) in &channel.names {
                    if let Some(part) = want.take(frame, message, &channel.ids) {
                        match channel.is_open_to(want) {
                            true => cx.data(To::Name(name.as_str()), part),
                            false => is_early = true,
                        }
                    }
                }
                if is_early {
                    cx.unroutable(message);
                }
                if event == "system" && self.dialect.says_system() {
                    self.system(frame, cx);
                }
            }
        }
    }

    fn join_reply(&mut self, frame: &Frame<'_>, cx: &mut Cx<'_>) {
        let (status, response) = match frame.payload {
            Payload::Json(payload) => {
                let fields = pick(payload.as_str(), ["status", "response"]).unwrap_or_default();
                (fields[0].and_then(Raw::string).unwrap_or_default(), fields[1])
            }
            Payload::Reply(status, _) => (status.into(), None),
            Payload::Binary(_) | Payload::User(..) => return,
        };
        let Some(channel) = self.channels.get_mut(&*frame.topic) else { return };
        if status == "ok" {
            channel.joined = true;
            match self.dialect.bindings(&frame.topic, response) {
                Some(ids) => channel.ids = ids,
                None => return self.refused(&frame.topic, "it does not name the changes", cx),
            }
            let open = channel.names.iter().filter(|(_, want)| channel.is_open_to(want));
            return open.for_each(|(name, _)| cx.joined(name.as_str()));
        }
        let reason = response.and_then(|response| match response.field("reason") {
            Some(reason) => reason.string(),
            None => Some(response.as_str().into()),
        });
        let names = self.channels.remove(&*frame.topic).map(|channel| channel.names);
        let reason = reason.as_deref().unwrap_or("the server does not say why");
        self.judge(&names.unwrap_or_default(), reason, cx);
    }

    /// Gives up a channel of which the server has said `reason`.
    fn refused(&mut self, topic: &str, reason: &str, cx: &mut Cx<'_>) {
        let names = self.give_up(topic, cx);
        self.judge(&names, reason, cx);
    }

    fn judge(&self, names: &[(StreamName, Want)], reason: &str, cx: &mut Cx<'_>) {
        match self.dialect.refusal(reason) {
            Refusal::Again => end(names, cx),
            Refusal::ForGood => {
                names.iter().for_each(|(name, _)| cx.rejected(name.as_str(), short(reason)));
            }
            Refusal::NewToken => cx.failed(Verdict::NewToken, short(reason)),
        }
    }

    /// What Supabase says of a channel beside its events.
    fn system(&mut self, frame: &Frame<'_>, cx: &mut Cx<'_>) {
        let Payload::Json(payload) = frame.payload else { return };
        let keys = ["extension", "status", "message"];
        let fields = pick(payload.as_str(), keys).unwrap_or_default();
        let [extension, status, words] =
            fields.map(|field| field.and_then(Raw::string).unwrap_or_default());
        match (&*extension, &*status) {
            ("postgres_changes", "ok") => {
                let Some(channel) = self.channels.get_mut(&*frame.topic) else { return };
                if std::mem::replace(&mut channel.flows, true) {
                    return; // It is said again.
                }
                let changes = channel.names.iter().filter(|(_, want)| want.is_changes());
                changes.for_each(|(name, _)| cx.joined(name.as_str()));
            }
            (_, "error") => self.refused(&frame.topic, &words, cx),
            _ => {}
        }
    }
}

impl Session for Channels {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.beat.next = Some(cx.now() + self.beat.interval);
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| self.join_one(name, cx));
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| self.leave_one(name, cx));
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match self.version.read(message) {
            Ok(frame) => self.frame(&frame, message, cx),
            Err(_) => cx.unroutable(message),
        }
    }

    fn send(&mut self, name: &StreamName, message: Message, cx: &mut Cx<'_>) {
        let Ok((topic, want)) = self.dialect.place(name.as_str()) else { return };
        let Some(join_ref) = self.channels.get(&*topic).map(|channel| channel.join_ref) else {
            return;
        };
        let reference = self.next_ref();
        let pushed = match (&message, &want) {
            (Message::Text(text), _) => want.push(text).map(|(event, payload)| {
                self.version.write(Some(join_ref), reference, &topic, &event, &payload)
            }),
            (Message::Binary(bytes), Want::Event(event)) => {
                self.version.write_binary(join_ref, reference, &topic, event, bytes)
            }
            (Message::Binary(_), _) => None,
        };
        if let Some(pushed) = pushed {
            cx.push(pushed);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.beat.pending.map(|(_, due)| due).into_iter().chain(self.beat.next).min()
    }

    fn rotate(&mut self, cx: &mut Cx<'_>) -> Rotation {
        let Some(push) = self.dialect.fresh_token(cx.token()) else { return Rotation::Reconnect };
        let topics: Vec<_> =
            self.channels.iter().map(|(topic, c)| (topic.clone(), c.join_ref)).collect();
        for (topic, join_ref) in topics {
            let reference = self.next_ref();
            cx.push(self.version.write(Some(join_ref), reference, &topic, push.0, &push.1));
        }
        Rotation::InPlace
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        if self.beat.pending.is_some_and(|(_, due)| due <= now) {
            (self.beat.next, self.beat.pending) = (None, None);
            return cx.failed(Verdict::Retry, "the server did not answer the heartbeat");
        }
        if self.beat.next.is_some_and(|due| due <= now) {
            let reference = self.next_ref();
            cx.push(self.version.write(None, reference, "phoenix", "heartbeat", "{}"));
            self.beat.next = Some(now + self.beat.interval);
            // One that waits is the older one: an answer to it counts.
            self.beat.pending.get_or_insert((reference, now + self.beat.timeout));
        }
    }
}

impl Channel {
    fn is_open_to(&self, want: &Want) -> bool {
        self.joined && (self.flows || !want.is_changes())
    }
}

impl Want {
    fn is_changes(&self) -> bool {
        matches!(self, Self::Changes(_))
    }
}

impl Beat {
    fn answered(&mut self, reference: Option<Ref>) {
        let is_it = |(pending, _): &mut (u64, Instant)| reference == Some(Ref::Number(*pending));
        self.pending.take_if(is_it);
    }
}

fn end(names: &[(StreamName, Want)], cx: &mut Cx<'_>) {
    names.iter().for_each(|(name, _)| cx.ended(name.as_str()));
}
