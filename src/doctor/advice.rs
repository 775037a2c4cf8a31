//! What to do about it.

use std::io;

use super::report::{Attempt, AttemptEnd, Finding, Step, StepKind};
use crate::protocol::{DisconnectReason, ProxyFault};
use crate::transport::certificate::CertificateFault;

/// What to do about a connection that failed or was lost for `reason`: one line.
#[must_use]
pub fn advice(reason: &DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::AssemblyTimeout => {
            "the server or the network stalls in midst of a message: raise \
             `Tungstenite::assembly_timeout`, if it is only slow"
        }
        DisconnectReason::Certificate => {
            "have the certificate mended, or trust its root (`Tls::add_root_pem`, `--ca`)"
        }
        DisconnectReason::Closed { .. } => {
            "look the code up in the server's documentation: many say by it what they refuse"
        }
        DisconnectReason::ConnectTimeout => {
            "does a firewall swallow the packets? where a proxy is needed, name it in HTTPS_PROXY"
        }
        DisconnectReason::Dns => "check how the host is spelt, and that this machine has a network",
        DisconnectReason::Ended => {
            "the server, or something on the way, hung up: its own log may say why"
        }
        DisconnectReason::Flood => "the server is broken or hostile: tell its owner",
        DisconnectReason::Handshake => {
            "is this the URL of a WebSocket? a web page or another API answers like this"
        }
        DisconnectReason::HeartbeatTimeout => {
            "the network is gone, or the server hangs: does it answer pings?"
        }
        DisconnectReason::Http { status } => of_status(*status),
        DisconnectReason::Io(kind) => of_io(*kind),
        DisconnectReason::MessageTooLarge => "raise `limits.max_message`, if the feed is right",
        DisconnectReason::ProtocolViolation => {
            "is it TLS that is spoken there? then write `wss://`; else it is another port's server"
        }
        DisconnectReason::Proxy(fault) => of_proxy(*fault),
        DisconnectReason::Rotated | DisconnectReason::Switched => {
            "nothing: this program asked for it"
        }
        DisconnectReason::Token => "look at the token provider: it has its own log",
        DisconnectReason::Tls => {
            "is it TLS that is spoken there? write `ws://` if not, or check the port"
        }
        DisconnectReason::DataTimeout
        | DisconnectReason::JoinTimeout
        | DisconnectReason::Protocol
        | DisconnectReason::StreamEnded => "check the stream's name in the server's documentation",
        DisconnectReason::WriteTimeout => "the server takes nothing any more: it hangs",
    }
}

fn of_proxy(fault: ProxyFault) -> &'static str {
    match fault {
        ProxyFault::Certificate => {
            "have the proxy's certificate mended, or trust its root (`Tls::add_root_pem`, `--ca`)"
        }
        ProxyFault::Credentials => {
            "write them in the proxy's URL: `http://user:password@host:port`"
        }
        ProxyFault::Reply { code: 2 } | ProxyFault::Status { status: 400..=499 } => {
            "the proxy forbids it: have the server allowed, or name it in NO_PROXY"
        }
        ProxyFault::Reply { .. } | ProxyFault::Status { status: 500..=599 } => {
            "the proxy does not reach the server: is it up, and its host and port spelt right?"
        }
        ProxyFault::Settings => "mend or unset the variable, or name the server in NO_PROXY",
        ProxyFault::Status { .. } | ProxyFault::Violation => {
            "is a proxy there, and one of that scheme? check its URL"
        }
        ProxyFault::Unreachable => {
            "check the proxy's host and port, and whether it is up; without it, set NO_PROXY"
        }
    }
}

fn of_status(status: u16) -> &'static str {
    match status {
        200..=299 => "a web server answers: is this the path of a WebSocket?",
        300..=399 => "redirects are not followed: write the URL that it leads to",
        401 | 403 | 407 => {
            "the server wants other credentials: check token, header or key, and their rights"
        }
        404 | 410 => "check path and name: the name is the path's last segment, or `{name}`'s",
        400 | 405 | 426 => "the server does not like the request: is this the path of a WebSocket?",
        408 | 425 => "try again",
        418 | 429 => "too many requests from here: wait, and dial more rarely",
        500..=599 => "the trouble is the server's, or that of the proxy before it: try later",
        _ => "look the status up in the server's documentation",
    }
}

fn of_io(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: check host and port, and whether the server is up"
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            "the other side hung up: try the other one of `ws://` and `wss://`, or later"
        }
        io::ErrorKind::TimedOut => {
            "no packet comes back: does a firewall swallow them, or is the server down?"
        }
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => "no way leads there: check network, VPN and routes",
        io::ErrorKind::PermissionDenied => "a firewall of this machine forbids it",
        _ => "see what the system says of it",
    }
}

impl Step {
    /// What to do about it; `None` where there is nothing to do.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match &self.finding {
            Finding::Failed { certificate: Some(fault), .. } => Some(of_certificate(fault)),
            Finding::Failed { error, .. } => Some(of_step(self.kind, error.reason())),
            Finding::Clock(skew) if skew.is_certain() => Some(
                "set this machine's clock by NTP: signed requests are refused where clocks differ",
            ),
            Finding::Connected { attempts } if has_dead(attempts) => Some(
                "an address that does not answer costs each dial up to 250 ms: tell its owner, or \
                 mend the network to it",
            ),
            Finding::Secured { valid_for: Some(left), .. } if is_soon(*left) => {
                Some("have the certificate renewed: no client connects once it has expired")
            }
            Finding::Quiet { .. } => Some(
                "the stream may just be quiet; but some servers accept any name and say nothing \
                 on a wrong one",
            ),
            Finding::NoPong { messages: 0, .. } => Some(
                "a client takes this socket for dead after its heartbeat's time, and dials again \
                 and again: raise `heartbeat.interval`, or ask the server's owner",
            ),
            Finding::NoPong { .. } => Some(
                "as long as messages come that does no harm; once the stream is quiet, a client \
                 takes it for dead",
            ),
            Finding::Closed { ended: None, .. } | Finding::Unanswered { .. } => Some(
                "a client waits `close_timeout` for it, 2 s by default, before it dials the same \
                 name anew; `linger` avoids that",
            ),
            _ => None,
        }
    }
}

/// What to do about `reason`, where it is known how far the dial came.
fn of_step(kind: StepKind, reason: &DisconnectReason) -> &'static str {
    match (kind, reason) {
        (StepKind::Tls, DisconnectReason::ConnectTimeout) => {
            "the port is open, and nobody there begins TLS: write `ws://` if it is a plain one, or \
             check the port"
        }
        (StepKind::Handshake, DisconnectReason::ConnectTimeout) => {
            "the port is open, and nobody there answers: check the port, and whether TLS is spoken \
             (`wss://`); else the server hangs"
        }
        (StepKind::FirstMessage | StepKind::Heartbeat, DisconnectReason::Io(_)) => {
            advice(&DisconnectReason::Ended)
        }
        (StepKind::FirstMessage | StepKind::Heartbeat, DisconnectReason::ProtocolViolation) => {
            "the server, or something on the way, sends what is no WebSocket: tell its owner"
        }
        _ => advice(reason),
    }
}

fn of_certificate(fault: &CertificateFault) -> &'static str {
    match fault {
        CertificateFault::Expired { .. } => "have it renewed; or is this machine's clock ahead?",
        CertificateFault::NotYetValid { .. } => "set this machine's clock, which may be behind",
        CertificateFault::OtherName { .. } => {
            "write one of these names in the URL, or check where the host's name leads"
        }
        CertificateFault::UnknownIssuer => {
            "trust its root (`Tls::add_root_pem`, `--ca FILE`), if it is yours; else somebody \
             stands between"
        }
    }
}

/// Whether a certificate that is valid for so long should have been renewed: the usual ones are
/// renewed a month before they end.
pub(super) fn is_soon(left: std::time::Duration) -> bool {
    left < std::time::Duration::from_secs(14 * 24 * 3600)
}

/// Whether an address did not answer, though it had its time. Those of this machine do not count:
/// `localhost` is two addresses, and servers listen on one.
pub(super) fn has_dead(attempts: &[Attempt]) -> bool {
    let won = attempts.iter().position(|a| matches!(a.end, AttemptEnd::Connected { .. }));
    attempts.iter().enumerate().any(|(at, attempt)| match attempt.end {
        AttemptEnd::Failed { .. } => !attempt.address.ip().is_loopback(),
        // It had more time than the one that won.
        AttemptEnd::Abandoned { .. } => won.is_some_and(|won| at < won),
        AttemptEnd::Connected { .. } | AttemptEnd::NotTried => false,
    })
}
