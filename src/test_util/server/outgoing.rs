//! Frames on their way to a client.

use std::fmt;

use super::wire::Encoded;

/// Frames to be written. Its drop tells how many were.
pub(super) struct Outgoing {
    pub(super) frames: Encoded,
    /// One byte per write.
    pub(super) sliced: bool,
    pub(super) then_fin: bool,
    /// Where to stop, in bytes. Known when writing begins.
    pub(super) stop: Option<usize>,
    /// Bytes that the kernel took.
    pub(super) at: usize,
    /// Frames that the kernel took.
    pub(super) done: usize,
    /// Whether the next frame was delayed enough.
    pub(super) delayed: bool,
    report: Option<Report>,
}

/// Is told how many frames the kernel took.
type Report = Box<dyn FnOnce(usize) + Send>;

impl Outgoing {
    pub(super) fn new(frames: Encoded, sliced: bool) -> Self {
        Self {
            frames,
            sliced,
            then_fin: false,
            stop: None,
            at: 0,
            done: 0,
            delayed: false,
            report: None,
        }
    }

    /// Has `report` called before the socket ends, or anything else is written.
    pub(super) fn reporting(mut self, report: impl FnOnce(usize) + Send + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// The kernel took `written` bytes more.
    pub(super) fn wrote(&mut self, written: usize) {
        self.at += written;
        while self.frames.ends.get(self.done).is_some_and(|end| *end <= self.at) {
            self.done += 1;
            self.delayed = false;
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(self.done);
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("kind", &self.frames.kind).field("at", &self.at).finish()
    }
}
