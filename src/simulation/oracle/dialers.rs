//! Who dials, how often, and what its failures mean.
//!
//! A connection is told from others by the task it runs in. Its failures are counted as the
//! documentation says: from 0 again after a socket that was of use for `reset_after`, and never
//! because one opened.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{End, Oracle};
use crate::observe::ConnectionId;
use crate::protocol::DisconnectReason;
use crate::transport::TransportError;

/// The granularity of timers.
const GRAIN: Duration = Duration::from_millis(1);

/// One that dials.
pub(super) struct Dialer {
    connection: Option<ConnectionId>,
    failed_at: Option<Instant>,
    failures: u32,
    /// What the last failure asked it to wait.
    floor: Duration,
    in_a_row: (Fault, u32),
    /// What it has dialled for; where names move, all that it could carry.
    names: BTreeSet<usize>,
}

/// Why a dial or a socket failed, as far as the network knows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::simulation) enum Cause {
    Close(Option<u16>),
    Error(&'static str),
    /// The client itself gave a socket up: some clock of its ran out, or nobody wants it.
    GivenUp,
    Http(u16, Option<u64>),
    Timeout(&'static str),
    TooLarge,
    Violation,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    None,
    TooLarge,
    Violation,
}

enum Verdict {
    End(End),
    Retry { floor: Duration, whole_host: bool },
}

impl Cause {
    pub(in crate::simulation) fn of(error: &TransportError) -> Self {
        match error.reason() {
            DisconnectReason::Http { status } => {
                let wait = error.response().and_then(|answer| answer.headers().get("retry-after"));
                let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
                Self::Http(*status, wait)
            }
            DisconnectReason::MessageTooLarge => Self::TooLarge,
            DisconnectReason::ProtocolViolation => Self::Violation,
            reason => Self::Error(reason.label()),
        }
    }

    /// The label of the reason that the client gives; none where only it can know.
    pub(super) fn label(&self) -> Option<&'static str> {
        match self {
            Self::Close(_) => Some("closed"),
            Self::Error(label) | Self::Timeout(label) => Some(label),
            Self::GivenUp => None,
            Self::Http(..) => Some("http"),
            Self::TooLarge => Some("message_too_large"),
            Self::Violation => Some("protocol_violation"),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::TooLarge => Fault::TooLarge,
            Self::Violation | Self::Close(Some(1002 | 1003 | 1007 | 1009 | 1010)) => {
                Fault::Violation
            }
            _ => Fault::None,
        }
    }

    /// What `docs/defaults.md` says about it.
    fn verdict(&self, repeated: bool, longest: Duration) -> Verdict {
        let retry = |seconds: u64| Verdict::Retry {
            floor: Duration::from_secs(seconds),
            whole_host: false,
        };
        match *self {
            _ if repeated => Verdict::End(End::Fatal),
            Self::Close(Some(1008 | 1012 | 1013)) => retry(5),
            Self::Close(Some(4401 | 4403)) | Self::Http(401 | 403, _) => {
                Verdict::End(End::Unauthorized)
            }
            Self::Close(Some(3500..=3999 | 4500..=4999)) => Verdict::End(End::Fatal),
            Self::Http(418 | 429, wait) => {
                let floor = wait.map_or(longest, Duration::from_secs);
                Verdict::Retry { floor, whole_host: true }
            }
            Self::Http(408 | 425 | 500..=599, wait) => retry(wait.unwrap_or(0)),
            Self::Http(..) => Verdict::End(End::Fatal),
            _ => retry(0),
        }
    }
}

impl Oracle {
    pub(in crate::simulation) fn connection_of(
        &self,
        dialer: tokio::task::Id,
    ) -> Option<ConnectionId> {
        self.dialers.get(&dialer)?.connection
    }

    /// The task `dialer` dials for `names`.
    pub(in crate::simulation) fn dialled(
        &mut self,
        task: tokio::task::Id,
        attempt: u32,
        names: &[usize],
    ) -> Result<(), String> {
        let now = Instant::now();
        let carried = names.iter().find_map(|name| self.current.get(name));
        let connection = carried.map(|&topic| self.topics[topic].connection);
        let dialer = self.dialers.entry(task).or_insert(Dialer {
            connection,
            failed_at: None,
            failures: 0,
            floor: Duration::ZERO,
            in_a_row: (Fault::None, 0),
            names: BTreeSet::new(),
        });
        dialer.connection = dialer.connection.or(connection);
        dialer.names.extend(names);
        if self.rotates {
            return self.paused(now); // Names that move have two connections, each with its count.
        }
        if attempt != dialer.failures + 1 {
            return Err(format!("attempt {attempt} follows {} failures", dialer.failures));
        }
        self.paused(now)?;
        let Some(dialer) = self.dialers.get(&task) else { return Ok(()) };
        let Some(failed_at) = dialer.failed_at else { return Ok(()) };
        let waited = now - failed_at;
        let least = dialer.floor + self.retry.min_delay;
        if waited < least {
            return Err(format!("attempt {attempt} comes after {waited:?}, not {least:?}"));
        }
        let paused = self.paused_until.is_some_and(|until| until > failed_at);
        if waited > least + GRAIN && !paused {
            return self.redialled(failed_at, waited);
        }
        Ok(())
    }

    fn paused(&self, now: Instant) -> Result<(), String> {
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        if is_paused { Err("the host is dialled while it is paused".to_owned()) } else { Ok(()) }
    }

    /// Connections that failed at one moment must not all come back at one.
    fn redialled(&mut self, failed_at: Instant, waited: Duration) -> Result<(), String> {
        let waits = self.redials.entry(failed_at).or_default();
        waits.push(waited);
        if waits.len() == 4 && waits.iter().all(|wait| *wait == waited) {
            return Err(format!("four connections that failed at once dial {waited:?} later"));
        }
        Ok(())
    }

    /// A dial of `task` has failed, or a socket on which names were joined for so long is lost.
    pub(in crate::simulation) fn failed(
        &mut self,
        task: tokio::task::Id,
        cause: &Cause,
        joined_for: Option<Duration>,
    ) {
        if self.rotates {
            return self.may_fail(task, cause);
        }
        let Some(connection) = self.connection_of(task) else { return };
        let is_wanted = self.current.values().any(|key| self.topics[*key].connection == connection);
        let Some(dialer) = self.dialers.get_mut(&task).filter(|_| is_wanted) else { return };
        if joined_for.is_some_and(|joined_for| joined_for >= self.reset_after) {
            dialer.failures = 0;
            dialer.in_a_row = (Fault::None, 0);
        }
        let fault = cause.fault();
        let before = if dialer.in_a_row.0 == fault { dialer.in_a_row.1 } else { 0 };
        dialer.in_a_row = (fault, before + 1);
        let repeated = match fault {
            Fault::None => false,
            Fault::TooLarge => before + 1 >= 2,
            Fault::Violation => before + 1 >= 3,
        };
        dialer.failures += 1;
        let failures = dialer.failures;
        match cause.verdict(repeated, self.retry.max_delay) {
            Verdict::End(end) => self.connection_ends(connection, end),
            Verdict::Retry { floor, whole_host } => {
                let now = Instant::now();
                (dialer.floor, dialer.failed_at) = (floor, Some(now));
                if whole_host {
                    self.paused_until = self.paused_until.max(Some(now + floor));
                }
                if self.retry.max_attempts.is_some_and(|most| failures > most) {
                    self.connection_ends(connection, End::Exhausted(failures));
                }
            }
        }
    }

    /// The same where names move: what the failure may mean for them, counted or not.
    fn may_fail(&mut self, task: tokio::task::Id, cause: &Cause) {
        let Some(dialer) = self.dialers.get(&task) else { return };
        let mut ends = vec![End::Exhausted(0)];
        ends.extend((cause.fault() != Fault::None).then_some(End::Fatal));
        match cause.verdict(false, self.retry.max_delay) {
            Verdict::End(end) => ends.push(end),
            Verdict::Retry { floor, whole_host: true } => {
                self.paused_until = self.paused_until.max(Some(Instant::now() + floor));
            }
            Verdict::Retry { .. } => {}
        }
        for name in &dialer.names {
            let course = self.courses.entry(*name).or_default();
            ends.iter().for_each(|end| course.may_end(*end));
        }
    }
}
