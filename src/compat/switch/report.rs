//! What an operator sees of a switch.

use std::error::Error as StdError;
use std::fmt;

use crate::error::CloseReason;

/// Why a stream could not move to a source, and stayed where it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MoveError {
    /// The source's stream was closed.
    Closed(CloseReason),
    /// The source's stream ended without saying why.
    Ended,
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "stream closed: {reason}"),
            Self::Ended => f.write_str("the stream ended without saying why"),
        }
    }
}

impl StdError for MoveError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Closed(reason) => reason.source(),
            Self::Ended => None,
        }
    }
}

/// One of the two sources of a [`Switch`](super::Switch).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The one to move away from.
    Old,
    /// The one to move to.
    New,
}

impl Side {
    /// `old` or `new`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What runs on one side of a [`Switch`](super::Switch).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct SideReport {
    /// Names with a stream that yields from this side.
    pub names: usize,
    /// Streams that yield from this side.
    pub streams: usize,
}

/// The streams of one name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NameReport {
    /// Why a stream last failed to move to the side that it should be on, if one is not there since.
    pub last_failure: Option<MoveError>,
    /// Streams on their way: joined on the side that they should be on, and not yet yielding from it.
    pub moving: usize,
    /// The name.
    pub name: String,
    /// Streams that yield from the new source.
    pub new: usize,
    /// Streams that yield from the old source.
    pub old: usize,
    /// The side that the name should be on.
    pub wanted: Side,
}

/// What runs where, by [`Switch::report`](super::Switch::report). `Display` prints it for people:
/// the counts on one line, and a line for each name that is not where it should be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SwitchReport {
    /// Moves that failed, so that the stream stayed where it was.
    pub failed: u64,
    /// Moves, there or back, that needed a [`Gap`](crate::Gap).
    pub moved_with_gap: u64,
    /// Moves, there or back, without a seam.
    pub moved: u64,
    /// Streams on their way.
    pub moving: usize,
    /// Every name with a stream, by name.
    pub names: Vec<NameReport>,
    /// What runs on the new source.
    pub new: SideReport,
    /// What runs on the old source.
    pub old: SideReport,
    /// The side of all names that were not given one of their own.
    pub wanted: Side,
}

impl fmt::Display for SwitchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failed, moved, moved_with_gap, moving, new, old, .. } = self;
        write!(
            f,
            "{} streams of {} names on the old source, {} of {} on the new, {moving} moving; \
             {moved} moved without a gap, {moved_with_gap} with one, {failed} failed to",
            old.streams, old.names, new.streams, new.names,
        )?;
        for name in &self.names {
            let away = if name.wanted == Side::New { name.old } else { name.new };
            if away > 0 {
                let NameReport { name, wanted, .. } = name;
                write!(f, "\n{name:?}: {away} not yet on the {wanted} source")?;
            }
            if let Some(reason) = &name.last_failure {
                write!(f, "\n{:?}: the {} source failed: {reason}", name.name, name.wanted)?;
            }
        }
        Ok(())
    }
}
