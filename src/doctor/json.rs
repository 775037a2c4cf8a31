//! The diagnosis for programs: one object, one entry per step.
//!
//! `outcome`, `step` and `finding` are words of closed sets; `summary` and `advice` are for people.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::report::{Attempt, AttemptEnd, Diagnosis, Finding, Step};
use crate::transport::certificate::CertificateFault;

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({
            "url": self.url.to_string(),
            "name": self.name.as_str(),
            "outcome": self.outcome().label(),
            "verdict": self.verdict(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

fn step(step: &Step) -> Value {
    json!({
        "step": step.kind.label(),
        "outcome": step.outcome.label(),
        "took_ms": step.took.map(ms),
        "summary": step.finding.to_string(),
        "advice": step.advice(),
        "details": details(&step.finding),
    })
}

fn details(finding: &Finding) -> Value {
    match finding {
        Finding::Clock(skew) => json!({
            "finding": "clock",
            "offset_ms": skew.offset_millis,
            "uncertainty_ms": ms(skew.uncertainty),
        }),
        Finding::Closed { code, ended } => json!({
            "finding": "closed", "code": code, "ended_ms": ended.map(ms),
        }),
        Finding::Connected { attempts } => json!({
            "finding": "connected", "attempts": all(attempts),
        }),
        Finding::Failed { attempts, certificate, error } => json!({
            "finding": "failed",
            "attempts": all(attempts),
            "certificate": certificate.as_ref().map(fault),
            "reason": error.reason().label(),
            "status": error.response().map(crate::protocol::Response::status),
        }),
        Finding::Message { binary, len } => json!({
            "finding": "message", "binary": binary, "bytes": len,
        }),
        Finding::NoDate => json!({ "finding": "no_date" }),
        Finding::NoProxy => json!({ "finding": "no_proxy" }),
        Finding::NoPong { messages, pings } => json!({
            "finding": "no_pong", "messages": messages, "server_pings": pings,
        }),
        Finding::NotReached => Value::Null,
        Finding::Plain => json!({ "finding": "plain" }),
        Finding::Pong { messages, pings } => json!({
            "finding": "pong", "messages": messages, "server_pings": pings,
        }),
        Finding::Quiet { pings } => json!({ "finding": "quiet", "server_pings": pings }),
        Finding::Resolved { addresses } => json!({
            "finding": "resolved",
            "addresses": addresses.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>(),
        }),
        Finding::Secured { cipher, names, not_after, valid_for, version } => json!({
            "finding": "secured",
            "version": version,
            "cipher": cipher,
            "names": names,
            "not_after": not_after.map(unix),
            "days_left": valid_for.map(|left| left.as_secs() / (24 * 3600)),
        }),
        Finding::Tunnelled { proxy, resolves } => json!({
            "finding": "tunnelled", "proxy": proxy, "proxy_resolves": resolves,
        }),
        Finding::Unanswered { error } => json!({
            "finding": "unanswered", "reason": error.as_ref().map(|e| e.reason().label()),
        }),
        Finding::Upgraded { server, subprotocol } => json!({
            "finding": "upgraded", "server": server, "subprotocol": subprotocol,
        }),
    }
}

fn all(attempts: &[Attempt]) -> Vec<Value> {
    let one = |attempt: &Attempt| {
        let (end, after, error) = match attempt.end {
            AttemptEnd::Abandoned { after } => ("abandoned", Some(after), None),
            AttemptEnd::Connected { after } => ("connected", Some(after), None),
            AttemptEnd::Failed { after, kind } => ("failed", Some(after), Some(kind.to_string())),
            AttemptEnd::NotTried => ("not_tried", None, None),
        };
        json!({
            "address": attempt.address.to_string(),
            "end": end,
            "after_ms": after.map(ms),
            "error": error,
        })
    };
    attempts.iter().map(one).collect()
}

fn fault(fault: &CertificateFault) -> Value {
    match fault {
        CertificateFault::Expired { at } => json!({ "fault": "expired", "at": unix(*at) }),
        CertificateFault::NotYetValid { before } => {
            json!({ "fault": "not_yet_valid", "before": unix(*before) })
        }
        CertificateFault::OtherName { names } => json!({ "fault": "other_name", "names": names }),
        CertificateFault::UnknownIssuer => json!({ "fault": "unknown_issuer" }),
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds since 1970.
fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
