//! What is to be done about a failure: the engine's table, in one place.
//!
//! The table is documented for users on [`Verdict`]. A protocol may overrule each row.

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER};

use crate::protocol::{DisconnectReason, Failure, ProxyFault, Verdict};

/// The shortest wait for a server that restarts or is overloaded (1012 and 1013 of IANA's registry
/// of close codes; for 1012, the registration asks clients to wait 5 to 30 s at random), that
/// objects to our behaviour (1008), or that is hostile.
const BUSY: Duration = Duration::from_secs(5);

/// The longest that a server can make us wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Failures that may be a passing fault once, and are one of ours or theirs when they repeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Suspicious {
    Hostile,
    TooLarge,
    Violation,
}

/// Judges the failures of one connection, and remembers those that must not repeat.
#[derive(Debug, Default)]
pub(super) struct Classifier {
    in_a_row: Option<(Suspicious, u8)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Judgement {
    Fatal,
    /// Try again, not before `floor`; with `whole_host`, nobody dials the host before.
    Retry {
        floor: Duration,
        whole_host: bool,
    },
    Unauthorized,
}

impl Classifier {
    /// A connection was stable: what happened before does not count.
    pub(super) fn forgive(&mut self) {
        self.in_a_row = None;
    }

    /// Judges `failure`; `longest` is the longest delay of the policy.
    pub(super) fn judge(
        &mut self,
        failure: &Failure<'_>,
        overruled: Option<Verdict>,
        longest: Duration,
        wall: SystemTime,
    ) -> Judgement {
        let repeated = self.repeats(failure.reason);
        let verdict = match overruled {
            Some(verdict) => verdict,
            None if repeated => Verdict::Fatal,
            None => default_verdict(failure.reason),
        };
        let asked = failure.response.and_then(|r| retry_after(r.headers(), wall));
        let whole_host = matches!(failure.reason, DisconnectReason::Http { status: 418 | 429 });
        match verdict {
            Verdict::Fatal => Judgement::Fatal,
            Verdict::NewToken => Judgement::Unauthorized,
            Verdict::Retry if whole_host => {
                let floor = asked.unwrap_or(longest).min(LONGEST_WAIT);
                Judgement::Retry { floor, whole_host }
            }
            Verdict::Retry => Judgement::Retry { floor: asked.unwrap_or_default(), whole_host },
            Verdict::RetryAfter(floor) => {
                let floor = floor.max(asked.unwrap_or_default()).min(LONGEST_WAIT);
                Judgement::Retry { floor, whole_host }
            }
        }
    }

    /// Whether this is the one failure too many of its kind.
    fn repeats(&mut self, reason: &DisconnectReason) -> bool {
        let kind = match reason {
            DisconnectReason::AssemblyTimeout | DisconnectReason::Flood => Suspicious::Hostile,
            DisconnectReason::MessageTooLarge => Suspicious::TooLarge,
            DisconnectReason::ProtocolViolation
            | DisconnectReason::Proxy(ProxyFault::Violation)
            | DisconnectReason::Closed { code: Some(1002 | 1003 | 1007 | 1009 | 1010), .. } => {
                Suspicious::Violation
            }
            _ => {
                self.in_a_row = None;
                return false;
            }
        };
        let count = match self.in_a_row {
            Some((before, count)) if before == kind => count.saturating_add(1),
            _ => 1,
        };
        self.in_a_row = Some((kind, count));
        count >= if kind == Suspicious::TooLarge { 2 } else { 3 }
    }
}

fn default_verdict(reason: &DisconnectReason) -> Verdict {
    match reason {
        DisconnectReason::AssemblyTimeout | DisconnectReason::Flood => Verdict::RetryAfter(BUSY),
        DisconnectReason::Certificate | DisconnectReason::Handshake => Verdict::Fatal,
        DisconnectReason::Closed { code: Some(code), .. } => match code {
            1008 | 1012 | 1013 => Verdict::RetryAfter(BUSY),
            4401 | 4403 => Verdict::NewToken,
            3500..=3999 | 4500..=4999 => Verdict::Fatal,
            _ => Verdict::Retry,
        },
        DisconnectReason::Http { status } => match status {
            401 | 403 => Verdict::NewToken,
            408 | 418 | 425 | 429 | 500..=599 => Verdict::Retry,
            _ => Verdict::Fatal,
        },
        DisconnectReason::Proxy(fault) => of_proxy(*fault),
        _ => Verdict::Retry,
    }
}

/// What is the network's or a server's may pass; what the proxy was told to do, and how we were told
/// to speak to it, does not.
fn of_proxy(fault: ProxyFault) -> Verdict {
    match fault {
        ProxyFault::Certificate
        | ProxyFault::Credentials
        | ProxyFault::Reply { code: 2 | 7 | 8 }
        | ProxyFault::Settings => Verdict::Fatal,
        ProxyFault::Status { status: 408 | 425 | 429 | 500..=599 } => Verdict::Retry,
        ProxyFault::Status { .. } => Verdict::Fatal,
        ProxyFault::Reply { .. } | ProxyFault::Unreachable | ProxyFault::Violation => {
            Verdict::Retry
        }
    }
}

/// How long a server asks us to wait (RFC 9110 §10.2.3): as seconds or as a date, bounded. What
/// cannot be read is not there, and a date that has passed is now.
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(wall).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::protocol::Response;

    const LONGEST: Duration = Duration::from_secs(30);
    const RETRY: Judgement = Judgement::Retry { floor: Duration::ZERO, whole_host: false };

    fn after(seconds: u64) -> Judgement {
        Judgement::Retry { floor: Duration::from_secs(seconds), whole_host: false }
    }

    fn judge(reason: &DisconnectReason) -> Judgement {
        let failure = Failure::new(reason, None);
        Classifier::default().judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH)
    }

    fn judge_status(status: u16, retry_after: Option<&str>) -> Judgement {
        let headers = retry_after.map(|v| (RETRY_AFTER, HeaderValue::from_str(v).unwrap()));
        let response = Response::new(status, headers.into_iter().collect());
        let reason = DisconnectReason::Http { status };
        let failure = Failure::new(&reason, Some(&response));
        Classifier::default().judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH)
    }

    fn closed(code: u16) -> DisconnectReason {
        DisconnectReason::closed(Some(code), "")
    }

    #[test]
    fn what_may_pass_is_retried() {
        use std::io::ErrorKind;
        for reason in [
            DisconnectReason::Io(ErrorKind::ConnectionRefused),
            DisconnectReason::Io(ErrorKind::ConnectionReset),
            DisconnectReason::ConnectTimeout,
            DisconnectReason::HeartbeatTimeout,
            DisconnectReason::Dns,
            DisconnectReason::Tls,
            DisconnectReason::Ended,
            DisconnectReason::closed(None, ""),
        ] {
            assert_eq!(judge(&reason), RETRY, "{reason:?}");
        }
        for code in [1000, 1001, 1005, 1006, 1011, 1014, 3000, 3499, 4000, 4400, 4499] {
            assert_eq!(judge(&closed(code)), RETRY, "{code}");
        }
        for status in [408, 425, 500, 502, 503, 504, 599] {
            assert_eq!(judge_status(status, None), RETRY, "{status}");
        }
    }

    #[test]
    fn what_will_not_pass_is_fatal() {
        for reason in [DisconnectReason::Certificate, DisconnectReason::Handshake] {
            assert_eq!(judge(&reason), Judgement::Fatal, "{reason:?}");
        }
        for code in [3500, 3999, 4500, 4999] {
            assert_eq!(judge(&closed(code)), Judgement::Fatal, "{code}");
        }
        for status in [200, 204, 301, 302, 307, 308, 400, 404, 410, 426, 451] {
            assert_eq!(judge_status(status, Some("5")), Judgement::Fatal, "{status}");
        }
    }

    #[test]
    fn a_proxys_policy_is_fatal_and_its_trouble_is_not() {
        let judge = |fault| judge(&DisconnectReason::Proxy(fault));
        let status = |status| judge(ProxyFault::Status { status });
        let reply = |code| judge(ProxyFault::Reply { code });
        for fault in [ProxyFault::Certificate, ProxyFault::Credentials, ProxyFault::Settings] {
            assert_eq!(judge(fault), Judgement::Fatal, "{fault:?}");
        }
        for code in [200, 302, 400, 403, 404, 405, 451] {
            assert_eq!(status(code), Judgement::Fatal, "{code}");
        }
        for code in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(status(code), RETRY, "{code}");
        }
        for code in [2, 7, 8] {
            assert_eq!(reply(code), Judgement::Fatal, "{code}");
        }
        for code in [1, 3, 4, 5, 6, 9, 255] {
            assert_eq!(reply(code), RETRY, "{code}");
        }
        assert_eq!(judge(ProxyFault::Unreachable), RETRY);
        let mut classifier = Classifier::default();
        let reason = DisconnectReason::Proxy(ProxyFault::Violation);
        let judged = [(); 3].map(|()| {
            let failure = Failure::new(&reason, None);
            classifier.judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH)
        });
        assert_eq!(judged, [RETRY, RETRY, Judgement::Fatal]);
    }

    #[test]
    fn refused_credentials_are_told_apart() {
        for status in [401, 403] {
            assert_eq!(judge_status(status, None), Judgement::Unauthorized, "{status}");
        }
        for code in [4401, 4403] {
            assert_eq!(judge(&closed(code)), Judgement::Unauthorized, "{code}");
        }
    }

    #[test]
    fn a_busy_server_is_left_alone_for_five_seconds() {
        for code in [1008, 1012, 1013] {
            assert_eq!(judge(&closed(code)), after(5), "{code}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_date_and_bounded() {
        for (value, seconds) in [
            ("7", 7),
            (" 7 ", 7),
            ("0", 0),
            ("999999999999999999999999", 600),
            ("Thu, 01 Jan 1970 00:00:09 GMT", 9),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 600),
            ("-1", 0),
            ("soon", 0),
            ("", 0),
        ] {
            assert_eq!(judge_status(503, Some(value)), after(seconds), "{value:?}");
        }
    }

    #[test]
    fn too_many_requests_pause_the_whole_host() {
        for status in [418, 429] {
            let paused = |seconds| Judgement::Retry {
                floor: Duration::from_secs(seconds),
                whole_host: true,
            };
            assert_eq!(judge_status(status, Some("60")), paused(60));
            assert_eq!(judge_status(status, None), paused(30), "the policy's longest");
        }
    }

    #[test]
    fn broken_frames_are_fatal_the_third_time_in_a_row() {
        let mut classifier = Classifier::default();
        let mut judge = |reason: &DisconnectReason| {
            let failure = Failure::new(reason, None);
            classifier.judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(judge(&DisconnectReason::ProtocolViolation), RETRY);
        assert_eq!(judge(&closed(1002)), RETRY);
        assert_eq!(judge(&DisconnectReason::Ended), RETRY, "not in a row");
        for code in [1003, 1007] {
            assert_eq!(judge(&closed(code)), RETRY);
        }
        assert_eq!(judge(&closed(1010)), Judgement::Fatal);
    }

    #[test]
    fn a_hostile_server_is_left_alone_and_fatal_the_third_time_in_a_row() {
        let mut classifier = Classifier::default();
        let reasons =
            [DisconnectReason::Flood, DisconnectReason::AssemblyTimeout, DisconnectReason::Flood];
        let judged = reasons.each_ref().map(|reason| {
            let failure = Failure::new(reason, None);
            classifier.judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH)
        });
        assert_eq!(judged, [after(5), after(5), Judgement::Fatal]);
    }

    #[test]
    fn failures_of_two_kinds_are_not_in_a_row() {
        let mut classifier = Classifier::default();
        for reason in [DisconnectReason::ProtocolViolation, DisconnectReason::MessageTooLarge] {
            let failure = Failure::new(&reason, None);
            let judged = classifier.judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH);
            assert_eq!(judged, RETRY, "{reason:?}");
        }
    }

    #[test]
    fn an_oversize_message_is_fatal_the_second_time_unless_it_was_fine_between() {
        let mut classifier = Classifier::default();
        let reason = DisconnectReason::MessageTooLarge;
        let failure = Failure::new(&reason, None);
        let mut judge = |forgive: bool| {
            if forgive {
                classifier.forgive();
            }
            classifier.judge(&failure, None, LONGEST, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(judge(false), RETRY);
        assert_eq!(judge(true), RETRY);
        assert_eq!(judge(false), Judgement::Fatal);
    }

    #[test]
    fn a_protocol_overrules_each_row() {
        let reason = DisconnectReason::Certificate;
        let failure = Failure::new(&reason, None);
        let mut classifier = Classifier::default();
        let mut judge =
            |verdict| classifier.judge(&failure, Some(verdict), LONGEST, SystemTime::UNIX_EPOCH);
        assert_eq!(judge(Verdict::Retry), RETRY);
        assert_eq!(judge(Verdict::RetryAfter(Duration::from_secs(9))), after(9));
        assert_eq!(judge(Verdict::RetryAfter(Duration::MAX)), after(600));
        assert_eq!(judge(Verdict::NewToken), Judgement::Unauthorized);
        assert_eq!(judge(Verdict::Fatal), Judgement::Fatal);
    }
}
