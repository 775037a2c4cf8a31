//! A stream of events: cursors in the tails of its names.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::select_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::gateway::event::{Event, Place};
use crate::gateway::hub::{Counted, Reading};
use crate::gateway::tail::{Next, Tail};
use crate::gateway::visitor::Visitor;

/// About what is handed over at once.
const CHUNK: usize = 32 << 10;

/// One reader of one name.
#[derive(Debug)]
pub(super) struct Cursor {
    changes: watch::Receiver<()>,
    /// An event that it is told first: a gap, or what the name is doing.
    first: Option<Event>,
    is_done: bool,
    next: u64,
    _reading: Reading,
    tail: Arc<Tail>,
    version: u64,
}

/// A client's stream of events.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) _counted: Counted,
    pub(super) cursors: Vec<Cursor>,
    pub(super) draining: watch::Receiver<bool>,
    /// Whether it is of many names, however many there are.
    pub(super) is_many: bool,
    pub(super) keep_alive: Duration,
    /// Whose turn is first.
    pub(super) turn: usize,
    pub(super) visitor: Visitor,
}

impl Cursor {
    /// A reader that comes back after `place`, or comes for the first time where there is none.
    pub(super) fn new(
        (tail, changes): (Arc<Tail>, watch::Receiver<()>),
        place: Option<Option<Place>>,
        reading: Reading,
        version: u64,
    ) -> Self {
        let name = tail.name().as_str();
        let (end, status) = tail.end_of();
        let (next, first) = match place {
            Some(place) => match tail.after(place) {
                Some(next) => (next, None),
                None => (end, Some(Event::replayed(name))),
            },
            None if status.is_empty() => (end, None),
            None => (end, Some(Event::status(name, status))),
        };
        Self { changes, first, is_done: false, next, _reading: reading, tail, version }
    }
}

impl Reader {
    pub(super) fn into_body(mut self) -> Body {
        Body::from_stream(stream! {
            // Something at once, so that proxies hand the head on.
            yield Ok::<_, std::convert::Infallible>(Bytes::from_static(b"retry: 3000\n\n"));
            loop {
                let some = self.take();
                if !some.is_empty() {
                    yield Ok(some);
                    continue;
                }
                if self.is_over() {
                    return;
                }
                if !self.more().await {
                    yield Ok(Bytes::from_static(b": keep-alive\n\n"));
                }
            }
        })
    }

    fn is_over(&self) -> bool {
        *self.draining.borrow()
            || self.visitor.is_expired()
            || self.cursors.iter().all(|cursor| cursor.is_done)
    }

    /// Waits until there may be more; `false` where a sign of life is due first.
    async fn more(&mut self) -> bool {
        let expires_at = self.visitor.expires_at();
        let cursors = self.cursors.iter_mut().filter(|cursor| !cursor.is_done);
        let changes = cursors.map(|cursor| Box::pin(cursor.changes.changed()));
        tokio::select! {
            _ = select_all(changes) => true,
            _ = self.draining.changed() => true,
            () = until(expires_at) => true,
            () = sleep(self.keep_alive) => false,
        }
    }

    /// What there is, about as much as is handed over at once.
    fn take(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        if self.visitor.is_expired() {
            return out.freeze();
        }
        let count = self.cursors.len();
        self.turn = (self.turn + 1) % count.max(1);
        for at in 0..count {
            let at = (at + self.turn) % count;
            self.check(at, &mut out);
            while out.len() < CHUNK && !self.cursors[at].is_done {
                if !self.step(at, &mut out) {
                    break;
                }
            }
        }
        out.freeze()
    }

    /// Whether the visitor may still read the name.
    fn check(&mut self, at: usize, out: &mut BytesMut) {
        let version = self.visitor.standing().version();
        let cursor = &mut self.cursors[at];
        if cursor.is_done || cursor.version == version {
            return;
        }
        match self.visitor.may_read(cursor.tail.name()) {
            Ok(()) => cursor.version = version,
            Err(why) => {
                let name = cursor.tail.name().as_str();
                let refused = Event::refused(name, why.code(), &why.to_string());
                out.put_slice(refused.alone());
                cursor.is_done = true;
            }
        }
    }

    /// Puts the next event of a name; `false` where there is none.
    fn step(&mut self, at: usize, out: &mut BytesMut) -> bool {
        let cursor = &mut self.cursors[at];
        if let Some(first) = cursor.first.take() {
            self.put(at, &first, out);
            return true;
        }
        // Seen now: what comes later wakes it again.
        cursor.changes.mark_unchanged();
        match cursor.tail.at(cursor.next) {
            Next::Event(number, event) => {
                cursor.next = number + 1;
                self.put(at, &event, out);
                true
            }
            Next::Missed(next) => {
                cursor.next = next;
                cursor.first = Some(Event::replayed(cursor.tail.name().as_str()));
                true
            }
            Next::Ended => {
                cursor.is_done = true;
                false
            }
            Next::Nothing => false,
        }
    }

    /// Puts an event with its id: where each cursor is after it.
    fn put(&self, at: usize, event: &Event, out: &mut BytesMut) {
        out.put_slice(b"id: ");
        for (index, cursor) in self.cursors.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(cursor.tail.place(cursor.next - 1).to_string().as_bytes());
        }
        out.put_u8(b'\n');
        let cursor = &self.cursors[at];
        out.put_slice(if self.is_many { event.among(&cursor.tail.prefix) } else { event.alone() });
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
