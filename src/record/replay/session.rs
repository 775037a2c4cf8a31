//! What a replay says: its recording, as time goes by.
//!
//! 1. Nothing comes before its time, and everything in the order of the recording.
//! 2. A lossless replay says nothing to a name without room for it. It asks again after a millisecond,
//!    and less and less often: under a paused clock, that is whenever all else has come to rest.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::cursor::Cursor;
use super::shared::{END, Pace, Shared};
use crate::error::Gap;
use crate::name::{InvalidName, StreamName};
use crate::protocol::{Cx, Dial, DialError, Lane, Protocol, Request, Session, To, Verdict};
use crate::record::reading::ReadError;
use crate::record::records::{Item, Record};

/// How late a message may come so that a reader has room for it, if the replay is not lossless.
const GRACE: Duration = Duration::from_millis(10);

/// How long a lossless replay waits for a reader.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The shortest time after which it asks again for room.
const AGAIN: Duration = Duration::from_millis(1);

/// Records looked at before other tasks have their turn.
const STEPS: usize = 4096;

/// The [`Protocol`] of a [`Replay`](super::Replay): its names are those of the recording, and share one
/// socket.
pub struct ReplayProtocol {
    shared: Arc<Shared>,
}

impl ReplayProtocol {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Protocol for ReplayProtocol {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        if self.shared.recording.contains(name.as_str()) {
            return Ok(Lane::new("replay"));
        }
        Err(InvalidName::Unsupported { why: "the recording has no stream of this name" })
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::new("ws://replay.invalid/")?)
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Playing {
            cursor: None,
            due: None,
            given_up: HashSet::new(),
            joined: HashSet::new(),
            shared: Arc::clone(&self.shared),
            waits: None,
        })
    }
}

impl fmt::Debug for ReplayProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayProtocol").finish_non_exhaustive()
    }
}

struct Playing {
    cursor: Option<Cursor>,
    /// When something is to be said.
    due: Option<Instant>,
    /// Names that were waited for in vain, until they have room again.
    given_up: HashSet<StreamName>,
    joined: HashSet<StreamName>,
    shared: Arc<Shared>,
    /// Since when it waits for room.
    waits: Option<Instant>,
}

/// What became of a turn.
enum Turn {
    /// There is more at once.
    Again,
    /// The recording is over.
    End,
    /// There is more by then.
    Until(Instant),
}

impl Session for Playing {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        for name in names {
            self.joined.insert(name.clone());
            cx.joined(name.as_str());
        }
        if self.cursor.is_none() {
            match self.place(cx.now()) {
                Ok(cursor) => self.cursor = Some(cursor),
                Err(e) => return cx.failed(Verdict::Fatal, &e.to_string()),
            }
        }
        self.due = Some(cx.now());
    }

    fn leave(&mut self, names: &[StreamName], _: &mut Cx<'_>) {
        names.iter().for_each(|name| {
            self.joined.remove(name);
        });
    }

    fn receive(&mut self, _: &crate::message::Message, _: &mut Cx<'_>) {}

    fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.due = None;
        let Some(mut cursor) = self.cursor.take() else { return };
        let turn = self.play(&mut cursor, cx);
        self.shared.passed.fetch_max(cursor.passed, Relaxed);
        self.cursor = Some(cursor);
        match turn {
            Ok(Turn::Again) => self.due = Some(cx.now()),
            Ok(Turn::Until(due)) => self.due = Some(due),
            Ok(Turn::End) => cx.failed(Verdict::Fatal, END),
            Err(e) => cx.failed(Verdict::Fatal, &e.to_string()),
        }
    }
}

impl Playing {
    /// The place to go on from. What came while nobody read has passed.
    fn place(&self, now: Instant) -> Result<Cursor, ReadError> {
        let (pace, started, parked) = {
            let mut state = self.shared.state();
            (state.pace, *state.started.get_or_insert(now), state.parked.take())
        };
        let mut cursor = match parked {
            Some(cursor) => cursor,
            None => Cursor::open(&self.shared.recording, self.shared.passed.load(Relaxed))?,
        };
        while cursor.peek()?.is_some_and(|(at, _)| started + pace.scaled(at) < now) {
            cursor.pass();
        }
        Ok(cursor)
    }

    /// Says what is due.
    fn play(&mut self, cursor: &mut Cursor, cx: &mut Cx<'_>) -> Result<Turn, ReadError> {
        let (pace, started) = {
            let state = self.shared.state();
            (state.pace, state.started.unwrap_or(cx.now()))
        };
        for _ in 0..STEPS {
            let Some((at, record)) = cursor.peek()? else {
                let end = started + pace.scaled(self.shared.recording.length());
                return Ok(if end > cx.now() { Turn::Until(end) } else { Turn::End });
            };
            let due = started + pace.scaled(at);
            if due > cx.now() {
                return Ok(Turn::Until(due));
            }
            if self.joined.contains(&record.name) {
                if let Some(later) = self.waits_until(record, due, pace, cx) {
                    return Ok(Turn::Until(later));
                }
                if let Some(record) = cursor.pass() {
                    self.say(record, cx);
                }
            } else {
                cursor.pass();
            }
        }
        Ok(Turn::Again)
    }

    /// When to ask again whether there is room for a message that is due.
    fn waits_until(
        &mut self,
        record: &Record,
        due: Instant,
        pace: Pace,
        cx: &mut Cx<'_>,
    ) -> Option<Instant> {
        let Item::Message(message) = &record.item else { return None };
        let now = cx.now();
        if cx.has_room(record.name.as_str(), message.len()) {
            self.waits = None;
            self.given_up.remove(&record.name);
            return None;
        }
        if !pace.lossless {
            return (now < due + GRACE).then(|| now + AGAIN);
        }
        if self.given_up.contains(&record.name) {
            return None;
        }
        let waited = now.saturating_duration_since(*self.waits.get_or_insert(now));
        if waited < PATIENCE {
            return Some(now + AGAIN.max(waited / 8));
        }
        tracing::warn!(name = %record.name, "nobody reads {}: the replay goes on", record.name);
        self.waits = None;
        self.given_up.insert(record.name.clone());
        None
    }

    fn say(&mut self, record: Record, cx: &mut Cx<'_>) {
        let to = To::Name(record.name.as_str());
        match record.item {
            Item::Message(message) => cx.data(to, message),
            Item::Gap(Gap::Lagged { missed }) => cx.gap(to, Some(missed)),
            Item::Gap(Gap::Reconnected { down_for, reason }) => {
                cx.reconnected(to, down_for, reason);
            }
            Item::Gap(Gap::Sequence { missed }) => cx.gap(to, missed),
            // The recorder's own end is not the stream's.
            Item::Closed { label, .. } if ["aborted", "shutdown", "unused"].contains(&&*label) => {}
            Item::Closed { words, .. } => {
                self.joined.remove(&record.name);
                cx.rejected(record.name.as_str(), &format!("as recorded: {words}"));
            }
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let Some(cursor) = self.cursor.take() else { return };
        let mut state = self.shared.state();
        if state.parked.as_ref().is_none_or(|parked| parked.passed < cursor.passed) {
            state.parked = Some(cursor);
        }
    }
}
