//! When to poll, and how much to remember.

use std::time::Duration;

/// How a [`WithFallback`](crate::WithFallback) polls.
///
/// Write only what differs: fields are added in minor releases, so a literal ends with
/// `..FallbackPolicy::default()`.
///
/// ```
/// use std::time::Duration;
/// use wsmux::FallbackPolicy;
///
/// let policy = FallbackPolicy { grace: Duration::from_secs(10), ..FallbackPolicy::default() };
/// # let _ = policy;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FallbackPolicy {
    /// Time from the first poll of an outage to the second; each further one is twice as long.
    /// Default 1 s; at least 1 ms. From start to start, but one poll begins only when the one before
    /// is over.
    pub first_interval: Duration,
    /// How long the stream has to be down before the first poll. Default 3 s: most reconnects are
    /// over by then, and poll nothing.
    pub grace: Duration,
    /// Longest time between two polls. Default 60 s.
    pub max_interval: Duration,
    /// What follows when the stream ends for good. Default [`OnClose::End`].
    pub on_close: OnClose,
    /// Longest time that one poll may take. Default 10 s.
    pub timeout: Duration,
    /// How many keys are remembered to find repeats: the last ones that were new. Default 4096; at
    /// least the items of one poll, or they all come again with the next.
    pub window: usize,
}

/// What follows when a stream with a fallback ends for good.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnClose {
    /// The end, as everywhere: `Closed`, then `None`. A program that is to be fed for ever lets the
    /// stream retry for ever, too, and comes back to it:
    /// [`RetryPolicy::forever`](crate::RetryPolicy::forever).
    #[default]
    End,
    /// The polls go on, for ever. `Closed` is not yielded, but for a manager that was shut down or a
    /// task that was cut off; a line at level WARN has it, and
    /// [`WithFallback::closed`](crate::WithFallback::closed).
    KeepPolling,
}

impl Default for FallbackPolicy {
    fn default() -> Self {
        Self {
            first_interval: Duration::from_secs(1),
            grace: Duration::from_secs(3),
            max_interval: Duration::from_secs(60),
            on_close: OnClose::End,
            timeout: Duration::from_secs(10),
            window: 4096,
        }
    }
}
