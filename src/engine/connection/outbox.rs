//! What waits to be written.
//!
//! Writing never waits: what the kernel does not take stays here, and the connection reads on. How
//! long it may stay is the connection's business, which asks [`stalled_since`](Outbox::stalled_since).
//!
//! What is written goes in bursts, each flushed before the next. First comes what keeps the
//! connection alive: the socket's own pongs, then pings. Then what the session says, in its order: a
//! leave that overtook a join would be undone by it. Last come the program's own messages, which wait
//! with their streams until then, and one of them at least goes with each burst if it fits.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::engine::defect::{Defect, seeded};
use crate::engine::outgoing::Taken;
use crate::transport::{BoxSocket, Frame, TransportError};

/// Frames handed to the socket between two flushes.
pub(super) const BURST: usize = 64;

/// Bytes handed to the socket between two flushes, unless one frame has more: a socket takes only
/// so much that is not flushed.
const BURST_BYTES: usize = 1 << 20;

/// Frames that may wait. A session that answers a hostile server must not fill the memory.
const MAX_FRAMES: usize = 65_536;

/// What was handed to the socket since the last flush.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    bytes: usize,
    frames: usize,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    burst: Burst,
    /// Whether something was handed to the socket, or queued by it, that is not flushed.
    flushing: bool,
    frames: VecDeque<Frame>,
    /// The program's own messages in this burst. Dropped with the outbox, they are not known to have
    /// been written.
    letters: Vec<Taken>,
    stalled_since: Option<Instant>,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// Before everything else: for what keeps the connection alive.
    pub(super) fn push_first(&mut self, frame: Frame) {
        self.frames.push_front(frame);
    }

    /// The socket has queued something itself: a pong.
    pub(super) fn flush(&mut self) {
        self.flushing = true;
    }

    /// Whether nothing waits and all is flushed.
    pub(super) fn is_idle(&self) -> bool {
        self.frames.is_empty() && !self.flushing
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
                    self.stalled_since.get_or_insert(now);
                    return Ok(false);
                }
            }
            (self.flushing, self.stalled_since) = (false, None);
        }
        self.burst = Burst::default();
        self.letters.drain(..).for_each(|letter| letter.settle(Ok(())));
        Ok(true)
    }

    /// Hands to the socket as many frames as fit: at least one, where there is one.
    pub(super) fn hand_over(&mut self, socket: &mut BoxSocket) -> Result<(), TransportError> {
        while let Some(next) = self.frames.front() {
            let is_full = self.burst.frames >= BURST || self.burst.bytes + len(next) > BURST_BYTES;
            if self.burst.frames > 0 && is_full {
                break;
            }
            let Some(frame) = self.frames.pop_front() else { break };
            self.start(frame, socket)?;
        }
        Ok(())
    }

    /// Hands a message of the program's own to the socket, in these frames.
    pub(super) fn hand_over_letter(
        &mut self,
        mut letter: Taken,
        frames: VecDeque<Frame>,
        socket: &mut BoxSocket,
    ) -> Result<(), TransportError> {
        letter.start();
        if seeded(Defect::SentBeforeWritten) {
            letter.settle(Ok(()));
        } else {
            self.letters.push(letter); // Before anything can fail: bytes of it may leave.
        }
        frames.into_iter().try_for_each(|frame| self.start(frame, socket))
    }

    fn start(&mut self, frame: Frame, socket: &mut BoxSocket) -> Result<(), TransportError> {
        self.burst.bytes += len(&frame);
        self.burst.frames += 1;
        self.flushing = true;
        socket.start_send(frame)
    }

    /// The bytes that a message of the program's own may have now. Each burst has a place for one, so
    /// that what a session says cannot hold it up for ever.
    pub(super) fn room_for_letter(&self) -> Option<usize> {
        match self.burst.frames {
            0 => Some(usize::MAX),
            BURST.. if !self.letters.is_empty() => None,
            _ => Some(BURST_BYTES.saturating_sub(self.burst.bytes)),
        }
    }

    /// Puts what waits aside, so that what is pushed next can be told from it.
    pub(super) fn set_aside(&mut self) -> VecDeque<Frame> {
        std::mem::take(&mut self.frames)
    }

    /// Takes back what was set aside, and returns what was pushed since.
    pub(super) fn resume(&mut self, aside: VecDeque<Frame>) -> VecDeque<Frame> {
        std::mem::replace(&mut self.frames, aside)
    }

    /// Since when the kernel has taken nothing, while something waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Whether more waits than ever should.
    pub(super) fn is_overfull(&self) -> bool {
        self.frames.len() > MAX_FRAMES
    }
}

/// Length of a frame's payload.
pub(super) fn len(frame: &Frame) -> usize {
    match frame {
        Frame::Close(close) => close.as_ref().map_or(0, |(_, reason)| reason.len()),
        Frame::Data(message) => message.len(),
        Frame::Ping(payload) | Frame::Pong(payload) => payload.len(),
    }
}
