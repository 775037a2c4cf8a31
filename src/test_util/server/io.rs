//! Streams: TCP or TLS, their ends, and a look past what nobody reads.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::conn::Ending;

/// How long an orderly end may take before TCP is dropped.
const LINGER: Duration = Duration::from_secs(1);
/// How long a news of the TCP connection's state may be on its way.
const NEWS: Duration = Duration::from_millis(50);

/// A socket's stream: TCP, or TLS over it.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Ends a stream. What the client still sends after a FIN is read and dropped, as dropping TCP over
/// it would turn the FIN into an RST.
pub(super) async fn finish_io(mut io: Box<dyn Io>, ending: Ending) {
    match ending {
        Ending::Reset => reset(io.tcp()),
        Ending::Fin => {
            if matches!(timeout(LINGER, io.shutdown()).await, Ok(Ok(()))) {
                let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
            }
        }
    }
}

/// Has the drop of a stream send an RST.
pub(super) fn reset(tcp: &TcpStream) {
    // It fails only where TCP has ended already.
    let _ = tcp.set_zero_linger();
}

/// Watches a stream for its client's end, without reading what comes before that.
#[derive(Debug)]
pub(super) struct Watch(Option<TcpStream>);

impl Watch {
    /// Watches `tcp`, through a second handle that has a readiness of its own. Where there is none
    /// to be had, it sees nothing.
    pub(super) fn new(tcp: &TcpStream) -> Self {
        Self(duplicate(tcp).and_then(TcpStream::from_std).ok())
    }

    /// Waits for the client's FIN or RST.
    pub(super) async fn gone(&self) {
        let Some(tcp) = &self.0 else { return pending().await };
        while let Ok(ready) = tcp.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            // Unread data keeps the stream ready: forget it, to be woken by what comes next.
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = tcp.try_io(Interest::READABLE, nothing);
        }
    }

    /// Waits for the first news of the stream, which tell of an end that came before the watch.
    pub(super) async fn awake(&self) {
        if let Some(tcp) = &self.0 {
            // There are none where the stream is full.
            let _ = timeout(NEWS, tcp.writable()).await;
        }
    }
}

/// Looks at a stream past its owner, now and without waiting.
#[derive(Debug)]
pub(super) struct Glance(Option<std::net::TcpStream>);

impl Glance {
    /// Looks at `tcp`, through a second handle. Where there is none to be had, it sees nothing.
    pub(super) fn new(tcp: &TcpStream) -> Self {
        Self(duplicate(tcp).ok())
    }

    /// Whether the client has ended the stream, and nothing comes before that.
    pub(super) fn is_gone(&self) -> bool {
        self.0.as_ref().is_some_and(|tcp| match tcp.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        })
    }
}

fn duplicate(tcp: &TcpStream) -> io::Result<std::net::TcpStream> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(tcp).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsSocket::as_socket(tcp).try_clone_to_owned()?;
    Ok(handle.into())
}
