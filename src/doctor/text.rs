//! The diagnosis in words.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::clock::ClockSkew;
use super::report::{Attempt, AttemptEnd, Diagnosis, Finding, Outcome, Step, StepKind};
use crate::protocol::{DisconnectReason, printable};
use crate::transport::TransportError;
use crate::transport::certificate::CertificateFault;

/// How many addresses or names are listed.
const LISTED: usize = 8;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.url)?;
        for step in &self.steps {
            writeln!(f, "{:<4}  {step}", step.outcome)?;
        }
        f.write_str(self.verdict())
    }
}

impl Diagnosis {
    /// What it comes to, as one line.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let Some(failed) = self.failed() else {
            return match self.outcome() {
                Outcome::Warning => "The stream works, with something worth a look.",
                _ => "All is well.",
            };
        };
        match failed.kind {
            StepKind::Dns | StepKind::Tcp | StepKind::Proxy | StepKind::Tls => {
                "The server cannot be reached."
            }
            StepKind::Handshake if failed.is_silence() => {
                "Something takes the connection, and does not answer as a WebSocket server."
            }
            StepKind::Handshake => "The server is there, and refuses the WebSocket.",
            _ => "The WebSocket opens, and does not last.",
        }
    }
}

impl Step {
    /// Whether it failed because nothing was said, or the connection ended.
    fn is_silence(&self) -> bool {
        let Finding::Failed { error, .. } = &self.finding else { return false };
        let reason = error.reason();
        matches!(
            reason,
            DisconnectReason::ConnectTimeout | DisconnectReason::Ended | DisconnectReason::Io(_)
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failed => "FAIL",
            Self::NotApplicable | Self::NotReached => "-",
            Self::Passed => "ok",
            Self::Warning => "warn",
        })
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::Handshake => "handshake",
            Self::FirstMessage => "first message",
            Self::Heartbeat => "heartbeat",
            Self::Clock => "clock",
            Self::Teardown => "teardown",
        })
    }
}

impl fmt::Display for Step {
    /// The step, its time and what was seen, and on a second line what to do about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.map_or_else(String::new, ms);
        write!(f, "{:<13}  {took:>10}  {}", self.kind, self.finding)?;
        match self.advice() {
            Some(advice) => write!(f, "\n{:33}{advice}", ""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(skew) => fmt::Display::fmt(skew, f),
            Self::Closed { code, ended } => closed(f, *code, *ended),
            Self::Connected { attempts } => fmt::Display::fmt(&Race(attempts), f),
            Self::Failed { attempts, certificate, error } => {
                failed(f, attempts, certificate.as_ref(), error)
            }
            Self::Message { binary, len } => {
                write!(f, "a {} message of {len} bytes", if *binary { "binary" } else { "text" })
            }
            Self::NoDate => f.write_str("the server does not say what time it is"),
            Self::NoPong { messages: 0, pings: 0 } => {
                f.write_str("no answer to our ping, and nothing else either")
            }
            Self::NoPong { messages, pings } => write!(
                f,
                "no answer to our ping, but {} and {} came meanwhile",
                count(*messages, "message"),
                count(*pings, "ping")
            ),
            Self::NoProxy => f.write_str("none on the way"),
            Self::NotReached => f.write_str("not reached"),
            Self::Plain => f.write_str("none: everybody on the way can read along"),
            Self::Pong { messages, pings } => write!(
                f,
                "our ping was answered; the server has sent {} and {} so far",
                count(*messages, "message"),
                count(*pings, "ping")
            ),
            Self::Quiet { .. } => f.write_str("no message came in this time"),
            Self::Resolved { addresses } => {
                write!(f, "{}: ", count(addresses.len() as u64, "address"))?;
                list(f, addresses)
            }
            Self::Secured { .. } => self.secured(f),
            Self::Tunnelled { proxy, resolves } => {
                let by = if *resolves { "the proxy" } else { "this machine" };
                write!(f, "{proxy} leads to the server, whose name {by} resolved")
            }
            Self::Unanswered { error: None } => {
                f.write_str("our close frame was not answered in time")
            }
            Self::Unanswered { error: Some(e) } => {
                write!(f, "our close frame was not answered: {e}")
            }
            Self::Upgraded { server, subprotocol } => {
                f.write_str("101, a WebSocket")?;
                server.as_ref().map_or(Ok(()), |server| write!(f, ", by {server}"))?;
                f.write_str(if *subprotocol { ", with a subprotocol" } else { "" })
            }
        }
    }
}

impl Finding {
    fn secured(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Secured { cipher, names, not_after, valid_for, version } = self else {
            return Ok(());
        };
        write!(f, "TLS {}", version.unwrap_or("of an unknown version"))?;
        cipher.map_or(Ok(()), |cipher| write!(f, ", {cipher}"))?;
        if let (Some(end), Some(left)) = (not_after, valid_for) {
            write!(f, "; trusted, valid until {} ({})", Date(*end), days(*left))?;
        }
        if !names.is_empty() {
            f.write_str("; for ")?;
            list(f, &names.iter().map(|name| printable(name)).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

fn closed(f: &mut fmt::Formatter<'_>, code: Option<u16>, ended: Option<Duration>) -> fmt::Result {
    f.write_str("the server answered our close frame")?;
    code.map_or(Ok(()), |code| write!(f, " with {code}"))?;
    match ended {
        Some(_) => f.write_str(", and ended the connection"),
        None => f.write_str(", but did not end the connection in time"),
    }
}

fn failed(
    f: &mut fmt::Formatter<'_>,
    attempts: &[Attempt],
    certificate: Option<&CertificateFault>,
    error: &TransportError,
) -> fmt::Result {
    match certificate {
        Some(fault) => fmt::Display::fmt(fault, f)?,
        None => f.write_str(&printable(&error.in_full()))?,
    }
    if attempts.is_empty() { Ok(()) } else { write!(f, ": {}", Race(attempts)) }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { at } => write!(f, "the certificate expired on {}", Date(*at)),
            Self::NotYetValid { before } => {
                write!(f, "the certificate is not valid before {}", Date(*before))
            }
            Self::OtherName { names } if names.is_empty() => {
                f.write_str("the certificate is for no name at all")
            }
            Self::OtherName { names } => {
                f.write_str("the certificate is for another host: ")?;
                list(f, &names.iter().map(|name| printable(name)).collect::<Vec<_>>())
            }
            Self::UnknownIssuer => f.write_str("the certificate is signed by nobody we trust"),
        }
    }
}

impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = Duration::from_millis(self.offset_millis.unsigned_abs());
        let uncertainty = self.uncertainty.as_secs_f64();
        if by <= self.uncertainty {
            return write!(f, "no difference to the server's (± {uncertainty:.1} s)");
        }
        let side = if self.offset_millis < 0 { "ahead of" } else { "behind" };
        write!(f, "ours is {:.1} s {side} the server's (± {uncertainty:.1} s)", by.as_secs_f64())
    }
}

/// Addresses, and what became of each.
struct Race<'a>(&'a [Attempt]);

impl fmt::Display for Race<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match self.end {
            AttemptEnd::Abandoned { after } => write!(f, "{address} no answer in {}", ms(after)),
            AttemptEnd::Connected { after } => write!(f, "{address} connected in {}", ms(after)),
            AttemptEnd::Failed { after, kind } => write!(f, "{address} {kind} in {}", ms(after)),
            AttemptEnd::NotTried => write!(f, "{address} not tried"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (at, item) in items.iter().take(LISTED).enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        fmt::Display::fmt(item, f)?;
    }
    match items.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

fn count(n: u64, what: &str) -> String {
    match (n, what) {
        (1, what) => format!("1 {what}"),
        (n, "address") => format!("{n} addresses"),
        (n, what) => format!("{n} {what}s"),
    }
}

fn days(left: Duration) -> String {
    count(left.as_secs() / (24 * 3600), "day")
}

/// A duration in milliseconds, always in the same unit: for a column.
fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// A day of the calendar, in UTC.
struct Date(SystemTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What can be printed: 1 January 1970 to 31 December 9999.
        const LAST: Duration = Duration::from_secs(253_402_300_799);
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST);
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
        // Of `Wed, 01 Jan 2020 00:00:00 GMT`.
        f.write_str(date.get(5..16).unwrap_or(&date))
    }
}
