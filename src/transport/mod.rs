//! How bytes move: opening a socket, and the frames on it.
//!
//! [`Transport`] is what an implementor writes, with an ordinary `async fn`. The rest of the crate
//! holds a `dyn` form of it, so that no type parameter reaches [`WsManager`](crate::WsManager); one
//! virtual call per read is nothing next to a system call.

pub(crate) mod certificate;
pub(crate) mod dial;
mod exhausted;
#[cfg(fuzzing)]
mod fuzzing;
mod proxy;
#[cfg(fuzzing)]
mod scripted;
mod socket;
mod stream;
#[cfg(feature = "rustls")]
mod tickets;
#[cfg(feature = "rustls")]
mod tls;
mod tungstenite;

use std::any::{Any, TypeId};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _};

use crate::message::{Message, Text};
use crate::protocol::{DisconnectReason, Request, Response, printable};

pub(crate) use self::exhausted::is_exhausted;
#[cfg(fuzzing)]
pub use self::fuzzing::{Scripts, read_certificate};
pub use self::proxy::{Proxy, ProxyError};
#[cfg(fuzzing)]
pub use self::scripted::Script;
pub(crate) use self::stream::Stream;
#[cfg(feature = "rustls")]
pub use self::tls::{Tls, TlsError};
pub(crate) use self::tungstenite::Opening;
pub use self::tungstenite::{Tungstenite, TungsteniteSocket};
pub use socket::Frames;
pub(crate) use socket::{Control, Part};

/// Opens sockets.
///
/// A socket may be anything that carries [`Frame`]s; `test_util::memory` is one without a network.
pub trait Transport: Send + Sync + 'static {
    /// The socket this transport opens.
    type Socket: Socket;

    /// Opens a socket as `request` says. Dropping the future abandons the attempt; the engine does
    /// so at [`Config::connect_timeout`](crate::Config), and when nobody wants the socket any more.
    ///
    /// # Errors
    ///
    /// When the socket could not be opened. The error's [reason](TransportError::reason) decides
    /// whether it is tried again, so tell what may pass from what will not.
    fn connect(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<(Self::Socket, Response), TransportError>> + Send;
}

/// An open socket.
///
/// One task drives it, and polls reading and writing side by side: neither may wait for the other.
pub trait Socket: Send + Unpin + 'static {
    /// Reads what is there into `frames`, until it is [full](Frames::is_full) or reading would
    /// block.
    ///
    /// Ready with `Ok` means that at least one frame was added, and that there may be more: it is
    /// called again. Pending means that the waker is registered; frames may have been added before.
    /// Frames added before an error are not lost. A ping is answered by the socket itself, with its
    /// next flush or read.
    ///
    /// # Errors
    ///
    /// When the socket is lost. It is not used again.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
    ) -> Poll<Result<(), TransportError>>;

    /// The largest message that [`start_send`](Self::start_send) takes, in bytes. A larger one of
    /// the program's own is refused before it comes so far.
    fn max_send(&self) -> usize {
        usize::MAX
    }

    /// Takes a frame to be sent by [`poll_flush`](Self::poll_flush). Called only when all earlier
    /// flushing is done.
    ///
    /// # Errors
    ///
    /// When the socket is lost. It is not used again.
    fn start_send(&mut self, frame: Frame) -> Result<(), TransportError>;

    /// Hands what was taken to the kernel.
    ///
    /// # Errors
    ///
    /// When the socket is lost. It is not used again.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Closes the socket: sends a close frame if none was sent, and reads until the peer is done
    /// (RFC 6455 §7.1.1). What it still reads is dropped. The engine bounds it by
    /// [`Config::close_timeout`](crate::Config) and then drops the socket.
    ///
    /// # Errors
    ///
    /// When the socket is lost, which closes it as well.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;
}

/// A WebSocket frame.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// The peer is closing, with a code and a reason if it gave them.
    Close(Option<(u16, Text)>),
    /// Application data: a whole message.
    Data(Message),
    /// A liveness check.
    Ping(Bytes),
    /// The answer to one.
    Pong(Bytes),
}

/// Why a socket could not be opened, or was lost.
#[derive(Debug)]
pub struct TransportError {
    reason: DisconnectReason,
    response: Option<Box<Response>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// A failure for `reason`.
    #[must_use]
    pub fn new(reason: DisconnectReason) -> Self {
        Self { reason, response: None, source: None }
    }

    /// A server's refusal of the handshake.
    #[must_use]
    pub fn refused(response: Response) -> Self {
        let reason = DisconnectReason::Http { status: response.status() };
        Self { reason, response: Some(Box::new(response)), source: None }
    }

    /// Adds what caused the failure. It is shown as part of the error, and must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Which failure it is.
    #[must_use]
    pub fn reason(&self) -> &DisconnectReason {
        &self.reason
    }

    /// What caused the failure: for a look at its type. The error's own text says what it says, so it
    /// is not the [`source`](StdError::source), which goes on below it; as with
    /// [`std::io::Error::get_ref`].
    #[must_use]
    pub fn get_ref(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// The server's answer, where it refused the handshake.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        self.response.as_deref()
    }
}

impl TransportError {
    /// The error and all that is below it, as one line for a log. Many errors quote the one below:
    /// what was said is not said again.
    pub(crate) fn in_full(&self) -> String {
        let mut line = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            let text = on_one_line(cause);
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = cause.source();
        }
        line
    }
}

impl From<std::io::Error> for TransportError {
    fn from(e: std::io::Error) -> Self {
        Self::new(DisconnectReason::Io(e.kind())).with_source(e)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, &self.source) {
            (reason, None) => fmt::Display::fmt(reason, f),
            (DisconnectReason::Io(_), Some(cause)) => f.write_str(&on_one_line(cause)), // It says more.
            (reason, Some(cause)) => write!(f, "{reason}: {}", on_one_line(cause)),
        }
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().and_then(StdError::source)
    }
}

/// What a cause says, without what would forge a line of a log: it may be the server's words.
fn on_one_line(cause: &(impl fmt::Display + ?Sized)) -> String {
    printable(&cause.to_string())
}

pub(crate) type BoxSocket = Box<dyn Socket>;

/// The object-safe form of [`Transport`].
pub(crate) trait DynTransport: Send + Sync {
    fn connect<'a>(
        &'a self,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<(BoxSocket, Response), TransportError>>;

    /// Whether equal URLs lead to the same server, whoever dials: not so in memory, nor where
    /// nobody can tell.
    fn is_network(&self) -> bool {
        false
    }

    /// What `request` goes through, as far as it is known: for who waited for it in vain.
    fn way(&self, request: &Request) -> Option<String> {
        let _ = request;
        None
    }
}

impl<T: Transport> DynTransport for T {
    fn is_network(&self) -> bool {
        TypeId::of::<T>() == TypeId::of::<Tungstenite>()
    }

    fn way(&self, request: &Request) -> Option<String> {
        let known = (self as &dyn Any).downcast_ref::<Tungstenite>()?;
        let proxy = known.proxy_for(request.url()).ok().flatten()?;
        Some(format!("the way is through {proxy}"))
    }

    fn connect<'a>(
        &'a self,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<(BoxSocket, Response), TransportError>> {
        Transport::connect(self, request)
            .map_ok(|(socket, response)| (Box::new(socket) as BoxSocket, response))
            .boxed()
    }
}

/// The default transport, accepting messages of at most `max_message` bytes.
pub(crate) fn default_transport(max_message: usize) -> Arc<dyn DynTransport> {
    Arc::new(Tungstenite::new().max_message(max_message))
}
