//! What can go wrong with a socket, and what is to be done about it.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Response;
use crate::message::Text;

/// Writes `label`, and the list of all labels, from one list, so that neither lacks one.
macro_rules! labels {
    ($this:ident { $($variant:pat => $label:literal,)* }) => {
        /// One word out of a closed set, for the labels of metrics.
        #[must_use]
        pub fn label(&$this) -> &'static str {
            match $this {
                $($variant => $label,)*
            }
        }

        /// Every label there is.
        pub(crate) const LABELS: &'static [&'static str] = &[$($label,)*];
    };
}
pub(crate) use labels;

/// Why a socket was lost or could not be opened.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// A message did not come to its end within
    /// [`assembly_timeout`](crate::transport::Tungstenite::assembly_timeout).
    AssemblyTimeout,
    /// The server's certificate is not valid: unknown issuer, other name, expired, not yet valid.
    Certificate,
    /// The server sent a close frame.
    Closed {
        /// The close code (RFC 6455 §7.4), if it gave one.
        code: Option<u16>,
        /// Its words, at most 123 bytes, without control characters.
        reason: Text,
    },
    /// The WebSocket was not open within [`Config::connect_timeout`](crate::Config).
    ConnectTimeout,
    /// The stream had no message for [`Config::data_timeout`](crate::Config).
    DataTimeout,
    /// The host's name could not be resolved.
    Dns,
    /// The connection ended without a close frame.
    Ended,
    /// More fragments, pings or pongs came than a server has reason to send.
    Flood,
    /// The server answered the handshake, but not with the WebSocket that was asked for.
    Handshake,
    /// Nothing was heard for the heartbeat's interval, nor for its timeout after a ping.
    HeartbeatTimeout,
    /// The server answered the handshake with an HTTP status.
    Http {
        /// The status.
        status: u16,
    },
    /// Reading or writing failed, or the connection could not be made.
    Io(io::ErrorKind),
    /// The server did not confirm a name within [`Config::join_timeout`](crate::Config).
    JoinTimeout,
    /// A message was larger than [`Limits::max_message`](crate::Limits).
    MessageTooLarge,
    /// What was said on the socket could not go on, says the protocol.
    Protocol,
    /// What came was no WebSocket: invalid frames, or text that is not UTF-8.
    ProtocolViolation,
    /// There is no way through the proxy.
    Proxy(ProxyFault),
    /// The stream went over to another socket before the one it had was lost, and it could not be told
    /// where the one leaves off and the other goes on.
    Rotated,
    /// The server ended this stream, and left the socket open.
    StreamEnded,
    /// A [`Switch`](crate::compat::Switch) took the stream to its other source, and could not tell
    /// where the one leaves off and the other goes on. No socket was lost.
    Switched,
    /// No token could be had: [`NoToken`](crate::NoToken) says why.
    Token,
    /// TLS could not be set up, for another reason than the certificate.
    Tls,
    /// The kernel took nothing for [`Config::write_timeout`](crate::Config).
    WriteTimeout,
}

impl DisconnectReason {
    /// A close frame's code and reason, cleaned of what does not belong into a log.
    #[must_use]
    pub fn closed(code: Option<u16>, reason: &str) -> Self {
        let clean = printable(reason);
        let mut end = clean.len().min(123); // RFC 6455 §5.5
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        Self::Closed { code, reason: clean[..end].into() }
    }

    labels! {
        self {
            Self::AssemblyTimeout => "assembly_timeout",
            Self::Certificate => "certificate",
            Self::Closed { .. } => "closed",
            Self::ConnectTimeout => "connect_timeout",
            Self::DataTimeout => "data_timeout",
            Self::Dns => "dns",
            Self::Ended => "ended",
            Self::Flood => "flood",
            Self::Handshake => "handshake",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::Http { .. } => "http",
            Self::Io(_) => "io",
            Self::JoinTimeout => "join_timeout",
            Self::MessageTooLarge => "message_too_large",
            Self::Protocol => "protocol",
            Self::ProtocolViolation => "protocol_violation",
            Self::Proxy(_) => "proxy",
            Self::Rotated => "rotated",
            Self::StreamEnded => "stream_ended",
            Self::Switched => "switched",
            Self::Token => "token",
            Self::Tls => "tls",
            Self::WriteTimeout => "write_timeout",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AssemblyTimeout => f.write_str("a message did not come to its end in time"),
            Self::Certificate => f.write_str("the server's certificate is not valid"),
            Self::Closed { code, reason } => {
                f.write_str("closed by the server")?;
                code.map_or(Ok(()), |code| write!(f, " with code {code}"))?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
            Self::ConnectTimeout => f.write_str("no connection within the connect timeout"),
            Self::DataTimeout => f.write_str("no message within the data timeout"),
            Self::Dns => f.write_str("the host's name cannot be resolved"),
            Self::Ended => f.write_str("the connection ended without a close frame"),
            Self::Flood => f.write_str("the server floods the connection"),
            Self::Handshake => f.write_str("the server's handshake is not the one asked for"),
            Self::HeartbeatTimeout => f.write_str("no sign of life within the heartbeat timeout"),
            Self::Http { status } => write!(f, "the server answered with HTTP status {status}"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::JoinTimeout => f.write_str("no word about the stream within the join timeout"),
            Self::MessageTooLarge => f.write_str("a message was larger than the limit"),
            Self::Protocol => f.write_str("the protocol gave the connection up"),
            Self::ProtocolViolation => f.write_str("the server broke the WebSocket protocol"),
            Self::Proxy(_) => f.write_str("no way through the proxy"),
            Self::Rotated => f.write_str("moved to a new socket"),
            Self::StreamEnded => f.write_str("the server ended the stream"),
            Self::Switched => f.write_str("switched to the other source"),
            Self::Token => f.write_str("no token could be had"),
            Self::Tls => f.write_str("TLS could not be set up"),
            Self::WriteTimeout => f.write_str("nothing could be written within the write timeout"),
        }
    }
}

/// Why there is no way through a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ProxyFault {
    /// The certificate of an `https://` proxy is not valid.
    Certificate,
    /// It wants a user name and password, or others: HTTP 407 or 401, or SOCKS5's word for
    /// it.
    Credentials,
    /// A SOCKS5 proxy's word (RFC 1928 §6).
    Reply {
        /// The code.
        code: u8,
    },
    /// The settings name a proxy that cannot be used: a variable's value that cannot be read.
    Settings,
    /// An HTTP proxy's word.
    Status {
        /// The status; neither 401 nor 407.
        status: u16,
    },
    /// There is no connection to it, or it ended.
    Unreachable,
    /// What it said is not what a proxy says.
    Violation,
}

/// A failure, as [`Protocol::classify`](super::Protocol::classify) sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// What happened.
    pub reason: &'a DisconnectReason,
    /// The server's answer, where it refused the handshake, or the proxy's, where it is one of HTTP
    /// and refused the tunnel.
    pub response: Option<&'a Response>,
}

impl<'a> Failure<'a> {
    /// A failure: for tests of a protocol.
    #[must_use]
    pub fn new(reason: &'a DisconnectReason, response: Option<&'a Response>) -> Self {
        Self { reason, response }
    }
}

/// What is to be done about a failure.
///
/// | failure | the engine's verdict |
/// |---|---|
/// | refused, reset, timeouts, DNS, TLS, HTTP 408, 425, 5xx, other close codes | [`Retry`](Self::Retry) |
/// | a proxy that cannot be reached, or answers with HTTP 408, 425, 429, 5xx or with SOCKS5's 1, 3–6 or an unknown code | `Retry` |
/// | a proxy that wants other credentials or has a bad certificate, other HTTP status, SOCKS5's 2, 7, 8; a proxy's settings that cannot be read | `Fatal` |
/// | close 1008 | `RetryAfter` 5 s |
/// | close 1012, 1013 | `RetryAfter` 5 s |
/// | `Retry-After` with any status that is retried | `RetryAfter` that, at most 10 min |
/// | HTTP 429, 418 | `RetryAfter` that or the policy's longest delay, at most 10 min, for the whole host |
/// | a flood of fragments or pings, a message without an end | `RetryAfter` 5 s; the third in a row `Fatal` |
/// | close 1002, 1003, 1007, 1009, 1010, invalid frames, an answer that is no proxy's | `Retry`; the third in a row [`Fatal`](Self::Fatal) |
/// | a message above the limit | `Retry`; the second in a row `Fatal` |
/// | HTTP 401, 403, close 4401, 4403 | [`NewToken`](Self::NewToken) |
/// | other HTTP status, certificate, wrong handshake, close 3500–3999, 4500–4999 | `Fatal` |
///
/// "In a row" is: with neither another failure nor a stable connection in between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// No attempt will mend it: the streams are closed.
    Fatal,
    /// The credentials are refused: another attempt makes sense with a fresh token only. It is asked
    /// for, and used at once; refused again before a name was joined, the streams are closed as
    /// [`Unauthorized`](crate::CloseReason::Unauthorized). So they are without
    /// [`Credentials`](crate::Credentials), as there is nobody to ask.
    NewToken,
    /// Another attempt, after the backoff's next delay.
    Retry,
    /// Another attempt, after the backoff's next delay but not before this long; more than 10 min
    /// count as 10 min.
    RetryAfter(Duration),
}

/// What a server says, without what would forge a line, steer a terminal, or turn the direction in
/// which the rest of a line is written.
pub(crate) fn printable(text: &str) -> String {
    let is_mark = |c| {
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}')
    };
    text.chars().filter(|&c| !c.is_control() && !is_mark(c)).collect()
}

/// How much of a server's words is kept as a reason, in bytes.
const MAX_REASON: usize = 256;

/// The beginning of a server's words.
pub(crate) fn short(words: &str) -> &str {
    let mut end = words.len().min(MAX_REASON);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_turns_no_line_around() {
        let words = "a\u{202e}b\u{2066}c\u{2028}d\u{9b}e\u{200f}f\u{61c}g é 漢 אב";
        let DisconnectReason::Closed { reason, .. } = DisconnectReason::closed(Some(1000), words)
        else {
            unreachable!()
        };
        assert_eq!(reason.as_str(), "abcdefg é 漢 אב");
    }

    #[test]
    fn a_close_reason_is_cleaned_and_cut() {
        let long = format!("a\r\nb\u{1b}[31m{}", "é".repeat(100));
        let DisconnectReason::Closed { reason, .. } = DisconnectReason::closed(Some(1000), &long)
        else {
            unreachable!()
        };
        assert!(reason.starts_with("ab[31m"));
        assert!(reason.len() <= 123 && !reason.chars().any(char::is_control));
    }
}
