//! What waits to be written.
//!
//! Writing never waits: what the kernel does not take stays here, and the connection reads on. How
//! long it may stay is the connection's business, which asks [`stalled_since`](Outbox::stalled_since).

use std::collections::VecDeque;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::transport::{BoxSocket, Frame, TransportError};

/// Frames handed to the socket between two flushes.
const BURST: usize = 64;

/// Bytes handed to the socket between two flushes, unless one frame has more: a socket takes only
/// so much that is not flushed.
const BURST_BYTES: usize = 1 << 20;

/// Frames that may wait. A session that answers a hostile server must not fill the memory.
const MAX_FRAMES: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Whether something was handed to the socket, or queued by it, that is not flushed.
    flushing: bool,
    frames: VecDeque<Frame>,
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

    /// Writes what the kernel takes.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut BoxSocket,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), TransportError> {
        loop {
            if self.flushing {
                match socket.poll_flush(cx) {
                    Poll::Ready(flushed) => flushed?,
                    Poll::Pending => {
                        self.stalled_since.get_or_insert(now);
                        return Ok(());
                    }
                }
                (self.flushing, self.stalled_since) = (false, None);
            }
            if self.frames.is_empty() {
                return Ok(());
            }
            for frame in self.frames.drain(..self.burst()) {
                socket.start_send(frame)?;
            }
            self.flushing = true;
        }
    }

    /// How many frames to hand to the socket at once: at least one, where there is one.
    fn burst(&self) -> usize {
        let mut bytes = 0;
        let fits = |frame: &&Frame| {
            bytes += len(frame);
            bytes <= BURST_BYTES
        };
        self.frames.iter().take(BURST).take_while(fits).count().max(1)
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
fn len(frame: &Frame) -> usize {
    match frame {
        Frame::Close(close) => close.as_ref().map_or(0, |(_, reason)| reason.len()),
        Frame::Data(message) => message.len(),
        Frame::Ping(payload) | Frame::Pong(payload) => payload.len(),
    }
}
