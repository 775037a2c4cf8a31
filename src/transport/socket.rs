//! Where a socket puts what it reads.

use super::Frame;

/// Frames that there is always room for, once there were so many.
const FEW: usize = 8;

/// Frames read from a socket, up to a budget.
#[derive(Debug)]
pub struct Frames {
    bytes: usize,
    frames: Vec<Frame>,
    max_bytes: usize,
    max_frames: usize,
}

impl Frames {
    /// Room for `max_frames` frames or `max_bytes` bytes of payload, whichever is reached first.
    /// One frame fits always.
    #[must_use]
    pub fn with_budget(max_frames: usize, max_bytes: usize) -> Self {
        Self { bytes: 0, frames: Vec::new(), max_bytes, max_frames }
    }

    /// Sets another budget for what comes.
    pub fn set_budget(&mut self, max_frames: usize, max_bytes: usize) {
        (self.max_frames, self.max_bytes) = (max_frames, max_bytes);
    }

    /// Adds a frame.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        self.bytes += match &frame {
            Frame::Data(message) => message.len(),
            Frame::Ping(payload) | Frame::Pong(payload) => payload.len(),
            Frame::Close(_) => 0,
        };
        self.frames.push(frame);
    }

    /// Whether the budget is spent: a socket stops reading then.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.frames.len() >= self.max_frames.max(1) || self.bytes >= self.max_bytes.max(1)
    }

    /// How many frames and bytes there is room for: of bytes, the last frame may bring more.
    pub(crate) fn room(&self) -> (usize, usize) {
        let frames = self.max_frames.max(1).saturating_sub(self.frames.len());
        (frames, self.max_bytes.max(1).saturating_sub(self.bytes))
    }

    /// Gives back room that only many frames at once need.
    pub(crate) fn shrink(&mut self) {
        if self.frames.capacity() > FEW {
            self.frames.shrink_to(FEW);
        }
    }

    /// The frames that were added after the first `count`.
    pub(crate) fn since(&self, count: usize) -> &[Frame] {
        &self.frames[count..]
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Takes all frames out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.bytes = 0;
        self.frames.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_by_frames_or_by_bytes() {
        let mut frames = Frames::with_budget(2, 10);
        frames.push(Frame::Data("12345".into()));
        assert!(!frames.is_full());
        frames.push(Frame::Ping("".into()));
        assert!(frames.is_full(), "two frames");
        assert_eq!(frames.drain().count(), 2);
        assert!(!frames.is_full() && frames.is_empty());
        frames.push(Frame::Data("1234567890".into()));
        assert!(frames.is_full(), "ten bytes");
    }
}
