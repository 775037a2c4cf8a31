//! What a session within another one says, of names that are called otherwise outside.

use std::time::Duration;

use super::session::{Cx, Mark, Outlet, To};
use super::{DisconnectReason, RequestId, Verdict};
use crate::message::Message;

impl Cx<'_> {
    /// The same way in and out for a session within this one, whose names are its own: what it says of
    /// one is said here of what `rename` makes of it. For protocols that wrap another.
    ///
    /// ```
    /// # use wsmux::protocol::{Cx, Session};
    /// # fn receive(inner: &mut dyn Session, message: &wsmux::Message, cx: &mut Cx<'_>) {
    /// cx.renamed(&|name| format!("eu/{name}"), |cx| inner.receive(message, cx));
    /// # }
    /// ```
    pub fn renamed<R>(
        &mut self,
        rename: &dyn Fn(&str) -> String,
        speak: impl FnOnce(&mut Cx<'_>) -> R,
    ) -> R {
        let (now, token, wall) = (self.now, self.token, self.wall);
        let mut out = Renamed { out: &mut *self.out, rename };
        speak(&mut Cx { now, out: &mut out, random: &mut *self.random, token, wall })
    }
}

struct Renamed<'a> {
    out: &'a mut dyn Outlet,
    rename: &'a dyn Fn(&str) -> String,
}

impl Renamed<'_> {
    fn to<R>(&mut self, to: To<'_>, say: impl FnOnce(&mut dyn Outlet, To<'_>) -> R) -> R {
        match to {
            To::All => say(self.out, To::All),
            To::Name(name) => say(self.out, To::Name(&(self.rename)(name))),
        }
    }
}

impl Outlet for Renamed<'_> {
    fn alive(&mut self) {
        self.out.alive();
    }

    fn data(&mut self, to: To<'_>, payload: Message, mark: Mark) {
        self.to(to, |out, to| out.data(to, payload, mark));
    }

    fn ended(&mut self, name: &str) {
        self.out.ended(&(self.rename)(name));
    }

    fn failed(&mut self, verdict: Verdict, why: &str) {
        self.out.failed(verdict, why);
    }

    fn gap(&mut self, to: To<'_>, missed: Option<u64>) {
        self.to(to, |out, to| out.gap(to, missed));
    }

    fn has_room(&mut self, name: &str, len: usize) -> bool {
        self.out.has_room(&(self.rename)(name), len)
    }

    fn joined(&mut self, name: &str) {
        self.out.joined(&(self.rename)(name));
    }

    fn pause(&mut self, how_long: Duration) {
        self.out.pause(how_long);
    }

    fn push(&mut self, message: Message) {
        self.out.push(message);
    }

    fn ready(&mut self) {
        self.out.ready();
    }

    fn reconnect(&mut self, within: Duration) {
        self.out.reconnect(within);
    }

    fn reconnected(&mut self, to: To<'_>, down_for: Duration, reason: DisconnectReason) {
        self.to(to, |out, to| out.reconnected(to, down_for, reason));
    }

    fn rejected(&mut self, name: &str, why: &str) {
        self.out.rejected(&(self.rename)(name), why);
    }

    fn reply(&mut self, id: RequestId, part: Option<Message>, last: bool) {
        self.out.reply(id, part, last);
    }

    fn reply_failed(&mut self, id: RequestId, words: Message) {
        self.out.reply_failed(id, words);
    }

    fn reply_unknown(&mut self, id: RequestId) {
        self.out.reply_unknown(id);
    }

    fn unroutable(&mut self, message: &Message) {
        self.out.unroutable(message);
    }
}
