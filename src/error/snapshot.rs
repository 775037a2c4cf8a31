//! Why a [`Resync`](crate::Resync) has no snapshot.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why an attempt to get a snapshot came to nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The user's function failed.
    Failed(Arc<dyn StdError + Send + Sync>),
    /// More updates came during the fetch than may be held.
    Overflow {
        /// How many may be held: [`ResyncPolicy::max_held`](crate::ResyncPolicy).
        max_held: usize,
    },
    /// The fetch took longer than [`ResyncPolicy::timeout`](crate::ResyncPolicy).
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The snapshot is older than the updates at hand: those between it and them are missing.
    TooOld,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(e) => fmt::Display::fmt(e, f),
            Self::Overflow { max_held } => write!(
                f,
                "more than {max_held} updates came before the snapshot: raise \
                 `ResyncPolicy::max_held`, or fetch a smaller snapshot"
            ),
            Self::TimedOut { after } => write!(f, "no snapshot within {after:.1?}"),
            Self::TooOld => f.write_str("the snapshot is older than the updates at hand"),
        }
    }
}

impl StdError for SnapshotError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Its text is ours, so its cause is, too.
            Self::Failed(e) => e.source(),
            Self::Overflow { .. } | Self::TimedOut { .. } | Self::TooOld => None,
        }
    }
}
