//! Why a socket was lost, as a word and its details.

use std::io::ErrorKind;

use crate::protocol::{DisconnectReason, ProxyFault};

/// The details of a reason: a number, and words.
pub(super) fn details(reason: &DisconnectReason) -> (Option<u64>, Option<String>) {
    match reason {
        DisconnectReason::Closed { code, reason } => {
            (code.map(u64::from), Some(reason.as_str().to_owned()))
        }
        DisconnectReason::Http { status } => (Some(u64::from(*status)), None),
        DisconnectReason::Io(kind) => (None, Some(format!("{kind:?}"))),
        DisconnectReason::Proxy(fault) => {
            let number = match *fault {
                ProxyFault::Reply { code } => Some(u64::from(code)),
                ProxyFault::Status { status } => Some(u64::from(status)),
                _ => None,
            };
            (number, PROXY.iter().find(|(_, f)| is_kind(*f, *fault)).map(|(w, _)| (*w).into()))
        }
        // No wildcard: a reason that is new is added here, and to `PLAIN` below.
        DisconnectReason::AssemblyTimeout
        | DisconnectReason::Certificate
        | DisconnectReason::ConnectTimeout
        | DisconnectReason::DataTimeout
        | DisconnectReason::Dns
        | DisconnectReason::Ended
        | DisconnectReason::Flood
        | DisconnectReason::Handshake
        | DisconnectReason::HeartbeatTimeout
        | DisconnectReason::JoinTimeout
        | DisconnectReason::MessageTooLarge
        | DisconnectReason::Protocol
        | DisconnectReason::ProtocolViolation
        | DisconnectReason::Rotated
        | DisconnectReason::StreamEnded
        | DisconnectReason::Switched
        | DisconnectReason::Tls
        | DisconnectReason::Token
        | DisconnectReason::WriteTimeout => (None, None),
    }
}

/// The reason of this label. One that a later version has is told as the protocol's own.
pub(super) fn reason(label: &str, number: Option<u64>, words: Option<&str>) -> DisconnectReason {
    let number = number.and_then(|number| u16::try_from(number).ok());
    match label {
        "closed" => DisconnectReason::closed(number, words.unwrap_or_default()),
        "http" => DisconnectReason::Http { status: number.unwrap_or_default() },
        "io" => DisconnectReason::Io(kind(words.unwrap_or_default())),
        "proxy" => DisconnectReason::Proxy(fault(number, words.unwrap_or_default())),
        _ => PLAIN.iter().find(|reason| reason.label() == label).cloned().unwrap_or_else(|| {
            tracing::debug!(label, "the recording has a reason that is not known");
            DisconnectReason::Protocol
        }),
    }
}

/// The reasons without details.
const PLAIN: &[DisconnectReason] = &[
    DisconnectReason::AssemblyTimeout,
    DisconnectReason::Certificate,
    DisconnectReason::ConnectTimeout,
    DisconnectReason::DataTimeout,
    DisconnectReason::Dns,
    DisconnectReason::Ended,
    DisconnectReason::Flood,
    DisconnectReason::Handshake,
    DisconnectReason::HeartbeatTimeout,
    DisconnectReason::JoinTimeout,
    DisconnectReason::MessageTooLarge,
    DisconnectReason::Protocol,
    DisconnectReason::ProtocolViolation,
    DisconnectReason::Rotated,
    DisconnectReason::StreamEnded,
    DisconnectReason::Switched,
    DisconnectReason::Tls,
    DisconnectReason::Token,
    DisconnectReason::WriteTimeout,
];

/// What a proxy may have done, by a word.
const PROXY: &[(&str, ProxyFault)] = &[
    ("certificate", ProxyFault::Certificate),
    ("credentials", ProxyFault::Credentials),
    ("reply", ProxyFault::Reply { code: 0 }),
    ("settings", ProxyFault::Settings),
    ("status", ProxyFault::Status { status: 0 }),
    ("unreachable", ProxyFault::Unreachable),
    ("violation", ProxyFault::Violation),
];

fn is_kind(one: ProxyFault, other: ProxyFault) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

fn fault(number: Option<u16>, word: &str) -> ProxyFault {
    let number = number.unwrap_or_default();
    match PROXY.iter().find(|(known, _)| *known == word).map(|(_, fault)| *fault) {
        Some(ProxyFault::Reply { .. }) => {
            ProxyFault::Reply { code: u8::try_from(number).unwrap_or_default() }
        }
        Some(ProxyFault::Status { .. }) => ProxyFault::Status { status: number },
        Some(fault) => fault,
        None => ProxyFault::Violation,
    }
}

/// Kinds of errors that sockets have; others are `Other`.
const KINDS: &[ErrorKind] = &[
    ErrorKind::AddrInUse,
    ErrorKind::AddrNotAvailable,
    ErrorKind::BrokenPipe,
    ErrorKind::ConnectionAborted,
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::HostUnreachable,
    ErrorKind::Interrupted,
    ErrorKind::InvalidData,
    ErrorKind::InvalidInput,
    ErrorKind::NetworkDown,
    ErrorKind::NetworkUnreachable,
    ErrorKind::NotConnected,
    ErrorKind::NotFound,
    ErrorKind::OutOfMemory,
    ErrorKind::PermissionDenied,
    ErrorKind::TimedOut,
    ErrorKind::UnexpectedEof,
    ErrorKind::Unsupported,
    ErrorKind::WouldBlock,
    ErrorKind::WriteZero,
];

fn kind(name: &str) -> ErrorKind {
    let known = KINDS.iter().find(|kind| format!("{kind:?}") == name);
    known.copied().unwrap_or(ErrorKind::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_comes_back_as_it_was() {
        for &label in DisconnectReason::LABELS {
            assert_eq!(reason(label, None, None).label(), label, "add it to this file");
        }
        for kind in KINDS.iter().chain(&[ErrorKind::Other]) {
            let before = DisconnectReason::Io(*kind);
            let (number, words) = details(&before);
            assert_eq!(reason("io", number, words.as_deref()), before);
        }
        for code in [None, Some(1000), Some(4999)] {
            let before = DisconnectReason::closed(code, "going away");
            let (number, words) = details(&before);
            assert_eq!(reason("closed", number, words.as_deref()), before);
        }
        let faults = [ProxyFault::Reply { code: 5 }, ProxyFault::Status { status: 502 }];
        for fault in PROXY.iter().map(|(_, fault)| *fault).chain(faults) {
            let before = DisconnectReason::Proxy(fault);
            let (number, words) = details(&before);
            assert_eq!(reason("proxy", number, words.as_deref()), before);
        }
        let before = DisconnectReason::Http { status: 503 };
        assert_eq!(reason("http", details(&before).0, None), before);
    }

    #[test]
    fn what_is_not_known_is_no_error() {
        assert_eq!(reason("a new one", Some(7), Some("x")), DisconnectReason::Protocol);
        assert_eq!(reason("io", None, Some("x")), DisconnectReason::Io(ErrorKind::Other));
    }
}
