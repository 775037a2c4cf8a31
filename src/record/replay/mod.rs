//! A recording in the place of a server.
//!
//! [`Replay`] is a [`Transport`], and [`Replay::protocol`] the [`Protocol`](crate::protocol::Protocol)
//! for it: whatever protocol a day was recorded from, its names are what is subscribed to. What is
//! above them is the code that runs live.
//!
//! All names share one socket, which lives as long as somebody reads. So their order is that of the
//! recording, and a recorded break is told by the session (`Cx::reconnected`), at its place and with
//! what it was: the retries of the day are not played again with other dice.

mod cursor;
mod session;
mod shared;
mod socket;

use std::fmt;
use std::future::{Future, ready};
use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;

use super::reading::ReadError;
use super::recording::Recording;
use crate::error::CloseReason;
use crate::protocol::{Request, Response};
use crate::transport::{Transport, TransportError};

use shared::{END, Shared};

pub use session::ReplayProtocol;
pub use socket::ReplaySocket;

/// Plays a [`Recording`] to a [`WsManager`](crate::WsManager), in the place of a server.
///
/// ```no_run
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use wsmux::WsManager;
/// use wsmux::record::Replay;
///
/// let replay = Replay::open("monday.rec")?;
/// let manager = WsManager::builder(replay.protocol()).transport(replay).build()?;
/// // The bot's own code, as it is.
/// # Ok(())
/// # }
/// ```
///
/// The recording begins when the first name is joined. A name that is joined later gets what comes
/// later, as with a server. What comes while nobody reads passes.
///
/// # What readers get
///
/// Messages as they were, text or binary, as far apart as they came, and in the order of the recording
/// over all names. And:
///
/// | recorded | replayed |
/// |---|---|
/// | [`Gap::Reconnected`](crate::Gap::Reconnected) | the same, with its reason and duration |
/// | [`Gap::Sequence`](crate::Gap::Sequence) | the same |
/// | [`Gap::Lagged`](crate::Gap::Lagged): the recorder's | `Gap::Sequence`: what is missing was never recorded, however fast the reader is |
/// | a recorder that was started again | `Gap::Sequence`, of unknown length |
/// | the end of a stream | `Closed(Rejected)`, with the recorded words; subscribe again for what the recording has after it |
/// | the end because the recorder's manager was shut down or cut off | nothing: the other streams end with the recording |
/// | the end of the recording | `Closed(Fatal)` for all, which [`is_end`](Self::is_end) knows |
///
/// The replay's socket stays open all the time: `status()` does not tell of recorded breaks. A name that
/// is not in the recording is refused by `subscribe`.
///
/// # How fast
///
/// - As recorded, by default.
/// - [`speed(n)`](Self::speed): n times faster. A reader that is too slow for that lags, as it would
///   live. It has 10 ms of grace, which stand for the buffers of a kernel and a network.
/// - [`lossless()`](Self::lossless): time waits for readers. No reader lags, however slow it is and
///   however small its `buffer`. Under a paused clock this is *as fast as possible*, see below.
///
/// Times are those of tokio's timers, which have a resolution of a millisecond: a message comes up to
/// one later than it was recorded, together with those of the same millisecond.
///
/// # As fast as possible
///
/// With tokio's clock paused (feature `test-util` of tokio, current-thread runtime), time moves only when
/// no task has anything to do, and then at once to the next timer. A day is replayed in the time that
/// the bot takes to think, each message at its recorded time, and every run is the same: the same items
/// in the same order at the same virtual times.
///
/// ```no_run
/// # async fn bot(manager: wsmux::WsManager) {}
/// use wsmux::WsManager;
/// use wsmux::record::Replay;
///
/// #[tokio::main(flavor = "current_thread", start_paused = true)] // or #[tokio::test(start_paused = true)]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let replay = Replay::open("monday.rec")?.lossless();
///     let manager = WsManager::builder(replay.protocol()).transport(replay).build()?;
///     bot(manager).await;
///     Ok(())
/// }
/// ```
///
/// A bot that sleeps meanwhile is waited for: what comes next comes later than recorded by then. One
/// that holds a subscription and does not read it for an hour of virtual time lags after all, so that a
/// forgotten one does not stop the replay for good. What is no task of tokio's is not waited for: with
/// a real socket or a thread of your own, the clock jumps ahead.
#[derive(Clone)]
pub struct Replay {
    shared: Arc<Shared>,
}

impl Replay {
    /// Opens a file that a [`Recorder`](super::Recorder) wrote, and looks through it; see
    /// [`Recording::open`].
    ///
    /// # Errors
    ///
    /// As [`Recording::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Recording::open(path).map(Self::new)
    }

    /// Plays `recording`, as it was recorded.
    #[must_use]
    pub fn new(recording: Recording) -> Self {
        Self { shared: Arc::new(Shared::new(recording)) }
    }

    /// Plays it so many times faster than it was recorded; from 0.001 to 1,000,000, what is beyond
    /// counts as these, and what is no number as 1.
    #[must_use]
    pub fn speed(self, times: f64) -> Self {
        let times = if times.is_nan() { 1.0 } else { times.clamp(1e-3, 1e6) };
        self.shared.state().pace.speed = times;
        self
    }

    /// Has time wait for readers: nothing comes for which a reader of its name has no room. See
    /// [above](Self#as-fast-as-possible).
    #[must_use]
    pub fn lossless(self) -> Self {
        self.shared.state().pace.lossless = true;
        self
    }

    /// The protocol of this replay, for [`WsManager::builder`](crate::WsManager::builder).
    #[must_use]
    pub fn protocol(&self) -> ReplayProtocol {
        ReplayProtocol::new(Arc::clone(&self.shared))
    }

    /// What is played.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.shared.recording
    }

    /// Whether a stream ended because the recording does.
    #[must_use]
    pub fn is_end(reason: &CloseReason) -> bool {
        let CloseReason::Fatal(error) = reason else { return false };
        error.get_ref().is_some_and(|cause| cause.to_string() == END)
    }
}

impl Transport for Replay {
    type Socket = ReplaySocket;

    fn connect(
        &self,
        _: &Request,
    ) -> impl Future<Output = Result<(ReplaySocket, Response), TransportError>> + Send {
        ready(Ok((ReplaySocket::default(), Response::new(101, HeaderMap::new()))))
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("recording", &self.shared.recording).finish_non_exhaustive()
    }
}
