//! What tungstenite's errors mean.
//!
//! None of them is kept as a source where it may quote what was said on the socket.

use std::error::Error as StdError;
use std::io;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::super::TransportError;
#[cfg(feature = "rustls")]
use super::super::tls;
use super::guard::Flood;
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

/// What an error on an open socket means.
pub(super) fn of_socket(e: Error) -> TransportError {
    match e {
        Error::AlreadyClosed
        | Error::ConnectionClosed
        | Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing,
        ) => ended(),
        // TLS without a close_notify. Frames have a length, so nothing is cut off unnoticed.
        Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => ended().with_source(e),
        Error::Io(e) if is_flood(&e) => TransportError::new(DisconnectReason::Flood).with_source(e),
        Error::Io(e) => of_io(e),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => too_large().with_source(e),
        // It holds the frame.
        Error::WriteBufferFull(_) => too_large().with_source("too much is waiting to be written"),
        // It quotes the bytes.
        Error::Utf8(_) => violation("text that is not UTF-8"),
        e => violation(e),
    }
}

/// The code to close with for `e`, where the peer should be told (RFC 6455 §7.1.7).
pub(super) fn close_code(e: &Error) -> Option<CloseCode> {
    match e {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::Size),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Io(e) if is_flood(e) => Some(CloseCode::Policy),
        _ => None,
    }
}

/// The stream is at its end.
pub(super) fn ended() -> TransportError {
    TransportError::new(DisconnectReason::Ended)
}

fn is_flood(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|e| e.is::<Flood>())
}

pub(super) fn of_io(e: io::Error) -> TransportError {
    #[cfg(feature = "rustls")]
    return tls::failure(e);
    #[cfg(not(feature = "rustls"))]
    e.into()
}

fn too_large() -> TransportError {
    TransportError::new(DisconnectReason::MessageTooLarge)
}

pub(super) fn violation(source: impl Into<Box<dyn StdError + Send + Sync>>) -> TransportError {
    TransportError::new(DisconnectReason::ProtocolViolation).with_source(source)
}
