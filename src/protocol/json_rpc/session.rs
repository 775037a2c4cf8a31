//! What is said on one socket by JSON-RPC, whatever the server's way to subscribe: calls and answers,
//! requests of the program's own, notices, and batches of all of them.
//!
//! - Each call has a number of its own. An answer to nothing that was asked is counted as unroutable,
//!   one that comes twice or late is ignored.
//! - What a subscription is, and what its names are called, is the [`Dialogue`]'s.

use std::borrow::Cow;

use tokio::time::Instant;

use super::calls::{Answered, Call, Calls};
use super::wire::{self, Heard, Outcome};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::json::Raw;
use crate::protocol::{Cx, RequestId, Rotation, Session, Unsupported, Verdict};

/// A server's way to subscribe.
pub(super) trait Dialogue: Send {
    /// What the dialogue calls by itself.
    type Call: Send;

    fn open(&mut self, calls: &mut Calls<Self::Call>, cx: &mut Cx<'_>) {
        let _ = calls;
        cx.ready();
    }

    fn join(&mut self, names: &[StreamName], calls: &mut Calls<Self::Call>, cx: &mut Cx<'_>);

    fn leave(&mut self, names: &[StreamName], calls: &mut Calls<Self::Call>, cx: &mut Cx<'_>);

    /// What the call of a number came to.
    fn answered(
        &mut self,
        call: (u64, Self::Call),
        outcome: Outcome<'_>,
        calls: &mut Calls<Self::Call>,
        cx: &mut Cx<'_>,
    );

    /// The server says something by itself. Returns whether it was for anybody.
    fn notice(
        &mut self,
        notice: Notice<'_>,
        calls: &mut Calls<Self::Call>,
        cx: &mut Cx<'_>,
    ) -> bool;

    fn rotate(&mut self, calls: &mut Calls<Self::Call>, cx: &mut Cx<'_>) -> Rotation {
        let _ = (calls, cx);
        Rotation::Reconnect
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }
}

/// What a server says by itself, and the message that it is a part of.
pub(super) struct Notice<'a> {
    pub(super) message: &'a Message,
    pub(super) method: Cow<'a, str>,
    pub(super) params: Option<Raw<'a>>,
}

pub(super) struct Rpc<D: Dialogue> {
    calls: Calls<D::Call>,
    dialogue: D,
}

impl<D: Dialogue> Rpc<D> {
    pub(super) fn new(dialogue: D) -> Self {
        Self { calls: Calls::default(), dialogue }
    }

    fn heard<'a>(&mut self, heard: Heard<'a>, message: &'a Message, cx: &mut Cx<'_>) {
        match heard {
            Heard::Notice { method, params } => {
                let notice = Notice { message, method, params };
                if !self.dialogue.notice(notice, &mut self.calls, cx) {
                    cx.unroutable(message);
                }
            }
            Heard::Reply { id, outcome } => match self.calls.answered(id) {
                Answered::Known(Call::Own(call)) => {
                    self.dialogue.answered((id, call), outcome, &mut self.calls, cx);
                }
                Answered::Known(Call::Request(request)) => match outcome {
                    Ok(result) => cx.reply(request, part(message, result), true),
                    Err(error) => cx.reply_failed(request, part(message, error)),
                },
                Answered::Late => {}
                Answered::Stranger => cx.unroutable(message),
            },
        }
    }
}

/// A value of a message, as a message.
pub(super) fn part(message: &Message, value: Raw<'_>) -> Message {
    message.part(value.as_str().as_bytes())
}

impl<D: Dialogue> Session for Rpc<D> {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.dialogue.open(&mut self.calls, cx);
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        self.dialogue.join(names, &mut self.calls, cx);
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        self.dialogue.leave(names, &mut self.calls, cx);
        if self.calls.is_overdue() {
            cx.failed(Verdict::Retry, "the server does not answer its calls");
        }
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let Some(text) = message.as_text() else { return cx.unroutable(message) };
        for object in wire::objects(text) {
            match object {
                Ok(heard) => self.heard(heard, message, cx),
                Err(_) => cx.unroutable(message),
            }
        }
    }

    fn send(&mut self, _: &StreamName, message: Message, cx: &mut Cx<'_>) {
        if let Some((method, params)) = wire::body(&message) {
            cx.push(wire::notice(&method, params));
        }
    }

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        let (method, params) = wire::body(&body).ok_or(Unsupported)?;
        cx.push(wire::call(self.calls.request(id), &method, params));
        Ok(())
    }

    fn cancel(&mut self, id: RequestId, _: &mut Cx<'_>) {
        self.calls.forget(id);
    }

    fn rotate(&mut self, cx: &mut Cx<'_>) -> Rotation {
        self.dialogue.rotate(&mut self.calls, cx)
    }

    fn deadline(&self) -> Option<Instant> {
        self.dialogue.deadline()
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.dialogue.tick(cx);
    }
}
