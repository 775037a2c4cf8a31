//! Whether a manager is well, and if not, what a person can do about it.
//!
//! Plain data and plain functions. [`rules`] turn what was observed into findings, by the
//! [`Thresholds`]; a [`Health`] bounds them; [`table`] and [`json`] print it; [`changes`] tells what
//! is new since the last look. Who observes is the manager's business.
//!
//! # Invariants
//!
//! 1. A finding stands for something that is so, or was so within the window that it names, and
//!    not for a guess of what may come of it. It names what to do.
//! 2. However many streams are in trouble, a [`Health`] has at most [`Health::PER_KIND`] findings
//!    of a kind, the worst, and the number of the others.
//! 3. No finding holds a secret: the host of a URL is all of it that is shown.

mod changes;
mod escape;
mod finding;
mod json;
mod rules;
mod table;
mod thresholds;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Activity, StreamInfo};

pub use changes::HealthChange;
pub(crate) use changes::Known;
pub(crate) use escape::escaped;
pub use finding::{Cause, Figure, Finding, FindingKind, Severity};
pub(crate) use rules::{Ended, Observed, findings};
pub use thresholds::Thresholds;

/// How well a manager is: a status, and findings that say why and what to do.
///
/// Made by [`WsManager::health`](crate::WsManager::health). It serializes (also by
/// [`to_json`](Self::to_json)) in the form of the draft "Health Check Response Format for HTTP
/// APIs", `application/health+json`.
///
/// ```
/// use wsmux::{HealthStatus, WsManager};
///
/// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
/// let health = manager.health();
/// assert_eq!(health.status, HealthStatus::Pass);
/// for finding in &health.findings {
///     eprintln!("{finding}");
/// }
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// What was rare lately, and should be.
    pub activity: Activity,
    /// Connections that carry streams, whether open, connecting or waiting to reconnect.
    pub connections: usize,
    /// What is wrong, the most severe first. At most [`PER_KIND`](Self::PER_KIND) of a kind.
    pub findings: Vec<Finding>,
    /// How many findings of a kind were left out, where there were too many.
    pub left_out: BTreeMap<FindingKind, usize>,
    /// Streams that are joined: messages can come in.
    pub open_streams: usize,
    /// The most severe of the findings.
    pub status: HealthStatus,
    /// Streams.
    pub streams: usize,
    /// Time since the manager was built.
    pub uptime: Duration,
}

impl Health {
    /// Findings listed of one kind.
    pub const PER_KIND: usize = 16;

    /// What is to be said of `observed`, whose `findings` are sorted.
    pub(crate) fn new(observed: &Observed<'_>, findings: Vec<Finding>) -> Self {
        let status = findings.iter().map(|finding| finding.severity.into()).max();
        let (findings, left_out) = bounded(findings);
        Self {
            activity: observed.activity,
            connections: observed.connections(),
            findings,
            left_out,
            open_streams: observed.streams.iter().filter(|info| info.status.is_open()).count(),
            status: status.unwrap_or_default(),
            streams: observed.streams.len(),
            uptime: observed.uptime,
        }
    }
}

/// The first findings of each kind, and the number of the others.
fn bounded(findings: Vec<Finding>) -> (Vec<Finding>, BTreeMap<FindingKind, usize>) {
    let mut seen: BTreeMap<FindingKind, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for finding in findings {
        let count = seen.entry(finding.kind).or_default();
        *count += 1;
        if *count <= Health::PER_KIND {
            kept.push(finding);
        }
    }
    let over = |(kind, count): (_, usize)| Some((kind, count.checked_sub(Health::PER_KIND)?));
    (kept, seen.into_iter().filter_map(over).filter(|(_, over)| *over > 0).collect())
}

/// One line per finding, after one with the status.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} of {} streams open, connections: {}, up for {:.0?}",
            self.status, self.open_streams, self.streams, self.connections, self.uptime
        )?;
        for finding in &self.findings {
            write!(f, "\n{finding}")?;
        }
        for (kind, count) in &self.left_out {
            write!(f, "\nand {count} more: {}", kind.label())?;
        }
        Ok(())
    }
}

/// How well a manager is, in the words of `application/health+json`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HealthStatus {
    /// Nothing was found.
    #[default]
    Pass,
    /// It works, and somebody should look at it.
    Warn,
    /// A stream that is wanted brings nothing, or the manager cannot do what it is asked to.
    Fail,
}

impl HealthStatus {
    /// One word: `pass`, `warn` or `fail`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl From<Severity> for HealthStatus {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warn => Self::Warn,
            Severity::Fail => Self::Fail,
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A manager's [`Health`] and its streams, to be printed for a person; made by
/// [`WsManager::diagnose`](crate::WsManager::diagnose).
///
/// Its `Display` is an aligned table of plain text: the findings, what to do about each, and the
/// streams, those that are not open first. Control characters are escaped, long names are cut, and
/// at most [`STREAMS`](Self::STREAMS) streams are listed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The findings.
    pub health: Health,
    /// Every open stream, in no particular order.
    pub streams: Vec<StreamInfo>,
}

impl Diagnosis {
    /// Streams listed.
    pub const STREAMS: usize = 50;

    pub(crate) fn new(health: Health, streams: Vec<StreamInfo>) -> Self {
        Self { health, streams }
    }
}

#[cfg(test)]
mod tests;
