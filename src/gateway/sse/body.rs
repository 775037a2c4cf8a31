//! A stream of events: cursors in the tails of its names, in the order of all events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::select_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::cursor::Cursor;
use crate::gateway::event::{Event, Place};
use crate::gateway::hub::Counted;
use crate::gateway::shared::Shared;
use crate::gateway::visitor::Visitor;

/// About what is handed over at once.
const CHUNK: usize = 32 << 10;

/// A client's stream of events.
pub(super) struct Reader {
    pub(super) _counted: Counted,
    pub(super) cursors: Vec<Cursor>,
    pub(super) draining: watch::Receiver<bool>,
    /// Whether it is of many names, however many there are.
    pub(super) is_many: bool,
    pub(super) keep_alive: Duration,
    pub(super) shared: Arc<Shared>,
    pub(super) visitor: Visitor,
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
        let changes = cursors.map(|cursor| Box::pin(cursor.changed()));
        tokio::select! {
            _ = select_all(changes) => true,
            _ = self.draining.changed() => true,
            () = until(expires_at) => true,
            () = sleep(self.keep_alive) => false,
        }
    }

    /// What there is, about as much as is handed over at once, in the order of its numbers: so the last of
    /// them says of each name where the client is.
    fn take(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        if self.visitor.is_expired() {
            return out.freeze();
        }
        for at in 0..self.cursors.len() {
            self.cursors[at].look();
            self.check(at, &mut out);
        }
        // After the look: whatever comes behind this wakes it.
        let upto = self.shared.numbers().upto();
        let cursors = self.cursors.iter_mut().enumerate();
        let due = cursors.filter_map(|(at, cursor)| Some(Reverse((cursor.due(upto)?, at))));
        let mut due: BinaryHeap<_> = due.collect();
        let mut owed = self.cursors.iter().filter(|cursor| cursor.owes_gap).count();
        while out.len() < CHUNK {
            let Some(Reverse((_, at))) = due.pop() else { break };
            let cursor = &mut self.cursors[at];
            owed -= usize::from(cursor.owes_gap);
            let Some((place, event)) = cursor.take() else { continue };
            due.extend(cursor.due(upto).map(|number| Reverse((number, at))));
            // No id says that it was told of all gaps before it was: who goes keeps the id it came with.
            self.put(at, &event, (owed == 0).then_some(place), &mut out);
        }
        out.freeze()
    }

    /// Whether the visitor may still read the name, and when it is sent what comes.
    fn check(&mut self, at: usize, out: &mut BytesMut) {
        let version = self.visitor.standing().version();
        let cursor = &mut self.cursors[at];
        if cursor.is_done || cursor.version == version {
            return;
        }
        cursor.version = version;
        let name = cursor.tail.name().clone();
        if let Err(why) = self.visitor.may_read(&name) {
            return self.refuse(at, why.code(), &why.to_string(), out);
        }
        if cursor.tail.delay() != self.visitor.standing().delay() {
            match self.shared.tail(&name, &self.visitor) {
                Ok(tail) => cursor.go_over(tail, self.shared.numbers()),
                Err(_) => self.refuse(at, "unavailable", "come again later", out),
            }
        }
    }

    fn refuse(&mut self, at: usize, code: &'static str, why: &str, out: &mut BytesMut) {
        self.cursors[at].finish();
        let refused = Event::refused(self.cursors[at].tail.name().as_str(), code, why);
        self.put(at, &refused, None, out);
    }

    /// Puts an event, with its id if it has one.
    fn put(&self, at: usize, event: &Event, place: Option<Place>, out: &mut BytesMut) {
        if let Some(place) = place {
            out.put_slice(format!("id: {place}\n").as_bytes());
        }
        let tail = &self.cursors[at].tail;
        out.put_slice(if self.is_many { event.among(&tail.prefix) } else { event.alone() });
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
