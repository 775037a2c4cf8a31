//! What is said on one socket of the API.
//!
//! - A request's number is the client's [`RequestId`], which no other request of the manager has. So an
//!   answer to one that is over is known from one to nothing that was ever asked: numbers rise.
//! - What is kept grows with requests, and with nothing that the server says.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use super::wire::{Heard, Outcome, pause, read, request};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::binance::going::{Going, is_shutdown};
use crate::protocol::{Cx, RequestId, Session, To, Unsupported};

pub(super) struct Desk {
    asked: HashSet<RequestId>,
    going: Going,
    is_whole: bool,
    /// The highest number that was asked under.
    last: u64,
}

impl Desk {
    pub(super) fn new(is_whole: bool) -> Self {
        Self { asked: HashSet::new(), going: Going::default(), is_whole, last: 0 }
    }

    fn answered(&mut self, id: u64, outcome: Outcome<'_>, message: &Message, cx: &mut Cx<'_>) {
        let late = !self.asked.remove(&RequestId(id));
        if late && !(1..=self.last).contains(&id) {
            return cx.unroutable(message);
        }
        if let Outcome::Failed { error, status } = outcome {
            let now = cx.wall().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            // Of the address, not of the request: one that nobody waits for says it as well.
            if let Some(how_long) = pause(error, status, now) {
                cx.pause(how_long);
            }
        }
        let id = RequestId(id);
        match outcome {
            _ if late => {}
            Outcome::Done(_) if self.is_whole => cx.reply(id, message.clone(), true),
            Outcome::Done(result) => {
                cx.reply(id, message.part(result.as_str().as_bytes()), true);
            }
            Outcome::Failed { error, .. } => {
                cx.reply_failed(id, message.part(error.as_str().as_bytes()));
            }
            Outcome::Unknown => cx.reply_unknown(id),
        }
    }
}

impl Session for Desk {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.going.open(cx);
        cx.ready();
    }

    /// Only asked for a name that was given up and wanted again on the same socket.
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.joined(name.as_str()));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        match message.as_text().and_then(read) {
            Some(Heard::Answer { id, outcome }) => self.answered(id, outcome, message, cx),
            Some(Heard::Event(event)) if is_shutdown(event.as_str()) => self.going.say(cx),
            Some(Heard::Event(_) | Heard::Notice) => cx.data(To::All, message.clone()),
            None => cx.unroutable(message),
        }
    }

    /// Everything here is a request.
    fn send(&mut self, _: &StreamName, _: Message, _: &mut Cx<'_>) {}

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        let text = request(id.0, &body).ok_or(Unsupported)?;
        self.asked.insert(id);
        self.last = self.last.max(id.0);
        cx.push(text);
        Ok(())
    }

    /// There is no word for it.
    fn cancel(&mut self, id: RequestId, _: &mut Cx<'_>) {
        self.asked.remove(&id);
    }
}
