//! One call for all who want what comes of it.
//!
//! There is no task: whoever waits polls the call. So it ends with the last one who waits, and goes
//! on with the others when one of them goes, be it that its runtime went away.
//!
//! # Invariants
//!
//! 1. At most one call is under way. What comes of it is told to everybody who joined it.
//! 2. A wake-up of the call wakes all who wait. One may be polling just then, so that the others find
//!    nothing to poll; if that one goes away, it wakes them again.
//! 3. The call is polled and dropped without a lock: it is the user's code.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use slab::Slab;

use super::defect::{Defect, seeded};
use super::sync::{Mutex, register, take_wakers};

/// Where calls are made.
pub(super) struct SingleFlight<T>(Mutex<Weak<Call<T>>>);

/// A call under way.
struct Call<T>(Mutex<Progress<T>>);

struct Progress<T> {
    /// Taken out while it is polled.
    future: Option<BoxFuture<'static, T>>,
    outcome: Option<T>,
    waiting: Slab<Option<Waker>>,
}

impl<T: Clone + Send + 'static> SingleFlight<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// Joins the call under way, or makes one. `call` is called under the lock, and only makes the
    /// future.
    pub(super) fn join(&self, call: impl FnOnce() -> BoxFuture<'static, T>) -> Joined<T> {
        let mut current = self.0.lock();
        let earlier = current.upgrade();
        let joined = match earlier.as_ref().and_then(Call::join) {
            Some(joined) => joined,
            None => {
                let progress =
                    Progress { future: Some(call()), outcome: None, waiting: Slab::new() };
                let call = Arc::new(Call(Mutex::new(progress)));
                *current = Arc::downgrade(&call);
                let place = call.0.lock().waiting.insert(None);
                Joined { call, place }
            }
        };
        drop(current);
        drop(earlier); // It may be the last to hold the call.
        joined
    }
}

impl<T> Call<T> {
    /// Waits for what comes of the call, unless that is known.
    fn join(self: &Arc<Self>) -> Option<Joined<T>> {
        let mut progress = self.0.lock();
        if progress.outcome.is_some() {
            return None;
        }
        let place = progress.waiting.insert(None);
        Some(Joined { call: Arc::clone(self), place })
    }

    fn wake_all(&self) {
        let wakers = take_wakers(&mut self.0.lock().waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Wakes all who wait for a call. It does not keep the call, which keeps it.
struct WakeAll<T>(Weak<Call<T>>);

impl<T: Send + 'static> Wake for WakeAll<T> {
    fn wake(self: Arc<Self>) {
        if let Some(call) = self.0.upgrade() {
            call.wake_all();
        }
    }
}

/// One who waits for what comes of a call.
pub(super) struct Joined<T> {
    call: Arc<Call<T>>,
    place: usize,
}

impl<T: Clone + Send + 'static> Future for Joined<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let (future, replaced) = {
            let mut progress = self.call.0.lock();
            if let Some(outcome) = &progress.outcome {
                return Poll::Ready(outcome.clone());
            }
            // Before the call is polled, which may wake us at once.
            let replaced = register(&mut progress.waiting[self.place], cx);
            (progress.future.take(), replaced)
        };
        drop(replaced);
        let Some(mut future) = future else { return Poll::Pending };
        let waker = Waker::from(Arc::new(WakeAll(Arc::downgrade(&self.call))));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => {
                self.call.0.lock().outcome = Some(outcome.clone());
                self.call.wake_all();
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                self.call.0.lock().future = Some(future);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Joined<T> {
    fn drop(&mut self) {
        let waker = self.call.0.lock().waiting.remove(self.place);
        drop(waker);
        if !seeded(Defect::LeavesCallAlone) {
            self.call.wake_all();
        }
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures::FutureExt as _;
    use futures::channel::oneshot;

    use super::*;

    /// A call that ends when it is told to.
    fn call() -> (BoxFuture<'static, u32>, oneshot::Sender<u32>) {
        let (end, ended) = oneshot::channel();
        (async move { ended.await.unwrap_or_default() }.boxed(), end)
    }

    #[test]
    fn all_who_want_it_at_once_share_one_call() {
        let (calls, flight) = (AtomicUsize::new(0), SingleFlight::new());
        let (first, end) = call();
        let mut first = Some(first);
        let mut joined: Vec<_> = std::iter::repeat_with(|| {
            flight.join(|| {
                calls.fetch_add(1, SeqCst);
                first.take().unwrap()
            })
        })
        .take(3)
        .collect();
        assert!(joined.iter_mut().all(|joined| joined.now_or_never().is_none()));
        end.send(7).unwrap();
        assert!(joined.iter_mut().all(|joined| joined.now_or_never() == Some(7)));
        assert_eq!(calls.into_inner(), 1);
        let next = flight.join(|| async { 8 }.boxed());
        assert_eq!(next.now_or_never(), Some(8), "what is over is not joined");
    }

    #[tokio::test]
    async fn who_goes_away_cancels_it_for_nobody_else() {
        let flight = SingleFlight::new();
        let (first, end) = call();
        let mut driving = flight.join(|| first);
        assert!((&mut driving).now_or_never().is_none());
        let waiting = tokio::spawn(flight.join(|| unreachable!("it is under way")));
        tokio::task::yield_now().await;
        drop(driving);
        end.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), 7);
    }

    #[test]
    fn the_last_who_goes_away_ends_it() {
        let flight = SingleFlight::new();
        let (first, end) = call();
        drop(flight.join(|| first));
        assert!(end.is_canceled());
        let next = flight.join(|| async { 8 }.boxed());
        assert_eq!(next.now_or_never(), Some(8));
    }
}
