//! Where a socket puts what it reads.

use bytes::Bytes;
use smallvec::SmallVec;

use super::Frame;
use crate::message::{Pack, Text};

/// Frames read from a socket, up to a budget.
#[derive(Debug)]
pub struct Frames {
    bytes: usize,
    drained: bool,
    len: usize,
    max_bytes: usize,
    max_frames: usize,
    /// Most reads bring messages and nothing else.
    parts: SmallVec<[Part; 1]>,
}

/// Some of the frames.
#[derive(Debug)]
pub(crate) enum Part {
    Control(Control),
    /// Messages that came with no control frame among them.
    Messages(Pack),
}

/// A control frame (RFC 6455 §5.5).
#[derive(Debug)]
pub(crate) enum Control {
    Close(Option<(u16, Text)>),
    Ping(Bytes),
    Pong(Bytes),
}

impl Frames {
    /// Room for `max_frames` frames or `max_bytes` bytes of payload, whichever is reached first.
    /// One frame fits always.
    #[must_use]
    pub fn with_budget(max_frames: usize, max_bytes: usize) -> Self {
        Self { bytes: 0, drained: false, len: 0, max_bytes, max_frames, parts: SmallVec::new() }
    }

    /// Sets another budget for what comes.
    pub fn set_budget(&mut self, max_frames: usize, max_bytes: usize) {
        (self.max_frames, self.max_bytes) = (max_frames, max_bytes);
    }

    /// Adds a frame.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        let control = match frame {
            Frame::Data(message) => return self.push_messages(|messages| messages.push(message)),
            Frame::Close(close) => Control::Close(close),
            Frame::Ping(payload) => Control::Ping(payload),
            Frame::Pong(payload) => Control::Pong(payload),
        };
        self.bytes += control.payload().map_or(0, Bytes::len);
        self.len += 1;
        self.parts.push(Part::Control(control));
    }

    /// Adds messages, by what `push` does with the ones that come last.
    #[inline]
    pub(crate) fn push_messages<R>(&mut self, push: impl FnOnce(&mut Pack) -> R) -> R {
        if !matches!(self.parts.last(), Some(Part::Messages(_))) {
            self.parts.push(Part::Messages(Pack::default()));
        }
        let Some(Part::Messages(messages)) = self.parts.last_mut() else {
            unreachable!("they are the last part");
        };
        let (len, bytes) = (messages.len(), messages.bytes());
        let pushed = push(messages);
        self.len += messages.len() - len;
        self.bytes += messages.bytes() - bytes;
        pushed
    }

    /// Whether the budget is spent: a socket stops reading then.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len >= self.max_frames.max(1) || self.bytes >= self.max_bytes.max(1)
    }

    /// How many frames and bytes there is room for: of bytes, the last frame may bring more.
    pub(crate) fn room(&self) -> (usize, usize) {
        let frames = self.max_frames.max(1).saturating_sub(self.len);
        (frames, self.max_bytes.max(1).saturating_sub(self.bytes))
    }

    /// Sets whether the socket has nothing more to read, and wakes its task once it has.
    pub(crate) fn set_drained(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// Whether there is nothing to be had from asking the socket again at once.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// All parts, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Takes all frames out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        self.drain_parts().flat_map(|part| {
            let (control, messages) = match part {
                Part::Control(control) => (Some(control.into()), Pack::default()),
                Part::Messages(messages) => (None, messages),
            };
            control.into_iter().chain(messages.into_iter().map(Frame::Data))
        })
    }

    /// Takes all parts out, in order.
    pub(crate) fn drain_parts(&mut self) -> impl Iterator<Item = Part> + '_ {
        (self.bytes, self.drained, self.len) = (0, false, 0);
        self.parts.drain(..)
    }
}

impl Control {
    fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Close(_) => None,
            Self::Ping(payload) | Self::Pong(payload) => Some(payload),
        }
    }
}

impl From<Control> for Frame {
    fn from(control: Control) -> Self {
        match control {
            Control::Close(close) => Self::Close(close),
            Control::Ping(payload) => Self::Ping(payload),
            Control::Pong(payload) => Self::Pong(payload),
        }
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

    #[test]
    fn messages_count_as_frames_and_come_out_in_their_place() {
        let mut frames = Frames::with_budget(4, 100);
        let push = |frames: &mut Frames, text| frames.push_messages(|texts| texts.push_text(text));
        push(&mut frames, "a");
        push(&mut frames, "b");
        frames.push(Frame::Ping("".into()));
        assert_eq!((frames.len(), frames.room(), frames.parts().len()), (3, (1, 98), 2));
        push(&mut frames, "c");
        assert!(frames.is_full());
        let [a, b, c] = ["a", "b", "c"].map(|text| Frame::Data(text.into()));
        assert!(frames.drain().eq([a, b, Frame::Ping("".into()), c]));
        assert_eq!((frames.len(), frames.room()), (0, (4, 100)));
    }
}
