//! What happens to streams and connections, for logs and dashboards.

use std::sync::Arc;
use std::time::Duration;

use super::{ConnectionId, HandoverReason};
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::protocol::{DisconnectReason, Lane};
use crate::transport::TransportError;

/// A change in the life of a stream or a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection ended for good.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// Its lane.
        lane: Lane,
        /// Why.
        reason: CloseReason,
    },
    /// A socket is open.
    Connected {
        /// Which connection.
        connection: ConnectionId,
        /// Its lane.
        lane: Lane,
        /// How many dials it took, from 1.
        attempt: u32,
        /// How long the handshake took: DNS, TCP, TLS and upgrade.
        handshake: Duration,
    },
    /// A socket was lost.
    Disconnected {
        /// Which connection.
        connection: ConnectionId,
        /// Its lane.
        lane: Lane,
        /// Why.
        reason: DisconnectReason,
        /// How long the socket was open, whether or not a name was joined on it.
        uptime: Duration,
    },
    /// The streams of an open socket begin to go over to another one, or to others. Each that has gone is a
    /// [`StreamMoved`](Self::StreamMoved); if none can go, all stays as it is.
    HandingOver {
        /// Which connection.
        connection: ConnectionId,
        /// The new connection that is to take its place; `None` where there are others already.
        successor: Option<ConnectionId>,
        /// Its lane.
        lane: Lane,
        /// Why.
        reason: HandoverReason,
    },
    /// The next attempt follows after `delay`.
    Retrying {
        /// Which connection.
        connection: ConnectionId,
        /// Its lane.
        lane: Lane,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Time until the attempt.
        delay: Duration,
        /// What failed.
        error: Arc<TransportError>,
    },
    /// A stream ended alone, for another reason than that nobody was reading it.
    StreamClosed {
        /// Which stream.
        name: StreamName,
        /// Why.
        reason: CloseReason,
    },
    /// A stream went over to another socket, without having lost the one it had.
    StreamMoved {
        /// Which stream.
        name: StreamName,
        /// Whether its readers saw nothing of it; else they were told of a gap.
        aligned: bool,
    },
    /// A stream was opened for its first reader or lease.
    StreamOpened {
        /// Which stream.
        name: StreamName,
    },
    /// A stream alone, on a socket that works, was ended by the server, not confirmed in time or
    /// silent for too long. It is joined again after `delay`.
    StreamRetrying {
        /// Which stream.
        name: StreamName,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Time until the attempt.
        delay: Duration,
        /// What failed.
        error: Arc<TransportError>,
    },
    /// A stream was closed after its last reader and lease had gone.
    StreamSwept {
        /// Which stream.
        name: StreamName,
    },
}
