//! What one socket may carry, and how much may be said on it.

use std::time::Duration;

/// What one socket may carry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Names per socket; further names get further sockets. `None`: no bound.
    pub capacity: Option<usize>,
    /// Names per call of [`Session::join`] and [`Session::leave`]. `None`: no bound.
    ///
    /// Where [`messages`](Self::messages) is set, choose it so that a call pushes one message: what
    /// more it pushes keeps its order and waits, and everything behind it waits too.
    ///
    /// [`Session::join`]: super::Session::join
    /// [`Session::leave`]: super::Session::leave
    pub batch: Option<usize>,
    /// Bytes of names per call of the same, each name with four more for quotes and a comma; one name
    /// goes always. `None`: no bound.
    pub batch_bytes: Option<usize>,
    /// How old a socket may get before another one takes over. `None`: as old as it likes, unless
    /// [`Config::max_age`](field@crate::Config::max_age) says otherwise.
    pub max_age: Option<Duration>,
    /// How much the server lets be said on one socket. `None`: as much as one likes.
    pub messages: Option<MessageRate>,
}

impl Limits {
    /// Sets [`capacity`](field@Self::capacity). Zero counts as one.
    #[must_use]
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = Some(names);
        self
    }

    /// Sets [`batch`](field@Self::batch). Zero counts as one.
    #[must_use]
    pub fn batch(mut self, names: usize) -> Self {
        self.batch = Some(names);
        self
    }

    /// Sets [`batch_bytes`](field@Self::batch_bytes).
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = Some(bytes);
        self
    }

    /// Sets [`max_age`](field@Self::max_age).
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets [`messages`](field@Self::messages).
    #[must_use]
    pub fn messages(mut self, rate: MessageRate) -> Self {
        self.messages = Some(rate);
        self
    }
}

/// How many frames a server takes from a client within any period of some length, on one socket.
///
/// The period slides. A server counts as frames arrive, and what was held up on the way arrives
/// with what came after it: where frames leave, the period is a quarter longer, 250 ms at most. Where
/// [pings and pongs count](Counted::Everything), one frame of each period is kept for a pong, which
/// is never held up.
///
/// When there is no room, what keeps the socket alive goes first, then what the session says of
/// itself, then leaves, then joins, then the program's own messages. Of these one goes at least
/// after each period's worth of joins and leaves. A join's
/// [deadline](field@crate::Config::join_timeout) begins when it is written.
///
/// ```
/// use std::time::Duration;
/// use wsmux::protocol::{Counted, Limits, MessageRate};
///
/// let second = Duration::from_secs(1);
/// let five = MessageRate::new(5, second, Counted::Everything);
/// let limits = Limits::default().capacity(1024).messages(five);
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MessageRate {
    count: u32,
    counted: Counted,
    window: Duration,
}

/// What a server counts of what a client says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Counted {
    /// Every frame but a close frame, pings and pongs too, as Binance does.
    Everything,
    /// What is pushed by [`Session::join`](super::Session::join) and
    /// [`leave`](super::Session::leave), as OKX does.
    Joins,
    /// Messages; pings and pongs are free.
    Messages,
}

impl MessageRate {
    /// At most `count` of what is [counted](Counted) within any `window`. Zero counts as one.
    #[must_use]
    pub const fn new(count: u32, window: Duration, counted: Counted) -> Self {
        Self { count: if count == 0 { 1 } else { count }, counted, window }
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Of what.
    #[must_use]
    pub const fn counted(&self) -> Counted {
        self.counted
    }

    /// Within which time.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }
}
