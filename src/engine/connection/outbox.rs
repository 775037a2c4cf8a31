//! What waits to be written.
//!
//! Writing never waits: what the kernel does not take stays here, and the connection reads on. How
//! long it may stay is the connection's business, which asks [`stalled_since`](Outbox::stalled_since).
//!
//! What is written goes in bursts, each flushed before the next. First comes what keeps the
//! connection alive: the socket's own pongs, then pings. Then what the session says, in its order: a
//! leave that overtook a join would be undone by it. Last come the program's own messages, which wait
//! with their streams until then, and one of them at least goes with each burst if it fits.
//!
//! Where the server takes only so much in a time, see [`Pace`], the same holds for what goes in one
//! period: the first that has no room waits, and all behind it.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use crate::engine::defect::{Defect, seeded};
use crate::engine::moment::Moment;
use crate::engine::outgoing::Taken;
use crate::engine::small::Seldom;
use crate::protocol::MessageRate;
use crate::transport::{BoxSocket, Frame, TransportError};

/// Frames handed to the socket between two flushes.
pub(super) const BURST: u32 = 64;

/// Bytes handed to the socket between two flushes, unless one frame has more: a socket takes only
/// so much that is not flushed.
const BURST_BYTES: usize = 1 << 20;

/// The longest that a server may keep the program's messages waiting.
const MAX_PAUSE: Duration = Duration::from_secs(86_400);

/// Frames that may wait. A session that answers a hostile server must not fill the memory.
const MAX_FRAMES: usize = 65_536;

/// What was handed to the socket since the last flush.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    bytes: u32,
    frames: u32,
}

impl Burst {
    fn bytes(self) -> usize {
        self.bytes as usize
    }

    /// One frame of so many bytes more. Too many for the count are too many for a burst as well.
    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.frames += 1;
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    burst: Burst,
    /// Whether something was handed to the socket, or queued by it, that is not flushed.
    flushing: bool,
    frames: VecDeque<Queued>,
    /// The program's own messages in this burst. Dropped with the outbox, they are not known to have
    /// been written.
    letters: Seldom<Taken>,
    /// Until when the server takes nothing of the program's, where it has said so.
    paused_until: Option<Moment>,
    /// How much the server takes, where that is not everything.
    pace: Option<Box<Paced>>,
    stalled_since: Option<Moment>,
}

/// A frame that waits.
#[derive(Debug)]
pub(super) struct Queued {
    counts: bool,
    frame: Frame,
}

impl Queued {
    /// Length of its payload.
    pub(super) fn len(&self) -> usize {
        len(&self.frame)
    }
}

#[derive(Debug)]
struct Paced {
    /// Joins and leaves that were said since the program's own last message.
    asked: usize,
    /// Whether what is pushed now is a join or a leave.
    asking: bool,
    /// Whether joins or leaves wait, and let one of the program's own messages go first.
    yielding: bool,
    pace: Pace,
}

impl Outbox {
    /// For a server that takes what `rate` says.
    pub(super) fn new(rate: Option<MessageRate>) -> Self {
        let paced = |rate| {
            Box::new(Paced { asked: 0, asking: false, yielding: false, pace: Pace::new(rate) })
        };
        Self { pace: rate.map(paced), ..Self::default() }
    }

    pub(super) fn push(&mut self, frame: Frame) {
        let counts = self.counts(&frame);
        self.frames.push_back(Queued { counts, frame });
    }

    /// Before everything else: for what keeps the connection alive.
    pub(super) fn push_first(&mut self, frame: Frame) {
        let counts = self.counts(&frame);
        self.frames.push_front(Queued { counts, frame });
    }

    fn counts(&self, frame: &Frame) -> bool {
        self.pace.as_ref().is_some_and(|paced| paced.pace.counts(frame, paced.asking))
    }

    /// From now on, what is pushed is a join or a leave, or is none.
    pub(super) fn set_asking(&mut self, asking: bool) {
        if let Some(paced) = &mut self.pace {
            paced.asked += usize::from(asking);
            paced.asking = asking;
        }
    }

    /// The socket has queued a pong.
    pub(super) fn ponged(&mut self, now: Instant) {
        self.flushing = true;
        self.pace.iter_mut().for_each(|paced| paced.pace.ponged(now));
    }

    /// Whether there is nothing to be written now, and all is flushed.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        !self.flushing && self.frames.front().is_none_or(|next| !self.fits(next, now))
    }

    /// Whether all that was pushed has left.
    pub(super) fn is_written(&self) -> bool {
        !self.flushing && self.frames.is_empty()
    }

    fn fits(&self, next: &Queued, now: Instant) -> bool {
        !next.counts || self.room(now) > 0
    }

    /// How many frames the server takes now, with those that wait.
    fn room(&self, now: Instant) -> usize {
        self.pace.as_ref().map_or(usize::MAX, |paced| paced.pace.room(now))
    }

    /// Whether a join or leave that is pushed now is written at once, as far as can be known.
    pub(super) fn takes_joins(&self, now: Instant) -> bool {
        let waiting = self.frames.iter().filter(|queued| queued.counts).count();
        self.stalled_since.is_none() && (self.pace.is_none() || waiting < self.room(now))
    }

    /// The server takes nothing of the program's for so long.
    pub(super) fn pause(&mut self, now: Instant, how_long: Duration) {
        let how_long = Some(how_long.min(MAX_PAUSE)).filter(|how_long| !how_long.is_zero());
        self.paused_until = how_long.map(|how_long| Moment::from(now + how_long));
    }

    /// When the server takes something of the program's again, if it takes nothing now.
    fn pause_due(&self, now: Instant) -> Option<Instant> {
        self.paused_until.map(Moment::at).filter(|due| *due > now)
    }

    /// Whether joins and leaves have had their share since the program's own last message.
    pub(super) fn owes_letter(&self, now: Instant) -> bool {
        self.pause_due(now).is_none()
            && self.pace.as_ref().is_some_and(|paced| paced.asked >= paced.pace.most())
    }

    /// Joins or leaves let one of the program's own messages go first, or they do not.
    pub(super) fn set_yielding(&mut self, yielding: bool) {
        self.pace.iter_mut().for_each(|paced| paced.yielding = yielding);
    }

    /// When the server takes more, if it takes nothing now.
    pub(super) fn room_due(&self, now: Instant) -> Option<Instant> {
        let room_due = self.pace.as_ref().and_then(|paced| paced.pace.due(now));
        room_due.into_iter().chain(self.pause_due(now)).min()
    }

    /// Whether the server takes these frames now, where nothing waits; `None` if it never takes so
    /// many at once.
    pub(super) fn takes(&self, frames: &VecDeque<Queued>, now: Instant) -> Option<bool> {
        let Some(paced) = &self.pace else { return Some(true) };
        let count = frames.iter().filter(|queued| queued.counts).count();
        (count <= paced.pace.most()).then(|| count <= paced.pace.room(now))
    }

    /// Hands to the kernel what was handed to the socket. Returns whether it took all.
    pub(super) fn poll_flush(
        &mut self,
        socket: &mut BoxSocket,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, TransportError> {
        if self.flushing {
            match socket.poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now.into());
                    return Ok(false);
                }
            }
            (self.flushing, self.stalled_since) = (false, None);
        }
        self.burst = Burst::default();
        self.letters.take().into_iter().for_each(|letter| letter.settle(Ok(())));
        Ok(true)
    }

    /// Hands to the socket as many frames as fit: at least one, where there is one.
    pub(super) fn hand_over(
        &mut self,
        socket: &mut BoxSocket,
        now: Instant,
    ) -> Result<(), TransportError> {
        while let Some(next) = self.frames.front() {
            let is_full =
                self.burst.frames >= BURST || self.burst.bytes() + next.len() > BURST_BYTES;
            if (self.burst.frames > 0 && is_full) || !self.fits(next, now) {
                break;
            }
            let Some(next) = self.frames.pop_front() else { break };
            self.start(next, socket, now)?;
        }
        Ok(())
    }

    /// Hands a message of the program's own to the socket, in these frames.
    pub(super) fn hand_over_letter(
        &mut self,
        mut letter: Taken,
        frames: VecDeque<Queued>,
        socket: &mut BoxSocket,
        now: Instant,
    ) -> Result<(), TransportError> {
        letter.start();
        self.pace.iter_mut().for_each(|paced| paced.asked = 0);
        if seeded(Defect::SentBeforeWritten) {
            letter.settle(Ok(()));
        } else {
            self.letters.push(letter); // Before anything can fail: bytes of it may leave.
        }
        frames.into_iter().try_for_each(|next| self.start(next, socket, now))
    }

    fn start(
        &mut self,
        next: Queued,
        socket: &mut BoxSocket,
        now: Instant,
    ) -> Result<(), TransportError> {
        self.burst.add(next.len());
        self.flushing = true;
        if let Some(paced) = self.pace.as_mut().filter(|_| next.counts) {
            paced.pace.wrote(now);
        }
        socket.start_send(next.frame)
    }

    /// The bytes that a message of the program's own may have now. Each burst has a place for one, so
    /// that what a session says cannot hold it up for ever.
    pub(super) fn room_for_letter(&self, now: Instant) -> Option<usize> {
        if self.pause_due(now).is_some() {
            return None;
        }
        if let Some(paced) = self.pace.as_ref().filter(|paced| paced.pace.counts_messages()) {
            let has_had_its_turn = paced.yielding && paced.asked == 0;
            // What waits before it has the next place, too.
            if has_had_its_turn || paced.pace.room(now) == 0 || !self.frames.is_empty() {
                return None;
            }
        }
        match self.burst.frames {
            0 => Some(usize::MAX),
            BURST.. if !self.letters.is_empty() => None,
            _ => Some(BURST_BYTES.saturating_sub(self.burst.bytes())),
        }
    }

    /// Puts what waits aside, so that what is pushed next can be told from it.
    pub(super) fn set_aside(&mut self) -> VecDeque<Queued> {
        std::mem::take(&mut self.frames)
    }

    /// Takes back what was set aside, and returns what was pushed since.
    pub(super) fn resume(&mut self, aside: VecDeque<Queued>) -> VecDeque<Queued> {
        std::mem::replace(&mut self.frames, aside)
    }

    /// Since when the kernel has taken nothing, while something waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since.map(Moment::at)
    }

    /// Whether more waits than ever should.
    pub(super) fn is_overfull(&self) -> bool {
        self.frames.len() > MAX_FRAMES
    }
}

/// Length of a frame's payload.
fn len(frame: &Frame) -> usize {
    match frame {
        Frame::Close(close) => close.as_ref().map_or(0, |(_, reason)| reason.len()),
        Frame::Data(message) => message.len(),
        Frame::Ping(payload) | Frame::Pong(payload) => payload.len(),
    }
}
