//! Messages that arrived together, shared by all readers of a stream.
//!
//! A ring keeps batches, not messages: one allocation, one lock and one wake-up serve everything
//! that a socket had to say at once. What a [`Shared`](crate::Shared) reader decodes is kept here
//! too, next to its message; the place for it is made by the first such reader, on the reader's
//! task, so that a stream without one pays nothing.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use crate::decode::DecodeError;
use crate::message::{Message, MessageRef, Pack, Run, message_of};

/// Consecutive messages of one stream.
pub(crate) struct Batch {
    /// Position of the first message in its stream.
    pub(crate) first: u64,
    pub(crate) messages: Arc<Pack>,
    pub(crate) received_at: Instant,
    decoded: Slot,
}

type Slot = OnceLock<Box<Decoded>>;

/// What was decoded as one type, and a place for the next type.
struct Decoded {
    /// `Cells<T>` for some `T`.
    cells: Box<dyn Any + Send + Sync>,
    next: Slot,
}

type Cells<T> = Vec<OnceLock<Result<Arc<T>, DecodeError>>>;

impl Batch {
    pub(crate) fn new(first: u64, messages: Pack, received_at: Instant) -> Self {
        Self { first, messages: Arc::new(messages), received_at, decoded: Slot::new() }
    }

    /// The last message of the batch as a batch of its own. A message of up to `copied` bytes does
    /// not keep the buffer that it was read into; of a larger one the copy would cost more.
    pub(crate) fn last(batch: &Arc<Self>, copied: usize) -> Option<Self> {
        let entry = Entry::last(batch)?;
        let lent = entry.message();
        let message = if lent.len() <= copied { lent.to_message() } else { entry.to_message() };
        let messages = std::iter::once(message).collect();
        Some(Self::new(batch.end() - 1, messages, batch.received_at))
    }

    /// Position after the last message.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    fn cells<T: Send + Sync + 'static>(&self) -> &Cells<T> {
        let mut slot = &self.decoded;
        loop {
            let decoded = slot.get_or_init(|| Box::new(Decoded::new::<T>(self.messages.len())));
            if let Some(cells) = decoded.cells.downcast_ref() {
                return cells;
            }
            slot = &decoded.next;
        }
    }
}

impl Decoded {
    fn new<T: Send + Sync + 'static>(len: usize) -> Self {
        let cells: Cells<T> = (0..len).map(|_| OnceLock::new()).collect();
        Self { cells: Box::new(cells), next: Slot::new() }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("first", &self.first)
            .field("len", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// One message in its place: what a reader's type is made from.
#[derive(Debug)]
pub struct Entry<'a> {
    batch: &'a Arc<Batch>,
    index: usize,
    replayed: bool,
    /// The batch, as its reader alone holds it, made by the first copy that is counted there.
    run: Option<&'a OnceLock<Arc<Run>>>,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(crate) fn new(batch: &'a Arc<Batch>, index: usize) -> Self {
        Self { batch, index, replayed: false, run: None }
    }

    /// The same, of which copies are counted in `run`.
    #[inline]
    pub(crate) fn within(self, run: Option<&'a OnceLock<Arc<Run>>>) -> Self {
        Self { run, ..self }
    }

    /// The last message of `batch`, if it has one.
    pub(crate) fn last(batch: &'a Arc<Batch>) -> Option<Self> {
        Some(Self::new(batch, batch.messages.len().checked_sub(1)?))
    }

    /// The same, as what came before its reader did.
    pub(crate) fn replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    /// Whether the message came before its reader did.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// The message.
    #[inline]
    #[must_use]
    pub fn message(&self) -> MessageRef<'a> {
        self.batch.messages.get(self.index).unwrap_or(MessageRef::NONE)
    }

    /// A message of one's own. It keeps the others of its batch as long as it lives.
    #[inline]
    #[must_use]
    pub fn to_message(&self) -> Message {
        let pack = &self.batch.messages;
        match self.run {
            Some(run) => run.get_or_init(|| Run::new(Arc::clone(pack))).message(self.index),
            None => message_of(pack, self.index),
        }
    }

    /// When the message was read from the socket.
    #[must_use]
    pub fn received_at(&self) -> Instant {
        self.batch.received_at
    }

    /// Position of the message in its stream, counted from 0.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.batch.first + self.index as u64
    }

    /// What `decode` makes of the message, or what an earlier call for the same `T` made of it.
    pub(crate) fn decoded<T: Send + Sync + 'static>(
        &self,
        decode: impl FnOnce() -> Result<T, DecodeError>,
    ) -> Result<Arc<T>, DecodeError> {
        self.batch.cells()[self.index].get_or_init(|| decode().map(Arc::new)).clone()
    }
}

/// From so many messages on, a reader counts the references to those that it hands out by itself:
/// for fewer, that would cost more than it saves.
pub(crate) const RUN: usize = 8;

/// Messages of one batch that follow on one another, and that one reader has taken together.
#[derive(Debug)]
pub(crate) struct Taken {
    batch: Arc<Batch>,
    /// Those that are left.
    left: Range<usize>,
    replayed: bool,
    /// What is read of them counts its references here.
    run: OnceLock<Arc<Run>>,
}

impl Taken {
    /// The messages of `batch` from position `from` on, `limit` of them at most.
    pub(crate) fn new(batch: Arc<Batch>, from: u64, limit: usize) -> Self {
        let len = batch.messages.len();
        let start = usize::try_from(from.saturating_sub(batch.first)).map_or(len, |at| at.min(len));
        let left = start..start.saturating_add(limit).min(len);
        Self { batch, left, replayed: false, run: OnceLock::new() }
    }

    /// The last message of `batch`, as what came before its reader did.
    pub(crate) fn replay(batch: Arc<Batch>) -> Self {
        let len = batch.messages.len();
        Self { batch, left: len.saturating_sub(1)..len, replayed: true, run: OnceLock::new() }
    }

    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.left.len()
    }

    /// Their pack, and the places of those that are left.
    pub(crate) fn left(&self) -> (&Pack, Range<usize>) {
        (&self.batch.messages, self.left.clone())
    }

    /// What `read` makes of the next message, and steps over it.
    pub(crate) fn read<T>(&mut self, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let index = self.left.next()?; // Before the user's code runs: a panic in it costs one message.
        // From a few messages on: for fewer, it would cost more than it saves.
        let run = (self.batch.messages.len() >= RUN).then_some(&self.run);
        let entry = Entry::new(&self.batch, index).within(run);
        Some(read(&Entry { replayed: self.replayed, ..entry }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(texts: &[&str]) -> Pack {
        texts.iter().map(|text| Message::text(*text)).collect()
    }

    #[test]
    fn what_is_taken_of_a_batch_is_what_was_asked_for_and_no_more() {
        let batch = Arc::new(Batch::new(7, pack(&["a", "b", "c"]), Instant::now()));
        let texts = |mut taken: Taken| {
            let whole = taken.len();
            let mut texts = Vec::new();
            while let Some(text) = taken.read(|entry| (entry.seq(), entry.to_message())) {
                texts.push(text);
                assert_eq!(taken.len() + texts.len(), whole);
                assert_eq!(taken.left().1.len(), taken.len());
            }
            texts.into_iter().map(|(seq, text)| (seq, text.as_text().unwrap().to_owned())).collect()
        };
        let check = |taken: Taken, expected: &[(u64, &str)]| {
            let texts: Vec<_> = texts(taken);
            assert!(texts.iter().map(|(seq, text)| (*seq, &**text)).eq(expected.iter().copied()));
        };
        check(Taken::new(Arc::clone(&batch), 7, usize::MAX), &[(7, "a"), (8, "b"), (9, "c")]);
        check(Taken::new(Arc::clone(&batch), 8, 1), &[(8, "b")]);
        check(Taken::new(Arc::clone(&batch), 10, 1), &[]);
        check(Taken::new(Arc::clone(&batch), u64::MAX, 1), &[]);
        check(Taken::replay(Arc::clone(&batch)), &[(9, "c")]);
        assert!(Taken::replay(batch).read(|entry| entry.is_replayed()).unwrap());
    }

    #[test]
    fn each_type_is_decoded_once() {
        let batch = Arc::new(Batch::new(7, pack(&["a", "b"]), Instant::now()));
        let entry = Entry::new(&batch, 1);
        assert_eq!((entry.seq(), batch.end()), (8, 9));
        for expected in [1_u8, 1] {
            // The second closure's answer is not used.
            let decoded = entry.decoded(|| Ok(expected)).unwrap();
            assert_eq!(*decoded, 1);
        }
        let other = entry.decoded(|| Ok(String::from("b"))).unwrap();
        assert_eq!(*other, "b");
        let first = entry.decoded::<u8>(|| unreachable!()).unwrap();
        assert!(Arc::ptr_eq(&first, &entry.decoded::<u8>(|| unreachable!()).unwrap()));
    }
}
