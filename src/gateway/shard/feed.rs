//! One name of a shard: who reads it, and what comes on it, encoded once per form.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::AbortHandle;
use slab::Slab;

use crate::error::Gap;
use crate::gateway::control::Form;
use crate::gateway::frame;
use crate::gateway::hub::Reading;
use crate::gateway::queue::Chunk;
use crate::gateway::visitor::{Denied, Visitor};
use crate::gateway::words;
use crate::message::Message;
use crate::name::StreamName;

#[derive(Debug)]
pub(super) struct Feed {
    /// How much later it comes than it could.
    pub(super) delay: Duration,
    pub(super) name: StreamName,
    prefix: Bytes,
    pub(super) seats: Slab<Seat>,
    /// What it is doing; empty before it is known.
    pub(super) status: &'static str,
    stop: AbortHandle,
}

/// One client that reads a name.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) client: usize,
    /// Given back on drop.
    _held: Box<dyn Any + Send + Sync>,
    pub(super) _reading: Reading,
    /// That of its visitor's standing when it was last allowed to read.
    version: u64,
}

/// What becomes of a seat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Denied(Denied),
    /// Its visitor is sent the name earlier or later now.
    GoesOver,
    Stays,
}

impl Feed {
    pub(super) fn new(name: StreamName, delay: Duration, stop: AbortHandle) -> Self {
        let prefix = words::data_prefix(name.as_str());
        Self { delay, name, prefix, seats: Slab::new(), status: "", stop }
    }

    /// What is about to be sent to its readers.
    pub(super) fn messages<'a>(&self, messages: &'a [Message]) -> Parcel<'a> {
        Parcel {
            chunks: [None, None],
            content: Content::Messages(messages),
            name: self.name.clone(),
            prefix: self.prefix.clone(),
        }
    }

    /// A gap that is about to be told to its readers.
    pub(super) fn gap<'a>(&self, gap: &'a Gap) -> Parcel<'a> {
        Parcel {
            chunks: [None, None],
            content: Content::Gap(gap),
            name: self.name.clone(),
            prefix: self.prefix.clone(),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

impl Seat {
    /// A seat that was allowed by that version of its visitor's standing.
    pub(super) fn new(
        client: usize,
        held: Box<dyn Any + Send + Sync>,
        reading: Reading,
        version: u64,
    ) -> Self {
        Self { client, _held: held, _reading: reading, version }
    }

    /// Whether its visitor may still read the name, this much later than it comes. Asked before each
    /// delivery, so it looks at a number.
    pub(super) fn check(
        &mut self,
        visitor: &Visitor,
        name: &StreamName,
        delay: Duration,
    ) -> Verdict {
        let standing = visitor.standing();
        let version = standing.version();
        if version == self.version {
            return Verdict::Stays;
        }
        if let Err(why) = visitor.may_read(name) {
            return Verdict::Denied(why);
        }
        if standing.delay() != delay {
            return Verdict::GoesOver;
        }
        self.version = version;
        Verdict::Stays
    }
}

/// Something for all readers of a name, in each form that one of them wants.
#[derive(Debug)]
pub(super) struct Parcel<'a> {
    chunks: [Option<Arc<Chunk>>; 2],
    content: Content<'a>,
    name: StreamName,
    prefix: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Gap(&'a Gap),
    Messages(&'a [Message]),
}

impl Parcel<'_> {
    /// How many messages there are.
    pub(super) fn messages(&self) -> u64 {
        match self.content {
            Content::Gap(_) => 0,
            Content::Messages(messages) => messages.len() as u64,
        }
    }

    /// It in a form; `None` where the form cannot tell it.
    pub(super) fn chunk(&mut self, form: Form) -> Option<&Arc<Chunk>> {
        let at = match (form, self.content) {
            (Form::Raw, Content::Gap(_)) => return None,
            (Form::Raw, _) => 0,
            _ => 1,
        };
        if self.chunks[at].is_none() {
            self.chunks[at] = Some(Arc::new(Chunk {
                bytes: self.encode(form),
                is_data: matches!(self.content, Content::Messages(_)),
                name: self.name.clone(),
            }));
        }
        self.chunks[at].as_ref()
    }

    fn encode(&self, form: Form) -> Bytes {
        let messages = match self.content {
            Content::Gap(gap) => {
                let json = words::gap_json(self.name.as_str(), gap);
                return frame::frame(frame::TEXT, json.as_bytes());
            }
            Content::Messages(messages) => messages,
        };
        let is_raw = form == Form::Raw;
        let beside = if is_raw { 10 } else { 24 + self.prefix.len() };
        let len = messages.iter().map(|message| message.len() + beside).sum();
        let mut out = BytesMut::with_capacity(len);
        for message in messages {
            if is_raw {
                put_raw(&mut out, message);
            } else {
                words::put_data(&mut out, &self.prefix, message);
            }
        }
        out.freeze()
    }
}

fn put_raw(out: &mut BytesMut, message: &Message) {
    let opcode = if message.as_text().is_some() { frame::TEXT } else { frame::BINARY };
    frame::put_header(out, opcode, message.len());
    out.put_slice(message.as_bytes());
}
