//! What failures of a socket mean.

use std::error::Error as StdError;
use std::io;

use super::super::TransportError;
#[cfg(feature = "rustls")]
use super::super::tls;
use crate::protocol::DisconnectReason;

/// A failure that another attempt would meet again.
pub(super) fn handshake(source: impl Into<Box<dyn StdError + Send + Sync>>) -> TransportError {
    TransportError::new(DisconnectReason::Handshake).with_source(source)
}

/// There is nobody to speak TLS.
#[cfg(not(feature = "rustls"))]
pub(super) fn no_tls() -> TransportError {
    handshake(
        "`wss://` needs TLS: enable the feature `rustls-webpki-roots` or `rustls-native-roots`",
    )
}

/// What an error of the stream means, on an open socket.
pub(super) fn of_stream(e: io::Error) -> TransportError {
    match e.kind() {
        // TLS without a close_notify. Frames have a length, so nothing is cut off unnoticed.
        io::ErrorKind::UnexpectedEof => ended().with_source(e),
        _ => of_io(e),
    }
}

/// The stream is at its end.
pub(super) fn ended() -> TransportError {
    TransportError::new(DisconnectReason::Ended)
}

pub(super) fn of_io(e: io::Error) -> TransportError {
    #[cfg(feature = "rustls")]
    return tls::failure(e);
    #[cfg(not(feature = "rustls"))]
    e.into()
}

/// A message above a limit.
pub(super) fn too_large() -> TransportError {
    TransportError::new(DisconnectReason::MessageTooLarge)
}

pub(super) fn violation(source: impl Into<Box<dyn StdError + Send + Sync>>) -> TransportError {
    TransportError::new(DisconnectReason::ProtocolViolation).with_source(source)
}
