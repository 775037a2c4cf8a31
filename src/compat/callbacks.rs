//! A callback per message, for code that is not written around streams.
//!
//! # Invariants
//!
//! 1. Calls of one callback come one at a time and in order, never on the socket's task: a task of
//!    its own waits for items, and hands each stint of calls to the runtime's threads for blocking
//!    work. So a callback that blocks holds up no socket and no reader, whatever the runtime.
//! 2. No panic of a user's code (callback, decoder, the `Drop` of an item or a captured value, the
//!    panic's own payload) gets out of here, and each is counted and logged without its payload.
//! 3. The stream is left before the closure is dropped, and the closure is dropped before anybody
//!    is told that all is over.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures::stream::Stream as _;
use tokio::runtime::Handle as Runtime;

use crate::decode::FromMessage;
use crate::engine::sync::{Following, Signal, Watch};
use crate::error::{StreamError, SubscribeError};
use crate::manager::WsManager;
use crate::name::StreamName;
use crate::observe::{Metrics, Status};
use crate::stream::{StatusStream, Subscription};

/// Items handled before the thread is given back, so that busy streams share the threads there are.
const STINT: usize = 256;

thread_local! {
    /// Whose callback runs on this thread: the address of its [`Shared`], or 0.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

impl WsManager {
    /// Subscribes to `name`, and calls `callback` with each item, in order and one at a time, until
    /// the stream ends or the guard is dropped. The items are those of a
    /// [`Subscription`]: an `Err` is a notice in its place, and only
    /// [`Closed`](StreamError::Closed) is the last.
    ///
    /// It runs on the runtime's threads for blocking work
    /// ([`spawn_blocking`](tokio::task::spawn_blocking)), so it may block: that slows down nothing
    /// but itself, and what it then misses is a [`Gap::Lagged`](crate::Gap::Lagged). A runtime has
    /// 512 such threads by default; more callbacks than that take turns, unless all of these block.
    /// Where each microsecond counts, read a [`Subscription`] on a task of your own.
    ///
    /// A panic in it costs the item: it is counted ([`panics`](CallbackGuard::panics)), logged at
    /// level ERROR without the panic's payload, and the next item comes. Where panics abort the
    /// program, they do here too.
    ///
    /// ```no_run
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use wsmux::{Text, WsManager};
    ///
    /// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
    /// let guard = manager.subscribe_with::<Text>("btcusdt@trade", |item| match item {
    ///     Ok(trade) => println!("{trade}"),
    ///     Err(notice) => println!("{notice}"),
    /// })?;
    /// // Later, or by dropping it:
    /// guard.unsubscribe();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`subscribe`](Self::subscribe), and [`SubscribeError::NoRuntime`] also where the
    /// stream is open already: the callback needs a runtime to run on, the builder's or this
    /// thread's. The callback is dropped without a call then.
    pub fn subscribe_with<T: FromMessage + Send + 'static>(
        &self,
        name: impl AsRef<str>,
        callback: impl FnMut(Result<T, StreamError>) + Send + 'static,
    ) -> Result<CallbackGuard, SubscribeError> {
        let runtime = self.core().runtime().ok_or(SubscribeError::NoRuntime)?;
        let subscription = self.subscribe::<T>(name)?;
        let shared = Arc::new(Shared {
            finished: Arc::new(Watch::new(false)),
            metrics: Arc::clone(&self.core().metrics),
            name: subscription.name().clone(),
            panics: AtomicU64::new(0),
            stop: Signal::default(),
            stopped: AtomicBool::new(false),
        });
        let status = subscription.status_changes();
        let worker = Worker {
            subscription,
            callback: Contained { callback: Some(callback), shared: Arc::clone(&shared) },
            done: Done(Arc::clone(&shared)),
        };
        runtime.spawn(run(worker, runtime.clone()));
        Ok(CallbackGuard { attached: true, shared, status })
    }
}

/// A running callback; created by [`WsManager::subscribe_with`]. Dropping it unsubscribes, on any
/// thread, in a runtime or not, and inside the callback itself.
#[must_use = "dropping it unsubscribes; `forget` it to keep the callback to the end of its stream"]
pub struct CallbackGuard {
    attached: bool,
    shared: Arc<Shared>,
    status: StatusStream,
}

impl CallbackGuard {
    /// Ends the callback, as dropping the guard does: no further call begins, and one that is under
    /// way goes on. When that has returned, the stream is left and the closure dropped.
    pub fn unsubscribe(self) {}

    /// Ends the callback, and waits until no call is under way, the stream is left and the closure
    /// is dropped. Called inside the callback itself, it waits for nothing.
    ///
    /// Dropping the future leaves all that to happen by itself.
    pub async fn stop(self) {
        let shared = Arc::clone(&self.shared);
        self.unsubscribe();
        if shared.is_running_here() {
            return;
        }
        let mut finished = Following::new(&shared.finished);
        while poll_fn(|cx| finished.poll_changed(cx)).await == Some(false) {}
    }

    /// Keeps the callback until its stream ends: for good, by
    /// [`shutdown`](WsManager::shutdown), or with the runtime. Nothing else ends it then, not even
    /// dropping the manager.
    pub fn forget(mut self) {
        self.attached = false;
    }

    /// Whether all is over: the stream has ended or was left, and the closure is dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shared.finished.get()
    }

    /// The name subscribed to.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.shared.name
    }

    /// How many panics were contained: of the callback, of the decoding of its items, and of the
    /// drop of what it captured.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// What the stream is doing right now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.current()
    }
}

impl Drop for CallbackGuard {
    fn drop(&mut self) {
        if self.attached {
            self.shared.stopped.store(true, Ordering::SeqCst);
            self.shared.stop.set();
        }
    }
}

impl fmt::Debug for CallbackGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackGuard")
            .field("name", &self.shared.name)
            .field("status", &self.status.current())
            .field("panics", &self.panics())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// What the guard and the task know of each other.
struct Shared {
    finished: Arc<Watch<bool>>,
    metrics: Arc<Metrics>,
    name: StreamName,
    panics: AtomicU64,
    stop: Signal,
    stopped: AtomicBool,
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn is_running_here(&self) -> bool {
        INSIDE.get() == self.address()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Runs a user's code; `None` if it panicked.
    fn contain<R>(&self, what: &'static str, code: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(code)).map_err(|payload| self.panicked(what, payload)).ok()
    }

    fn panicked(&self, what: &'static str, payload: Box<dyn Any + Send>) {
        // It may panic again, with a payload that does so for ever: that one is leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        let panics = self.panics.fetch_add(1, Ordering::Relaxed) + 1;
        self.metrics.callback_panicked();
        tracing::error!(name = %self.name, panics, "{what} panicked");
    }
}

/// What a callback needs, dropped in this order.
struct Worker<T, F> {
    subscription: Subscription<T>,
    callback: Contained<F>,
    done: Done,
}

/// A closure whose drop may panic.
struct Contained<F> {
    callback: Option<F>,
    shared: Arc<Shared>,
}

impl<F> Drop for Contained<F> {
    fn drop(&mut self) {
        let callback = self.callback.take();
        self.shared.contain("the drop of a callback", || drop(callback));
    }
}

/// Tells that all is over, also where the task was dropped with its runtime.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.finished.update(|finished| !std::mem::replace(finished, true));
        self.0.finished.close();
    }
}

/// Waits for items, and has them handled where blocking is allowed.
async fn run<T, F>(mut worker: Worker<T, F>, runtime: Runtime)
where
    T: FromMessage + Send + 'static,
    F: FnMut(Result<T, StreamError>) + Send + 'static,
{
    while let Some(first) = poll_fn(|cx| worker.poll_next(cx)).await {
        let stint = runtime.spawn_blocking(move || {
            worker.call_from(first);
            worker
        });
        // Otherwise the runtime is shutting down, and has dropped it.
        let Ok(back) = stint.await else { return };
        worker = back;
    }
}

impl<T, F> Worker<T, F>
where
    T: FromMessage,
    F: FnMut(Result<T, StreamError>),
{
    /// The next item; `None` if there is none to come, or none is wanted.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let shared = &self.done.0;
        loop {
            if shared.stop.poll_take(cx).is_ready() || shared.is_stopped() {
                return Poll::Ready(None);
            }
            let subscription = Pin::new(&mut self.subscription);
            // Decoding is a user's code, and has stepped over its message.
            if let Some(item) =
                shared.contain("the decoding for a callback", || subscription.poll_next(cx))
            {
                return item;
            }
        }
    }

    /// Calls with `first`, and with what else is there.
    fn call_from(&mut self, first: Result<T, StreamError>) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut item = first;
        for _ in 1..STINT {
            self.call(item);
            match self.poll_next(&mut cx) {
                Poll::Ready(Some(next)) => item = next,
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        self.call(item);
    }

    fn call(&mut self, item: Result<T, StreamError>) {
        let shared = &self.done.0;
        let Some(callback) = &mut self.callback.callback else { return };
        INSIDE.set(shared.address());
        // An item that comes too late is dropped in here, too.
        shared.contain("a callback", || {
            let item = item;
            if !shared.is_stopped() {
                callback(item);
            }
        });
        INSIDE.set(0);
    }
}
