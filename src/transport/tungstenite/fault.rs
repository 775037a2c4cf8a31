//! What a server did wrong on an open socket.
//!
//! None of it quotes what was said.

use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::super::TransportError;
use super::failure;
use super::flood::Flood;
use crate::protocol::DisconnectReason;

#[derive(Debug)]
pub(super) enum Fault {
    Flood(Flood),
    NotUtf8,
    TooLarge {
        bytes: u64,
        max: usize,
    },
    /// A breach of RFC 6455, in words.
    Violation(&'static str),
}

impl Fault {
    /// The code to close with (RFC 6455 §7.4.1).
    pub(super) fn code(&self) -> CloseCode {
        match self {
            Self::Flood(_) => CloseCode::Policy,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::TooLarge { .. } => CloseCode::Size,
            Self::Violation(_) => CloseCode::Protocol,
        }
    }
}

impl From<Flood> for Fault {
    fn from(flood: Flood) -> Self {
        Self::Flood(flood)
    }
}

impl From<Fault> for TransportError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Flood(flood) => Self::new(DisconnectReason::Flood).with_source(flood),
            Fault::NotUtf8 => failure::violation("text that is not UTF-8"),
            Fault::TooLarge { bytes, max } => failure::too_large()
                .with_source(format!("a message of {bytes} bytes, and {max} are the most")),
            Fault::Violation(what) => failure::violation(what),
        }
    }
}
