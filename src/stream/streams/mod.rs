//! Many subscriptions read as one stream.
//!
//! # Invariants
//!
//! 1. A member is polled only in its turn: when it is new, when it was woken, or when it has just
//!    yielded. So a message costs the same however many others are quiet.
//! 2. A member that has yielded [`RUN`] items in one turn goes to the end of the line. So nobody
//!    waits for more than `RUN` items of each other member.
//! 3. A member that is neither in the line nor in its turn has parked the waker that puts it there.
//! 4. A member leaves with its last item, or by [`Streams::remove`], and takes all it had along.

mod turns;

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures::stream::{FusedStream, Stream};
use slab::Slab;
use tokio::task::coop;

use self::turns::Turns;
use super::Subscription;
use super::many::{self, Many};
use super::open::open;
use crate::decode::FromMessage;
use crate::engine::core::Core;
use crate::engine::registry::Kind;
use crate::error::{StreamError, SubscribeError};
use crate::name::StreamName;

/// Items that a member yields in one turn, at most.
const RUN: u32 = 32;

/// Several streams read as one: each item comes with the name of its stream. Made by
/// [`WsManager::subscribe_all`](crate::WsManager::subscribe_all).
///
/// Items of one name are those of its [`Subscription`], in order, notices included; between names
/// there is no order. A message costs the same with ten names as with ten thousand, and a busy name
/// does not keep the others waiting: after 32 items it is their turn.
///
/// A member that has ended is taken out with its [`Closed`](StreamError::Closed), so its name may be
/// [inserted](Self::insert) again at once. **The stream yields `None` when it has no member**, and
/// goes on when it is given one: [`is_terminated`](FusedStream::is_terminated) means "empty now".
///
/// ```no_run
/// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
/// use wsmux::{StreamError, Text};
///
/// let mut trades = manager.subscribe_all::<Text>(["btcusdt@trade", "ethusdt@trade"])?;
/// while let Some((name, item)) = trades.recv().await {
///     match item {
///         Ok(trade) => println!("{name}: {trade}"),
///         Err(StreamError::Closed(reason)) => println!("{name} has ended: {reason}"),
///         Err(notice) => println!("{name}: {notice}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Streams<T> {
    by_name: HashMap<StreamName, usize>,
    core: Arc<Core>,
    // Boxed: what is freed with a member is most of it, and not kept for the next one.
    members: Slab<Box<Member<T>>>,
    /// How often a member was polled.
    #[cfg(test)]
    polls: usize,
    /// Whose turn it is, and how many items are left of it.
    turn: Option<(usize, u32)>,
    turns: Arc<Turns>,
}

struct Member<T> {
    subscription: Subscription<T>,
    /// Puts it in the line.
    waker: Waker,
}

type Item<T> = (StreamName, Result<T, StreamError>);

impl<T: FromMessage> Streams<T> {
    /// Without a member.
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            by_name: HashMap::new(),
            core: Arc::clone(core),
            members: Slab::new(),
            #[cfg(test)]
            polls: 0,
            turn: None,
            turns: Arc::default(),
        }
    }

    /// The next item of any member; `None` if there is no member. The same as `StreamExt::next`,
    /// without an import.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<(StreamName, Result<T, StreamError>)> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for the next item, and appends it to `buf` together with those that are there already,
    /// of all members: at most `limit` in all. Returns how many; 0 if there is no member, or if
    /// `limit` is 0.
    ///
    /// Allocates nothing but what `buf` needs to grow. Cancel safe: until it returns, nothing is
    /// taken.
    pub async fn recv_many(
        &mut self,
        buf: &mut Vec<(StreamName, Result<T, StreamError>)>,
        limit: usize,
    ) -> usize {
        poll_fn(|cx| many::poll_recv_many(self, cx, buf, limit)).await
    }

    /// Subscribes to `name`, with the manager that [made](crate::WsManager::subscribe_all) this.
    /// `false` if it is a member already.
    ///
    /// # Errors
    ///
    /// Those of [`WsManager::subscribe`](crate::WsManager::subscribe).
    pub fn insert(&mut self, name: impl AsRef<str>) -> Result<bool, SubscribeError> {
        let name = name.as_ref();
        if self.contains(name) {
            return Ok(false);
        }
        let subscription = open(&self.core, name, Kind::Reader, Subscription::new)?;
        self.add(subscription);
        Ok(true)
    }

    /// Takes in a subscription, of whatever manager, with all that it has not read. Returns the
    /// member of the same name that it replaces.
    pub fn add(&mut self, subscription: Subscription<T>) -> Option<Subscription<T>> {
        let replaced = self.remove(subscription.name().as_str());
        let name = subscription.name().clone();
        let slot = self.members.vacant_entry();
        let key = slot.key();
        slot.insert(Box::new(Member { subscription, waker: self.turns.waker(key) }));
        self.by_name.insert(name, key);
        self.turns.call(key);
        replaced
    }

    /// Takes out the member of that name, with all that it has not read. Drop it to leave its
    /// stream.
    pub fn remove(&mut self, name: &str) -> Option<Subscription<T>> {
        let key = *self.by_name.get(name)?;
        self.take_out(key)
    }

    /// The member of that name: its status, its lag, its [latest](Subscription::latest) message.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Subscription<T>> {
        self.by_name.get(name).map(|&key| &self.members[key].subscription)
    }

    /// Whether there is a member of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The names of the members, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &StreamName> {
        self.by_name.keys()
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<T>>> {
        loop {
            // Whether the task has had its turn. Members spend of it, this does not.
            drop(ready!(coop::poll_proceed(cx)));
            if let Some(item) = self.next_now() {
                return Poll::Ready(Some(item));
            }
            if self.is_empty() {
                return Poll::Ready(None);
            }
            if coop::has_budget_remaining() {
                ready!(self.turns.poll_any(cx));
            }
        }
    }

    /// The next item, if one is there and the task has not had its turn.
    fn next_now(&mut self) -> Option<Item<T>> {
        while coop::has_budget_remaining() {
            let (key, left) = match self.turn.take() {
                Some(turn) => turn,
                None => (self.turns.next()?, RUN),
            };
            let Some(member) = self.members.get_mut(key) else { continue };
            #[cfg(test)]
            {
                self.polls += 1;
            }
            // Where it stays if the user's code panics.
            self.turn = Some((key, left));
            let mut cx = Context::from_waker(&member.waker);
            match member.subscription.poll_recv(&mut cx) {
                Poll::Ready(Some(item)) => return Some(self.yielded(key, left, item)),
                Poll::Ready(None) => drop(self.take_out(key)), // It had ended before it came here.
                Poll::Pending => self.turn = None,
            }
        }
        None
    }

    fn yielded(&mut self, key: usize, left: u32, item: Result<T, StreamError>) -> Item<T> {
        let name = self.members[key].subscription.name().clone();
        if matches!(&item, Err(e) if e.is_terminal()) {
            drop(self.take_out(key));
        } else if left > 1 {
            self.turn = Some((key, left - 1));
        } else {
            self.turn = None;
            self.turns.put_back(key);
        }
        (name, item)
    }

    fn take_out(&mut self, key: usize) -> Option<Subscription<T>> {
        let member = self.members.try_remove(key)?;
        self.by_name.remove(member.subscription.name());
        self.turn = self.turn.filter(|(other, _)| *other != key);
        self.turns.forget(key);
        if self.members.is_empty() {
            self.members = Slab::new();
            self.by_name = HashMap::new();
            self.turns.shrink();
        }
        Some(member.subscription)
    }
}

impl<T: FromMessage> Many for Streams<T> {
    type Item = Item<T>;

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<T>>> {
        self.poll_recv(cx)
    }

    fn one_now(&mut self, _: &mut Context<'_>) -> Option<Item<T>> {
        self.next_now()
    }
}

impl<T: FromMessage> Stream for Streams<T> {
    type Item = (StreamName, Result<T, StreamError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_empty().then_some(0))
    }
}

/// True while there is no member. It is false again after an [`insert`](Streams::insert).
impl<T: FromMessage> FusedStream for Streams<T> {
    fn is_terminated(&self) -> bool {
        self.is_empty()
    }
}

/// [Adds](Streams::add) subscriptions, of whatever managers; a later one of a name replaces an
/// earlier one.
impl<T: FromMessage> Extend<Subscription<T>> for Streams<T> {
    fn extend<I: IntoIterator<Item = Subscription<T>>>(&mut self, subscriptions: I) {
        subscriptions.into_iter().for_each(|subscription| drop(self.add(subscription)));
    }
}

impl<T> fmt::Debug for Streams<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("len", &self.members.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests;
