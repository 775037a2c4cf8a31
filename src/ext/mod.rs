//! Combinators for streams that are faster than their readers, or that say things twice.
//!
//! [`WsStreamExt`] has them for any `Stream`, [`WsTryStreamExt`] for streams of results, such as a
//! [`Subscription`](crate::Subscription). Their names are none of `futures::StreamExt`,
//! `futures::TryStreamExt` or `tokio_stream::StreamExt`, so all of these can be imported together.
//!
//! | to | write | yields |
//! |---|---|---|
//! | read the latest only, however slow you are | [`conflate`](WsStreamExt::conflate) | the latest value |
//! | the same for each symbol | [`conflate_by`](WsStreamExt::conflate_by) | the latest value of each key |
//! | draw at a fixed rate | [`sample`](WsStreamExt::sample) | the latest value at each tick |
//! | be told at once, but not again and again | [`throttle_first`](WsStreamExt::throttle_first) | a value, and none for a while after it |
//! | wait until it is quiet | [`debounce`](WsStreamExt::debounce) | a value that nothing has followed for a while |
//! | read two feeds of the same thing | [`dedup_by`](WsStreamExt::dedup_by) | values whose key is new |
//! | write to a database | [`batch_by`](WsStreamExt::batch_by) | batches of a size and an age |
//!
//! # Gaps keep their place
//!
//! In the `try_` forms an `Err` is a notice in its place: what was held is yielded before it, what
//! comes after it is yielded after it, and none is dropped, merged or delayed. So a program that
//! keeps state from a conflated stream still knows when to rebuild it.
//!
//! **The plain forms know no errors.** Over a `Subscription` itself, `conflate()` compiles and would
//! let a value replace a gap: use `try_conflate()`, or `subscription.values().conflate()` where gaps
//! do not matter.
//!
//! # Nothing runs between two polls
//!
//! A combinator is not a task. While its consumer is busy, messages wait in the subscription's own
//! buffer; when it is polled, it takes all that is there and yields what is left of it. So
//! [`Config::buffer`](crate::Config) bounds how long a consumer may be busy: at 2,000 messages a
//! second, the default of 1,024 lasts half a second, after which the oldest become a
//! [`Gap::Lagged`](crate::Gap::Lagged). Raise `buffer`, or run the slow part in a task of its own.
//! Times count from when an item is taken.
//!
//! A stream that is always ready hangs nothing: tokio's budget for a task is kept to, and at most
//! 16,384 items are taken in one go, after which a combinator yields what it has, or gives way.
//!
//! # All of them
//!
//! - are cancel safe: dropping the future of `next()` loses nothing;
//! - are `Unpin` where the stream is, and do not poll it after its end;
//! - yield what they hold when the stream ends;
//! - take any period, without overflow: from 30 years on it never ends. Those that wait for one have
//!   one timer, made when it is first needed, and have to be polled within a tokio runtime with
//!   time enabled.

#[macro_use]
mod form;

mod alarm;
mod batch_by;
mod conflate;
mod conflate_by;
mod debounce;
mod dedup_by;
mod latest;
mod queue;
mod sample;
mod source;
mod throttle_first;
mod traits;

pub use batch_by::{BatchBy, TryBatchBy};
pub use conflate::{Conflate, TryConflate};
pub use conflate_by::{ConflateBy, TryConflateBy};
pub use debounce::{Debounce, TryDebounce};
pub use dedup_by::{DedupBy, DedupWindow, TryDedupBy};
pub use sample::{Sample, TrySample};
pub use throttle_first::{ThrottleFirst, TryThrottleFirst};
pub use traits::{WsStreamExt, WsTryStreamExt};
