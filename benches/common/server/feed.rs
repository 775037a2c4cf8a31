//! What a connection is sent after its handshake: said by the client in its path.

use std::fmt;

/// What a connection is sent after its handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Feed {
    /// As much as the client takes.
    Flood {
        /// Bytes of each message.
        bytes: usize,
        /// Number of messages.
        count: u64,
    },
    /// One message at a time at a fixed rate, whether or not the client keeps up.
    Paced {
        /// Bytes of each message.
        bytes: usize,
        /// Number of messages.
        count: u64,
        /// Messages a second.
        hertz: u64,
        /// How many symbols take turns, in no order that a predictor could learn.
        symbols: u64,
    },
    /// What the server is told to send to all of the crowd.
    Crowd {
        /// Messages sent right after the handshake.
        first: u64,
    },
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flood { bytes, count } => write!(f, "flood/{bytes}/{count}"),
            Self::Paced { bytes, count, hertz, symbols } => {
                write!(f, "paced/{bytes}/{count}/{hertz}/{symbols}")
            }
            Self::Crowd { first } => write!(f, "crowd/{first}"),
        }
    }
}

impl Feed {
    /// Reads the target of a request, `/FEED/NAME`.
    pub(super) fn of(target: &str) -> Option<Self> {
        let mut parts = target.trim_start_matches('/').split('/');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        Some(match kind {
            "flood" => Self::Flood { bytes: bytes(number()?)?, count: number()? },
            "paced" => Self::Paced {
                bytes: bytes(number()?)?,
                count: number()?,
                hertz: number()?,
                symbols: number()?,
            },
            "crowd" => Self::Crowd { first: number()? },
            _ => return None,
        })
    }
}

fn bytes(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}
