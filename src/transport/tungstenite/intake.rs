//! What was read from a stream and not yet decoded.
//!
//! A socket that waits holds no buffer. When there is something to read, it takes the thread's, and
//! leaves it to the next socket once it has nothing more to read: so the same few pages serve all,
//! and stay warm. Nothing is zeroed before it is read into.
//!
//! What is decoded is copied out of it ([`Intake::consume`]), or shares the memory that it was read
//! into ([`Intake::split`]): many messages, one buffer. A few bytes are copied even then, so that a
//! message that somebody keeps does not keep a whole buffer with it. Where all was copied, the same
//! buffer is read into again.

use std::cell::Cell;
use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The size of a buffer, in bytes. The allocator keeps blocks of this size; larger ones it may give
/// back to the system each time, and their pages with them.
const BUFFER: usize = 64 << 10;

/// A buffer with less room is read into only where the rest of a frame fits.
const LEAST: usize = 16 << 10;

/// What comes in so many bytes at once, or in fewer, is copied.
const COPIED: usize = 4 << 10;

thread_local! {
    /// The buffer that the thread's sockets take turns with.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

#[derive(Debug, Default)]
pub(super) struct Intake {
    bytes: BytesMut,
    /// How many bytes the first frame has in all, as far as its head tells.
    wanted: usize,
}

impl Intake {
    /// Begins with what was read already.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: BytesMut::from(bytes), wanted: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first frame has so many bytes in all.
    pub(super) fn want(&mut self, bytes: usize) {
        self.wanted = bytes;
    }

    /// Reads what is there, as far as there is room. Ready with 0 at the end of the stream.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let polled = pin!(stream.read_buf(&mut self.bytes)).poll(cx);
        if polled.is_pending() {
            self.rest();
        }
        polled
    }

    /// Steps over the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.wanted = 0;
        self.bytes.advance(len);
    }

    /// Takes the first `len` bytes out.
    pub(super) fn split(&mut self, len: usize) -> Bytes {
        self.wanted = 0;
        if len > COPIED {
            return self.bytes.split_to(len).freeze();
        }
        let copied = Bytes::copy_from_slice(&self.bytes[..len]);
        self.bytes.advance(len);
        copied
    }

    /// Room grows with what has come, not with what was announced.
    fn make_room(&mut self) {
        let len = self.bytes.len();
        // All of the buffer, unless messages share it: what is left is moved to its front.
        let is_whole =
            self.bytes.capacity() >= BUFFER || self.bytes.try_reclaim(BUFFER.saturating_sub(len));
        if !is_whole && len <= COPIED && self.bytes.capacity() < LEAST {
            if let Some(mut spare) = SPARE.try_with(Cell::take).ok().flatten() {
                spare.extend_from_slice(&self.bytes);
                self.bytes = spare;
            }
        }
        let room = self.bytes.capacity() - len;
        let missing = self.wanted.saturating_sub(len);
        if room < LEAST && room < missing.max(1).min(len.max(LEAST)) {
            self.bytes.reserve(missing.clamp(BUFFER, BUFFER.max(len)));
        }
    }

    /// Gives the buffer back, as there is nothing to read.
    fn rest(&mut self) {
        let mut spare = if self.bytes.len() <= COPIED {
            let rest = BytesMut::from(&self.bytes[..]);
            std::mem::replace(&mut self.bytes, rest)
        } else {
            return; // The rest of what has begun is read behind it.
        };
        spare.clear();
        let _ = spare.try_reclaim(BUFFER); // What was stepped over is room again.
        // While the thread ends there is nobody to leave it to.
        let _ = SPARE.try_with(|place| {
            let other = place.take().filter(|other| other.capacity() > spare.capacity());
            place.set(Some(other.unwrap_or(spare)));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn fill(intake: &mut Intake, mut stream: impl AsyncRead + Unpin) -> Poll<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        intake.poll_fill(&mut stream, &mut cx).map(Result::unwrap)
    }

    /// Reads `bytes`, as far as there is room.
    fn filled(intake: &mut Intake, bytes: &[u8]) -> usize {
        match fill(intake, bytes) {
            Poll::Ready(len) => len,
            Poll::Pending => unreachable!("it never waits"),
        }
    }

    fn waits(intake: &mut Intake) {
        let (mut ours, _theirs) = tokio::io::duplex(1);
        assert!(fill(intake, &mut ours).is_pending());
    }

    #[test]
    fn a_socket_that_waits_holds_no_buffer() {
        let mut intake = Intake::default();
        assert_eq!(filled(&mut intake, &[7; 100_000]), BUFFER);
        let chunk = intake.split(BUFFER);
        waits(&mut intake);
        assert_eq!(intake.bytes.capacity(), 0);
        assert_eq!(chunk, vec![7; BUFFER]);
        filled(&mut intake, &[8; 100]);
        intake.split(90);
        waits(&mut intake);
        assert_eq!(intake.bytes(), [8; 10], "what has begun is kept");
        assert!(intake.bytes.capacity() <= 64, "in as little as it takes");
    }

    #[test]
    fn a_buffer_serves_one_socket_after_the_other() {
        let (mut one, mut other) = (Intake::default(), Intake::default());
        filled(&mut one, &[1; 1000]);
        let at = one.bytes.as_ptr();
        drop(one.split(1000));
        waits(&mut one);
        filled(&mut other, &[2; 1000]);
        assert_eq!(other.bytes.as_ptr(), at);
    }

    #[test]
    fn a_few_bytes_that_are_kept_do_not_keep_a_buffer() {
        let mut intake = Intake::default();
        filled(&mut intake, &[1; BUFFER]);
        let at = intake.bytes().as_ptr_range();
        let small = intake.split(COPIED);
        assert!(!at.contains(&small.as_ptr()), "copied");
        assert!(at.contains(&intake.split(COPIED + 1).as_ptr()), "shared");
    }

    #[test]
    fn what_is_announced_takes_no_room_before_it_comes() {
        let mut intake = Intake::default();
        filled(&mut intake, &[1; 100]);
        intake.want(16 << 20);
        filled(&mut intake, &[1; 10]);
        assert!(intake.bytes.capacity() <= 2 * BUFFER, "{}", intake.bytes.capacity());
        while intake.bytes().len() < 16 << 20 {
            let rest = (16 << 20) - intake.bytes().len();
            filled(&mut intake, &vec![1; rest]);
            assert!(intake.bytes.capacity() <= 4 * intake.bytes().len().max(BUFFER));
        }
    }
}
