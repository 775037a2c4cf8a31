//! What is new since the last look.

use std::collections::HashMap;

use super::{Finding, FindingKind, Health, HealthStatus, Severity};
use crate::name::StreamName;

/// What has changed between two looks at a manager's health; yielded by
/// [`WsManager::diagnose_every`](crate::WsManager::diagnose_every).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthChange {
    /// Findings that were not there before, or have another severity, the most severe first. At
    /// most [`Health::PER_KIND`] of a kind; [`appeared_more`](Self::appeared_more) counts the
    /// others.
    pub appeared: Vec<Finding>,
    /// How many more have appeared.
    pub appeared_more: usize,
    /// Kind and stream of what is not there any more. At most [`Health::PER_KIND`] of a kind;
    /// [`resolved_more`](Self::resolved_more) counts the others.
    pub resolved: Vec<(FindingKind, Option<StreamName>)>,
    /// How many more are resolved.
    pub resolved_more: usize,
    /// The status now.
    pub status: HealthStatus,
}

/// The findings of the last look.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<Key, Severity>);

/// What makes two findings the same. A host is in no key: there are few, and the rule is one.
type Key = (FindingKind, Option<StreamName>);

impl Known {
    /// What the sorted `findings` bring that is new, if anything. All of them are looked at, so
    /// that none comes and goes because others are worse.
    pub(crate) fn change(&mut self, findings: &[Finding]) -> Option<HealthChange> {
        let key = |finding: &Finding| (finding.kind, finding.stream.clone());
        let mut now: HashMap<Key, Severity> = HashMap::with_capacity(findings.len());
        let mut appeared = Vec::new();
        for finding in findings {
            if now.contains_key(&key(finding)) {
                continue; // Sorted: the first is the worst.
            }
            now.insert(key(finding), finding.severity);
            if self.0.get(&key(finding)) != Some(&finding.severity) {
                appeared.push(finding);
            }
        }
        let mut resolved: Vec<_> =
            self.0.keys().filter(|key| !now.contains_key(key)).cloned().collect();
        resolved.sort_unstable();
        self.0 = now;
        if appeared.is_empty() && resolved.is_empty() {
            return None;
        }
        let (appeared, appeared_more) = few(appeared, |finding| finding.kind);
        let (resolved, resolved_more) = few(resolved, |(kind, _)| *kind);
        let worst = findings.iter().map(|finding| finding.severity.into()).max();
        Some(HealthChange {
            appeared: appeared.into_iter().cloned().collect(),
            appeared_more,
            resolved,
            resolved_more,
            status: worst.unwrap_or_default(),
        })
    }
}

/// The first of each kind, and the number of the others.
fn few<T>(all: Vec<T>, kind: impl Fn(&T) -> FindingKind) -> (Vec<T>, usize) {
    let mut seen: HashMap<FindingKind, usize> = HashMap::new();
    let before = all.len();
    let mut kept = all;
    kept.retain(|one| {
        let count = seen.entry(kind(one)).or_default();
        *count += 1;
        *count <= Health::PER_KIND
    });
    let more = before - kept.len();
    (kept, more)
}
