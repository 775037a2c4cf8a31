//! What the program ends with.
//!
//! | code | [`Exit`] | means |
//! |---|---|---|
//! | 0 | `Done` | it ended as it was asked to: Ctrl-C, SIGTERM, `--count`, `--for`, nobody reads the output any more; `doctor`: all is well |
//! | 1 | `Lost` | a stream that had been open was lost for good; `doctor`: the WebSocket opens and does not last; `record`, `replay`: the file cannot be written, or is damaged; `serve`, `mock`: the address is not to be had |
//! | 2 | `Usage` | the command line makes no sense |
//! | 3 | `Unreachable` | no connection: DNS, TCP, a proxy, TLS, or no answer in time |
//! | 4 | `Refused` | the server is there and refuses: an HTTP status, or it is no WebSocket server |
//! | 5 | `Warned` | `doctor`: the stream works, with something worth a look |

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::SocketAddr;

use clap::builder::styling::{AnsiColor, Style};
use wsmux::doctor::advice;
use wsmux::{CloseReason, DisconnectReason};

use crate::tail::escape::escaped;

pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const HINT: Style = AnsiColor::Green.on_default();

/// How the program ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Exit {
    Done,
    Lost,
    Usage,
    Unreachable,
    Refused,
    Warned,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Lost => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Warned => 5,
        }
    }

    /// What the end of a stream comes to.
    pub(crate) fn of(reason: &CloseReason, was_open: bool) -> Self {
        match reason {
            _ if was_open => Self::Lost,
            CloseReason::Rejected { .. } | CloseReason::Unauthorized(_) => Self::Refused,
            CloseReason::Fatal(e) | CloseReason::RetriesExhausted { last: e, .. } => {
                Self::before_open(e.reason())
            }
            _ => Self::Lost,
        }
    }

    /// What a socket comes to that did not open.
    pub(crate) fn before_open(reason: &DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Http { .. }
            | DisconnectReason::Handshake
            | DisconnectReason::ProtocolViolation => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

/// What went wrong, for a person: one line, its cause, and a way out.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    cause: Option<String>,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), cause: None, hint: None, exit }
    }

    /// The arguments make no sense.
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what).hint("`wsmux help` shows what is understood")
    }

    /// The system refused something.
    pub(crate) fn io(what: &str, e: &io::Error) -> Self {
        Self::new(Exit::Lost, what).cause(e)
    }

    /// Nobody can be served at the address that `option` says.
    pub(crate) fn listen(option: &str, address: SocketAddr, e: &io::Error) -> Self {
        let failure = Self::io(&format!("cannot listen on {address}"), e);
        match e.kind() {
            io::ErrorKind::AddrInUse => failure.hint(format!(
                "another program has this port: end it, or name another port by `{option}`"
            )),
            io::ErrorKind::AddrNotAvailable => failure.hint(format!(
                "no network of this machine has it: `{option} 0.0.0.0:{}` is all that there are",
                address.port()
            )),
            io::ErrorKind::PermissionDenied => failure
                .hint(format!("low ports are not everybody's: name one above 1023 by `{option}`")),
            _ => failure,
        }
    }

    /// A stream ended.
    pub(crate) fn ended(name: &str, reason: &CloseReason, was_open: bool) -> Self {
        let why = ended(reason);
        let failure = Self::new(Exit::of(reason, was_open), format!("{}: {why}", escaped(name)));
        match reason {
            CloseReason::Fatal(e)
            | CloseReason::Unauthorized(e)
            | CloseReason::RetriesExhausted { last: e, .. } => failure.hint(advice(e.reason())),
            _ => failure,
        }
    }

    pub(crate) fn cause(mut self, e: &(dyn Error + 'static)) -> Self {
        self.cause = Some(causes(e).map_or_else(|| e.to_string(), |below| format!("{e}: {below}")));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells it on stderr.
    pub(crate) fn told(self) -> Exit {
        // Where nobody listens, nobody can be told.
        let _ = anstream::stderr().write_all(self.text().as_bytes());
        self.exit
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{ERROR}error:{ERROR:#} {}\n", escaped(&self.what));
        if let Some(cause) = &self.cause {
            let _ = writeln!(text, "  cause: {}", escaped(cause));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  {HINT}hint:{HINT:#} {hint}");
        }
        text
    }
}

/// Why a stream ended, with the name that the program's own setting has here.
pub(crate) fn ended(reason: &CloseReason) -> String {
    reason.to_string().replacen("`Config::retry`", "`--retry`", 1)
}

/// What is below `e`, all the way down, without what was said above it.
fn causes(e: &(dyn Error + 'static)) -> Option<String> {
    let mut said = vec![e.to_string()];
    let mut next = e.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.iter().any(|said| said.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    said.remove(0);
    if said.is_empty() { None } else { Some(said.join(": ")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wsmux::transport::TransportError;

    use super::*;

    fn closed(reason: DisconnectReason) -> CloseReason {
        let last = Arc::new(TransportError::new(reason));
        CloseReason::RetriesExhausted { attempts: 3, last }
    }

    #[test]
    fn the_code_says_how_far_it_came() {
        let code = |reason, was_open| Exit::of(&closed(reason), was_open).code();
        assert_eq!(code(DisconnectReason::Dns, false), 3);
        assert_eq!(code(DisconnectReason::Certificate, false), 3);
        assert_eq!(code(DisconnectReason::Http { status: 503 }, false), 4);
        assert_eq!(code(DisconnectReason::Handshake, false), 4);
        assert_eq!(code(DisconnectReason::Ended, true), 1);
        let e = Arc::new(TransportError::new(DisconnectReason::Http { status: 401 }));
        assert_eq!(Exit::of(&CloseReason::Unauthorized(e), false).code(), 4);
    }

    #[test]
    fn an_address_that_is_not_to_be_had_is_told_with_a_way_out() {
        let told = |kind: io::ErrorKind| {
            Failure::listen("--admin", ([10, 9, 8, 7], 80).into(), &kind.into()).text()
        };
        use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        for kind in [AddrInUse, AddrNotAvailable, PermissionDenied] {
            let text = told(kind);
            assert!(text.contains("cannot listen on 10.9.8.7:80"), "{text}");
            assert!(text.contains("hint:") && text.contains("`--admin"), "{text}");
        }
    }

    #[test]
    fn a_failure_is_a_line_with_its_cause_and_a_hint_and_steers_no_terminal() {
        let io = io::Error::new(io::ErrorKind::ConnectionRefused, "x\u{1b}[31m\ny");
        let last = Arc::new(TransportError::from(io));
        let reason = CloseReason::RetriesExhausted { attempts: 3, last };
        let text = Failure::ended("a\u{202e}b", &reason, false).text();
        let text = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("error: a\\u{202e}b: gave up after 3"), "{text}");
        assert!(lines[0].contains("(`--retry` sets how many)"), "{text}");
        assert!(lines[0].ends_with(": x[31my"), "{text}");
        assert!(lines[1].starts_with("  hint: nothing listens there"), "{text}");
        let io = io::Error::new(io::ErrorKind::StorageFull, "x\u{1b}[31m\ny");
        let text = Failure::io("cannot write", &io).text();
        assert!(text.ends_with("\n  cause: x\\u{1b}[31m\\ny\n"), "{text}");
    }
}
