//! Reading in batches: what is there, as one item.
//!
//! A batch takes whole batches of the ring, one reference count for each, and makes values of
//! their messages only when it is iterated over.
//!
//! # Invariants
//!
//! 1. A batch is the subscription's items in their order, notices included, and never empty.
//! 2. What a batch holds its reader has taken: it counts towards neither the ring's bounds nor the
//!    reader's lag, and it is kept for as long as the batch is.
//! 3. A batch gives its buffer back when it is dropped. What waits for reuse is bounded.

use std::collections::{VecDeque, vec_deque};
use std::fmt;
use std::future::poll_fn;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};

use super::Subscription;
use crate::batch::Taken;
use crate::decode::FromMessage;
use crate::engine::sync::Mutex;
use crate::engine::topic::{Next, Reader};
use crate::error::StreamError;
use crate::message::{MessageRef, Pack};
use crate::observe::Metrics;

/// Items of a batch unless [`max_items`](Batches::max_items) says otherwise: as many messages as a
/// stream keeps by default.
const MAX_ITEMS: usize = 1024;

/// Buffers that wait for reuse, and how many parts one of them may have room for.
const SPARE: usize = 4;
const SPARE_PARTS: usize = 64;

impl<T: FromMessage> Subscription<T> {
    /// Reads in batches: each item is all that is there, in order and with its gaps, 1,024 items at
    /// most.
    ///
    /// The fastest way to read. A batch costs one wake-up and a reference count or two, whatever the
    /// number of its messages; they are read as `T` only when the batch is iterated over, and not at
    /// all by [`Items::messages`].
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use wsmux::{Gap, StreamError};
    ///
    /// let mut prices = manager.subscribe::<f64>("btcusdt@price")?.batches();
    /// while let Some(items) = prices.recv().await {
    ///     for item in items {
    ///         match item {
    ///             Ok(price) => println!("{price}"),
    ///             Err(StreamError::Gap(Gap::Lagged { missed })) => println!("{missed} lost"),
    ///             Err(notice) => println!("{notice}"),
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn batches(self) -> Batches<T> {
        let metrics = Arc::clone(&self.seat.core().metrics);
        let shelf = Arc::new(Shelf { metrics, spare: Mutex::default() });
        Batches { max_items: MAX_ITEMS, shelf, subscription: self }
    }
}

/// A subscription that is read in batches; created by [`Subscription::batches`]. Ends with the
/// subscription, after the batch whose last item is [`StreamError::Closed`].
#[must_use = "streams do nothing unless polled"]
pub struct Batches<T> {
    max_items: usize,
    shelf: Arc<Shelf>,
    subscription: Subscription<T>,
}

/// What a stream's batches have in common.
#[derive(Debug)]
struct Shelf {
    metrics: Arc<Metrics>,
    spare: Mutex<Vec<VecDeque<Part>>>,
}

/// Some of a batch.
#[derive(Debug)]
enum Part {
    Notice(StreamError),
    Messages(Taken),
}

impl<T> Batches<T> {
    /// The most items that a batch may have; at least one. 1,024 by default.
    pub fn max_items(mut self, max: usize) -> Self {
        self.max_items = max.max(1);
        self
    }

    /// The subscription: its status, its lag.
    pub fn get_ref(&self) -> &Subscription<T> {
        &self.subscription
    }

    /// The subscription, with everything that was not read.
    pub fn into_inner(self) -> Subscription<T> {
        self.subscription
    }
}

impl<T: FromMessage> Batches<T> {
    /// Waits for the next item, and returns it with those that are there already; `None` after the
    /// end. The same as `StreamExt::next`, without an import.
    ///
    /// Allocates nothing once a few batches were read and dropped. Cancel safe: until it returns,
    /// nothing is taken.
    pub async fn recv(&mut self) -> Option<Items<T>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Items<T>>> {
        let reader = &mut self.subscription.reader;
        let Some(first) = ready!(reader.poll_next(cx)) else { return Poll::Ready(None) };
        let mut items = Items::new(&self.shelf);
        let mut next = Some(first);
        while let Some(part) = next {
            items.put(part, reader, self.max_items);
            next = if items.left < self.max_items { reader.next_now(cx) } else { None };
        }
        Poll::Ready(Some(items))
    }
}

impl<T: FromMessage> Stream for Batches<T> {
    type Item = Items<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl<T: FromMessage> FusedStream for Batches<T> {
    fn is_terminated(&self) -> bool {
        self.subscription.is_terminated()
    }
}

impl<T> fmt::Debug for Batches<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("subscription", &self.subscription)
            .field("max_items", &self.max_items)
            .finish_non_exhaustive()
    }
}

/// Items of a stream that were there together: an iterator over them, made by [`Batches`].
///
/// A message is read as `T` when the iterator comes to it, on the thread that iterates. Dropping it
/// drops what is left, unread. It keeps the memory of its messages, which
/// [`Config::buffer_bytes`](crate::Config) does not count any more: do not collect batches.
#[must_use = "iterators do nothing unless consumed"]
pub struct Items<T> {
    /// How many are in `parts`.
    left: usize,
    /// None of them is empty.
    parts: VecDeque<Part>,
    shelf: Arc<Shelf>,
    _reads: PhantomData<fn() -> T>,
}

impl<T> Items<T> {
    fn new(shelf: &Arc<Shelf>) -> Self {
        let parts = shelf.spare.lock().pop().unwrap_or_default();
        Self { left: 0, parts, shelf: Arc::clone(shelf), _reads: PhantomData }
    }

    /// Appends what `reader` has come to, so that there are `max` items at most.
    fn put(&mut self, next: Next, reader: &mut Reader, max: usize) {
        let part = match next {
            Next::Closed(reason) => Part::Notice(StreamError::Closed(*reason)),
            Next::Gap(gap) => Part::Notice(StreamError::Gap(*gap)),
            Next::Message => match reader.take_many(max - self.left) {
                Some(taken) => Part::Messages(taken),
                None => return,
            },
        };
        self.left += part.len();
        self.parts.push_back(part);
    }

    /// The items that are left, as they came: messages without a reference count or a copy, notices
    /// in their place. Takes none.
    ///
    /// For types that borrow from the message:
    ///
    /// ```no_run
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use wsmux::Message;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Trade<'a> {
    ///     #[serde(rename = "s")]
    ///     symbol: &'a str,
    ///     #[serde(rename = "p")]
    ///     price: &'a str,
    /// }
    ///
    /// let mut trades = manager.subscribe::<Message>("btcusdt@trade")?.batches();
    /// while let Some(items) = trades.recv().await {
    ///     for item in items.messages() {
    ///         match item.map(|message| serde_json::from_slice::<Trade<'_>>(message.as_bytes())) {
    ///             Ok(Ok(trade)) => println!("{} {}", trade.symbol, trade.price),
    ///             Ok(Err(e)) => eprintln!("{e}"),
    ///             Err(notice) => eprintln!("{notice}"),
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn messages(&self) -> impl Iterator<Item = Result<MessageRef<'_>, &StreamError>> + Clone {
        Lent { parts: self.parts.iter(), left: None }
    }
}

/// What is lent of a batch's items. A type of its own, since adapters in one another are not seen
/// through by the compiler, and cost more than the looks at the messages.
#[derive(Clone)]
struct Lent<'a> {
    parts: vec_deque::Iter<'a, Part>,
    /// Messages that follow on one another, and the places of those that are left.
    left: Option<(&'a Pack, Range<usize>)>,
}

impl<'a> Iterator for Lent<'a> {
    type Item = Result<MessageRef<'a>, &'a StreamError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((pack, places)) = &mut self.left {
                if let Some(message) = places.next().and_then(|place| pack.get(place)) {
                    return Some(Ok(message));
                }
            }
            self.left = match self.parts.next()? {
                Part::Notice(notice) => return Some(Err(notice)),
                Part::Messages(taken) => Some(taken.left()),
            };
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Notice(_) => 1,
            Self::Messages(taken) => taken.len(),
        }
    }
}

impl<T: FromMessage> Iterator for Items<T> {
    type Item = Result<T, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Part::Messages(taken) = self.parts.front_mut()? {
                if taken.len() > 0 {
                    self.left -= 1;
                    let value = taken.read(T::from_entry)?;
                    return Some(value.map_err(|e| {
                        self.shelf.metrics.decode_error();
                        StreamError::Decode(e)
                    }));
                }
            }
            if let Part::Notice(notice) = self.parts.pop_front()? {
                self.left -= 1;
                return Some(Err(notice));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: FromMessage> ExactSizeIterator for Items<T> {}

impl<T: FromMessage> FusedIterator for Items<T> {}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        self.parts.clear();
        if self.parts.capacity() == 0 || self.parts.capacity() > SPARE_PARTS {
            return;
        }
        let mut spare = self.shelf.spare.lock();
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.parts));
        }
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn a_buffer_goes_round_and_few_are_kept_and_none_that_is_large() {
        let shelf = Arc::new(Shelf { metrics: Arc::default(), spare: Mutex::default() });
        let spare = || shelf.spare.lock().iter().map(VecDeque::capacity).collect::<Vec<_>>();
        let items = |parts: usize| {
            let mut items = Items::<Message>::new(&shelf);
            items.parts.reserve_exact(parts);
            items
        };
        drop(Items::<Message>::new(&shelf));
        assert!(spare().is_empty(), "it had none");
        for _ in 0..3 {
            drop(items(8));
            assert_eq!(spare(), [8]);
        }
        drop((0..9).map(|_| items(8)).collect::<Vec<_>>());
        assert_eq!(spare(), [8; SPARE]);
        drop((0..9).map(|_| items(SPARE_PARTS + 1)).collect::<Vec<_>>());
        assert!(spare().is_empty());
    }
}
