//! Moves a program's streams from one source to another while they are read, and back.

mod align;
mod board;
mod choice;
mod report;
mod switched;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};

use super::source::Source;
use crate::error::StreamError;
use crate::message::Message;

use board::{Board, Change, Place};
use choice::Choice;

pub use report::{MoveError, NameReport, Side, SideReport, SwitchReport};
pub use switched::Switched;

/// How long messages may be held until both sources are seen to carry the same.
const WITHIN: Duration = Duration::from_secs(10);

/// Two [`Source`]s, and which of them each name is read from: by [code](Self::use_new), or by the
/// [environment](Self::from_env). A handle: clones share everything.
///
/// All names begin on the old side. Changing a name's side moves its streams, each when it is next
/// polled: it joins the other source, goes on with the one it has, and goes over once what both have
/// brought shows where the one leaves off and the other goes on: the same bytes in the same order,
/// three messages unlike any other among them. The reader gets each message once, and no gap. Only
/// then the one it had is dropped.
///
/// - **Nothing comes from the other**: the stream stays, with both joined. A quiet stream moves with
///   its next few messages.
/// - **The other fails**: the stream stays. That is told by [`report`](Self::report), the log and
///   the counter `ws_manager_switched_streams_total`; the next change tries again.
/// - **The two cannot be aligned** within [10 s](Self::align_within), because they carry different
///   bytes or the same message over and over: the reader gets a
///   [`Gap::Reconnected`](crate::Gap::Reconnected) with
///   [`DisconnectReason::Switched`](crate::DisconnectReason::Switched), and after it all that the
///   other has brought, which may repeat what came before the gap.
/// - **The one it has ends** on the way: the stream goes over at once, with that gap.
///
/// For the time of a move, a stream holds at most 1,024 messages, and no further one once they are
/// 16 MiB; otherwise it keeps its last message. A `Switched` wants to be polled in a Tokio runtime with timers, as a
/// [`WsManager`](crate::WsManager) does; without one, the time is looked at only when an item comes.
///
/// ```no_run
/// use futures::stream::BoxStream;
/// use wsmux::compat::Switch;
/// use wsmux::{Message, StreamError, Text, WsManager};
///
/// # fn old_client(name: &str) -> BoxStream<'static, Result<Message, StreamError>> { todo!() }
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let new = WsManager::connect("wss://stream.binance.com:9443/ws")?;
/// let switch = Switch::from_env(old_client, new);
/// let mut trades = switch.subscribe("btcusdt@trade");
///
/// // Meanwhile, wherever the program is told so:
/// switch.use_new("btcusdt@trade");
/// println!("{}", switch.report());
/// # trades.recv().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Switch {
    board: Arc<Board>,
}

impl Switch {
    /// The variable that [`from_env`](Self::from_env) reads.
    pub const ENV: &'static str = "USE_NEW_WS_MANAGER";

    /// Two sources; all names are on the old one.
    pub fn new(old: impl Source + 'static, new: impl Source + 'static) -> Self {
        Self { board: Arc::new(Board::new(Box::new(old), Box::new(new), WITHIN)) }
    }

    /// Two sources, and what `USE_NEW_WS_MANAGER` says now; it is not looked at again.
    ///
    /// | value, blanks around it left out | on the new source |
    /// |---|---|
    /// | `1`, `true`, `yes`, `on`, in upper or lower case | all |
    /// | none, empty, `0`, `false`, `no`, `off`; not UTF-8 | none |
    /// | anything else | the names it lists, separated by commas |
    pub fn from_env(old: impl Source + 'static, new: impl Source + 'static) -> Self {
        let switch = Self::new(old, new);
        let choice = Choice::of(std::env::var_os(Self::ENV).as_deref());
        tracing::info!(?choice, "{} says which streams begin on the new source", Self::ENV);
        match choice {
            Choice::All => switch.use_new_for_all(),
            Choice::None => {}
            Choice::Names(names) => names.iter().for_each(|name| switch.use_new(name)),
        }
        switch
    }

    /// Sets how long messages may be held until both sources are seen to carry the same; after it,
    /// a stream moves with a gap. Default 10 s. While the stream that it has goes on bringing
    /// messages, it is twice that. Holds for streams subscribed to from now on.
    pub fn align_within(&self, within: Duration) {
        self.board.set_within(within);
    }

    /// A stream of `name`, subscribed to at once on the side where the name is.
    pub fn subscribe(&self, name: impl AsRef<str>) -> Switched {
        Switched::new(Place::take(&self.board, name.as_ref()))
    }

    /// Moves `name` to the new source: its streams, and those that are still to be subscribed to.
    /// Where they failed to move, they try again.
    pub fn use_new(&self, name: impl AsRef<str>) {
        self.board.change(Change::Name(name.as_ref(), Side::New));
    }

    /// Moves `name` to the old source.
    pub fn use_old(&self, name: impl AsRef<str>) {
        self.board.change(Change::Name(name.as_ref(), Side::Old));
    }

    /// Moves all names to the new source, whatever was said of one before.
    pub fn use_new_for_all(&self) {
        self.board.change(Change::All(Side::New));
    }

    /// Moves all names back to the old source, whatever was said of one before.
    pub fn use_old_for_all(&self) {
        self.board.change(Change::All(Side::Old));
    }

    /// Takes back what was said of `name` alone: it goes where all go.
    pub fn clear_override(&self, name: impl AsRef<str>) {
        self.board.change(Change::Clear(name.as_ref()));
    }

    /// Whether `name` is meant to be on the new source. [`report`](Self::report) tells whether its
    /// streams are there.
    #[must_use]
    pub fn is_new(&self, name: impl AsRef<str>) -> bool {
        self.board.wanted(name.as_ref()) == Side::New
    }

    /// Which streams are where now.
    #[must_use]
    pub fn report(&self) -> SwitchReport {
        self.board.report()
    }
}

/// As one source, so that switches may be built on switches.
impl Source for Switch {
    fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>> {
        Self::subscribe(self, name).boxed()
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("report", &self.report()).finish()
    }
}
