//! What connections do to a topic: publish, join, lose, and hand it over from one to the next.
//!
//! A topic has one source, and at most one that comes next. Each is a connection, and what any other
//! says is ignored: it speaks for a socket that the topic has left. Who the source is changes here,
//! under the topic's lock, between two messages; the registry is told afterwards and follows.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::Topic;
use super::handover::{Handover, Parcel, Review, Seam};
use super::ring::{Break, Evicted, Ring, Woken};
use crate::config::StreamConfig;
use crate::engine::defect::{Defect, seeded};
use crate::error::{CloseReason, Gap};
use crate::observe::{ConnectionId, Status};
use crate::protocol::DisconnectReason;
use crate::transport::TransportError;

/// How the next source of a topic has become its source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moved {
    /// Readers see one feed.
    Aligned,
    /// Readers were told of a gap.
    Torn,
}

/// What a connection is to a topic that it has joined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// The next source: what it brings is held.
    Next,
    /// The source; since now, if the topic has moved to it.
    Source(Option<Moved>),
    /// Neither.
    Stranger,
}

/// What a look at a handover has led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reviewed {
    /// Look again then.
    Again(Instant),
    /// The next source says nothing, while the source does: it is of no use.
    Mute,
    /// The topic has gone over.
    Moved(Moved),
    /// There is no such handover any more.
    Over,
}

/// What is left to do once the topic's lock is released.
#[derive(Debug, Default)]
struct Aftermath {
    bytes: usize,
    count: usize,
    evicted: Evicted,
    /// Since when the stream was down that is not any more.
    mended: Option<Duration>,
    moved: Option<Moved>,
    told: Vec<Gap>,
}

impl Topic {
    /// Takes what connection `from` brought, in order. `woken` is empty before and after. Returns
    /// how the topic has gone over to its next source, if it has.
    pub(crate) fn publish(
        &self,
        from: ConnectionId,
        parcel: Parcel,
        now: Instant,
        woken: &mut Woken,
    ) -> Option<Moved> {
        let mut after = Aftermath::default();
        {
            let mut ring = self.ring.lock();
            match ring.role(from) {
                Role::Source(_) => ring.deliver(parcel, now, &self.settings, &mut after),
                Role::Next => ring.hold(parcel, now, &self.settings, &mut after),
                Role::Stranger => return None,
            }
            if after.concerns_readers() {
                ring.take_wakers(woken);
            }
        }
        self.settle(after, now, woken)
    }

    /// Connection `from` has joined the stream. For its source, what is published next follows a gap
    /// if there was a break; where the source has a socket, the next one's messages are held.
    pub(crate) fn joined(&self, from: ConnectionId, now: Instant, attempt: u32) -> Role {
        let mut after = Aftermath::default();
        let mut woken = Woken::new();
        {
            let mut ring = self.ring.lock();
            match ring.role(from) {
                Role::Source(_) => {}
                Role::Next if ring.facts.joined_at.is_some() => {
                    ring.handover.iter_mut().for_each(|handover| handover.joined(now));
                    return Role::Next;
                }
                Role::Next => {
                    (ring.source, ring.handover) = (from, None);
                    after.moved = Some(Moved::Torn);
                }
                Role::Stranger => return Role::Stranger,
            }
            ring.facts.joined_at = Some(now.into());
            ring.facts.attempt = attempt;
            let broken = ring.broken.take().filter(|_| !seeded(Defect::GapIsNotSent));
            if let Some(Break { below, reason, since }) = broken.map(|broken| *broken) {
                let down_for = now.saturating_duration_since(since);
                after.mended = Some(down_for);
                let gap = Gap::Reconnected { down_for, reason };
                ring.tell(gap, Some(below), &self.settings, &mut after);
                ring.take_wakers(&mut woken);
            }
        }
        let moved = self.settle(after, now, &mut woken);
        self.set_status(from, Status::Open);
        Role::Source(moved)
    }

    /// Connection `from` lost its socket, which was last heard at `since`. Where the next source
    /// has joined, it takes over; else the stream is down. Returns how it took over, if it did.
    pub(crate) fn break_off(
        &self,
        from: ConnectionId,
        since: Instant,
        reason: DisconnectReason,
        now: Instant,
    ) -> Option<Moved> {
        let mut after = Aftermath::default();
        let mut woken = Woken::new();
        {
            let mut ring = self.ring.lock();
            match ring.role(from) {
                Role::Source(_) => {}
                Role::Next => {
                    ring.handover.iter_mut().for_each(|handover| handover.lost());
                    return None;
                }
                Role::Stranger => return None,
            }
            ring.lost(since);
            ring.ahead = None;
            match ring.handover.take_if(|handover| handover.has_joined()) {
                Some(mut handover) => {
                    let (to, seam) = (handover.to, handover.last_seam());
                    ring.go_over(to, seam, reason, now, &self.settings, &mut after);
                    ring.take_wakers(&mut woken);
                }
                None => {
                    let below = ring.next_reader;
                    ring.facts.joined_at = None;
                    ring.broken.get_or_insert_with(|| Box::new(Break { below, reason, since }));
                }
            }
        }
        self.settle(after, now, &mut woken)
    }

    /// The feed of connection `from` itself tells that messages are missing here.
    pub(crate) fn missing(&self, from: ConnectionId, gap: Gap, now: Instant) {
        let mut after = Aftermath::default();
        let mut woken = Woken::new();
        {
            let mut ring = self.ring.lock();
            match ring.role(from) {
                Role::Source(_) => {
                    ring.ahead = None;
                    ring.tell(gap, None, &self.settings, &mut after);
                    ring.take_wakers(&mut woken);
                }
                Role::Next => ring.handover.iter_mut().for_each(|handover| handover.let_go()),
                Role::Stranger => {}
            }
        }
        self.settle(after, now, &mut woken);
    }

    /// Whether so many more messages, of so many bytes in all, fit beside what readers have yet to
    /// take.
    pub(crate) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        let ring = self.ring.lock();
        let unread = ring.slowest().map_or(0, |at| ring.next.saturating_sub(at));
        // What all have taken may still be counted in the ring, but goes before what comes.
        let held = if unread == 0 { 0 } else { ring.bytes };
        let fits = held + bytes <= self.settings.buffer_bytes || (unread == 0 && messages == 1);
        ring.readers.is_empty() || (fits && unread + messages as u64 <= self.settings.buffer as u64)
    }

    /// Looks at the handover to connection `to`, which may take `timeout` from its join on.
    pub(crate) fn review(&self, to: ConnectionId, now: Instant, timeout: Duration) -> Reviewed {
        let mut after = Aftermath::default();
        let mut woken = Woken::new();
        {
            let mut ring = self.ring.lock();
            let Some(handover) = ring.handover.as_mut().filter(|h| h.to == to) else {
                return Reviewed::Over;
            };
            match handover.review(now, timeout) {
                Review::Again(at) => return Reviewed::Again(at),
                Review::Mute => return Reviewed::Mute,
                Review::GoOver => {}
            }
            let seam = handover.reviewed_seam(now, timeout);
            ring.handover = None;
            ring.go_over(to, seam, DisconnectReason::Rotated, now, &self.settings, &mut after);
            ring.take_wakers(&mut woken);
        }
        self.settle(after, now, &mut woken).map_or(Reviewed::Over, Reviewed::Moved)
    }

    /// Whether its source, connection `from`, is to ping its peer: see [`answered`](Self::answered).
    pub(crate) fn wants_word(&self, from: ConnectionId) -> bool {
        let ring = self.ring.lock();
        ring.source == from && ring.handover.as_ref().is_some_and(|h| h.wants_word())
    }

    /// The peer of connection `from` has answered a ping that was made at `asked_at`, and all that
    /// came before the answer is published. Returns how the topic has gone over, if it has.
    pub(crate) fn answered(
        &self,
        from: ConnectionId,
        asked_at: Instant,
        now: Instant,
        timeout: Duration,
    ) -> Option<Moved> {
        let to = {
            let mut ring = self.ring.lock();
            let is_source = ring.source == from;
            let handover = ring.handover.as_mut().filter(|_| is_source)?;
            handover.answered(asked_at);
            handover.to
        };
        match self.review(to, now, timeout) {
            Reviewed::Moved(moved) => Some(moved),
            Reviewed::Again(_) | Reviewed::Mute | Reviewed::Over => None, // The next one looks.
        }
    }

    /// Begins to hand the topic over to connection `to`.
    pub(crate) fn hand_over(&self, to: ConnectionId, now: Instant) {
        let mut ring = self.ring.lock();
        ring.handover = Some(Box::new(Handover::new(to, ring.last_seq, now)));
    }

    /// Ends the handover to `to`, and the source stays. Returns false if `to` is the source already.
    pub(crate) fn stay(&self, to: ConnectionId) -> bool {
        let mut ring = self.ring.lock();
        let over = ring.handover.take_if(|handover| handover.to == to);
        let is_source = ring.source == to;
        drop(ring);
        drop(over);
        !is_source
    }

    /// The source is gone for good, whatever became of its socket: connection `to` takes its place,
    /// whether or not it has one.
    pub(crate) fn leave_to(&self, to: ConnectionId, now: Instant) {
        let mut after = Aftermath::default();
        let mut woken = Woken::new();
        let over = {
            let mut ring = self.ring.lock();
            let was_joined = ring.source != to && ring.facts.joined_at.is_some();
            let mut over = ring.handover.take();
            let joined = over.as_mut().filter(|handover| was_joined && handover.has_joined());
            if let Some(seam) = joined.map(|handover| handover.last_seam()) {
                ring.go_over(to, seam, DisconnectReason::Rotated, now, &self.settings, &mut after);
                ring.take_wakers(&mut woken);
            } else if was_joined {
                // Its task was cut off before it could tell of the break.
                let (below, reason) = (ring.next_reader, DisconnectReason::Rotated);
                ring.lost(now);
                (ring.facts.joined_at, ring.ahead) = (None, None);
                ring.broken.get_or_insert_with(|| Box::new(Break { below, reason, since: now }));
            }
            ring.source = to;
            over
        };
        drop(over);
        self.settle(after, now, &mut woken);
    }

    /// Whether connection `of` is the next source.
    pub(crate) fn is_next(&self, of: ConnectionId) -> bool {
        self.ring.lock().role(of) == Role::Next
    }

    /// Whether connection `of` is the source.
    pub(crate) fn is_source(&self, of: ConnectionId) -> bool {
        self.ring.lock().source == of
    }

    /// Records why connection `from` lost its socket or could not get one.
    pub(crate) fn failed(&self, from: ConnectionId, error: Arc<TransportError>) {
        let mut ring = self.ring.lock();
        if ring.source == from {
            let old = ring.facts.last_error.replace(error);
            drop(ring);
            drop(old);
        }
    }

    /// What connection `from` is doing for the stream; of interest if it is the source.
    pub(crate) fn set_status(&self, from: ConnectionId, status: Status) {
        if let Status::Connecting { attempt } = status {
            let mut ring = self.ring.lock();
            if ring.source == from {
                ring.facts.attempt = attempt;
            }
        }
        // Asked inside the watch's lock: what was said before another became the source must not
        // overwrite what that one says.
        self.change_status(status, || self.ring.lock().source == from);
    }

    /// Ends the stream for all its readers. The first reason stands.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut woken = Woken::new();
        let over = {
            let mut ring = self.ring.lock();
            if ring.closed.is_some() {
                return;
            }
            let told =
                if seeded(Defect::ReasonIsLost) { CloseReason::Unused } else { reason.clone() };
            ring.closed = Some(Box::new(told));
            ring.facts.joined_at = None;
            ring.take_wakers(&mut woken);
            (ring.handover.take(), ring.ahead.take())
        };
        drop(over);
        self.outgoing.close();
        self.metrics.stream_closed(&reason);
        self.change_status(Status::Closed(reason), || true);
        self.status.close();
        woken.drain(..).for_each(Waker::wake);
    }

    /// What its source brings: for tests.
    #[cfg(test)]
    pub(crate) fn brought(&self, messages: Vec<crate::message::Message>) {
        let parcel = messages.into_iter().map(|message| (message, Default::default())).collect();
        let source = self.ring.lock().source;
        self.publish(source, parcel, Instant::now(), &mut Woken::new());
    }

    /// A number that its source skips: for tests.
    #[cfg(test)]
    pub(crate) fn missed(&self, missed: u64) {
        let source = self.ring.lock().source;
        self.missing(source, Gap::Sequence { missed: Some(missed) }, Instant::now());
    }

    fn change_status(&self, status: Status, may: impl FnOnce() -> bool) {
        let new = status.clone();
        let mut status = Some(status);
        let mut old = None;
        self.status.update(|slot| {
            if slot.is_closed() || !may() {
                return false; // The end is the end.
            }
            old = status.take().map(|status| std::mem::replace(slot, status));
            true
        });
        if let Some(old) = old {
            self.metrics.stream_moved(&old, &new);
        }
    }

    /// Does what could not be done under the lock.
    fn settle(&self, after: Aftermath, now: Instant, woken: &mut Woken) -> Option<Moved> {
        let Aftermath { bytes, count, evicted, mended, moved, told } = after;
        if count > 0 {
            self.metrics.received(count as u64, bytes as u64, self.series.as_deref());
            self.metrics.recent.messages.add(count as u64, now);
        }
        mended.into_iter().for_each(|down_for| self.metrics.reconnected(down_for));
        told.iter().for_each(|gap| self.counted(gap));
        drop(evicted);
        woken.drain(..).for_each(Waker::wake);
        moved
    }
}

impl Aftermath {
    fn concerns_readers(&self) -> bool {
        self.count > 0 || !self.told.is_empty()
    }
}

/// The same, under the topic's lock.
impl Ring {
    fn role(&self, of: ConnectionId) -> Role {
        match &self.handover {
            _ if self.source == of => Role::Source(None),
            Some(handover) if handover.to == of => Role::Next,
            _ => Role::Stranger,
        }
    }

    /// The source brings `parcel`.
    fn deliver(
        &mut self,
        mut parcel: Parcel,
        now: Instant,
        settings: &StreamConfig,
        after: &mut Aftermath,
    ) {
        if let Some(mut ahead) = self.ahead.take() {
            let is_torn;
            (parcel, is_torn) = ahead.drop_from(parcel);
            self.ahead = Some(ahead).filter(|ahead| !ahead.is_done());
            if is_torn {
                self.tell(rotated(DisconnectReason::Rotated), None, settings, after);
            }
        }
        if parcel.is_empty() {
            return;
        }
        self.handover.iter_mut().for_each(|handover| handover.deliver(&parcel, now));
        self.append(parcel, now, settings, after);
        self.go_over_if_known(now, settings, after);
    }

    /// The next source brings `parcel`.
    fn hold(
        &mut self,
        parcel: Parcel,
        now: Instant,
        settings: &StreamConfig,
        after: &mut Aftermath,
    ) {
        let Some(handover) = self.handover.as_mut().filter(|h| h.has_joined()) else { return };
        let has_room = handover.hold(parcel, settings, now);
        self.go_over_if_known(now, settings, after);
        if let Some(mut handover) = self.handover.take_if(|_| !has_room) {
            let (to, seam) = (handover.to, handover.last_seam());
            self.go_over(to, seam, DisconnectReason::Rotated, now, settings, after);
        }
    }

    fn go_over_if_known(&mut self, now: Instant, settings: &StreamConfig, after: &mut Aftermath) {
        let Some(handover) = self.handover.as_mut().filter(|h| h.has_joined()) else { return };
        if let Some(seam) = handover.seam() {
            let to = handover.to;
            self.handover = None;
            self.go_over(to, seam, DisconnectReason::Rotated, now, settings, after);
        }
    }

    /// Connection `to` is the source from here on. If something may be missing, `reason` is why.
    fn go_over(
        &mut self,
        to: ConnectionId,
        seam: Seam,
        reason: DisconnectReason,
        now: Instant,
        settings: &StreamConfig,
        after: &mut Aftermath,
    ) {
        let Seam { ahead, is_torn, parcel } = seam;
        (self.source, self.ahead) = (to, ahead.map(Box::new));
        after.moved = Some(if is_torn { Moved::Torn } else { Moved::Aligned });
        if is_torn || seeded(Defect::GapAtEveryHandover) {
            self.tell(rotated(reason), None, settings, after);
        }
        if !parcel.is_empty() {
            self.append(parcel, now, settings, after);
        }
    }

    /// Appends `parcel`.
    fn append(
        &mut self,
        parcel: Parcel,
        now: Instant,
        settings: &StreamConfig,
        after: &mut Aftermath,
    ) {
        after.bytes += parcel.bytes();
        after.count += parcel.messages.len();
        self.last_seq = parcel.last_seq().or(self.last_seq);
        self.push(parcel.messages, now, settings, &mut after.evicted);
    }

    /// Tells of `gap` the readers below a number: by default, all that there are.
    fn tell(
        &mut self,
        gap: Gap,
        below: Option<u64>,
        settings: &StreamConfig,
        after: &mut Aftermath,
    ) {
        self.last_seq = None;
        self.handover.iter_mut().for_each(|handover| handover.forget());
        after.told.push(gap.clone());
        self.note(gap, below, settings, &mut after.evicted);
    }
}

/// No socket was missing, but what came over it may be.
fn rotated(reason: DisconnectReason) -> Gap {
    Gap::Reconnected { down_for: Duration::ZERO, reason }
}
