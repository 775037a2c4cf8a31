//! Health in the form of `application/health+json`, the draft "Health Check Response Format for HTTP
//! APIs" (draft-inadarei-api-health-check-06).
//!
//! Findings are grouped by kind under `checks`, keyed `component:measurement` as the draft has it;
//! the stream is the `componentId`. Figures that are always there come first, and pass.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Figure, Finding, FindingKind, Health, HealthStatus};

impl Health {
    /// This in the form of `application/health+json`, for an HTTP endpoint. The draft has `pass`
    /// and `warn` answered with status 200 and `fail` with 503.
    ///
    /// A liveness probe should not look at it: a restart mends no venue.
    ///
    /// ```
    /// # use wsmux::WsManager;
    /// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
    /// let body = manager.health().to_json();
    /// assert!(body.starts_with(r#"{"status":"pass","#));
    /// # Ok::<(), wsmux::BuildError>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        // Neither a key that is no string nor a failing writer is among what can go wrong.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", self.status.label())?;
        map.serialize_entry("checks", &Checks(self))?;
        if !self.left_out.is_empty() {
            let note = |(kind, count): (&FindingKind, &usize)| {
                format!("{count} more of {} were left out", kind.label())
            };
            let notes: Vec<_> = self.left_out.iter().map(note).collect();
            map.serialize_entry("notes", &notes)?;
        }
        map.end()
    }
}

struct Checks<'a>(&'a Health);

impl Serialize for Checks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let health = self.0;
        let mut map = serializer.serialize_map(None)?;
        for (key, figure) in [
            ("manager:uptime", Figure::Duration(health.uptime)),
            ("manager:connections", Figure::Count(health.connections as u64)),
            ("manager:streams", Figure::Count(health.streams as u64)),
            ("manager:open_streams", Figure::Count(health.open_streams as u64)),
            ("manager:retries_per_second", Figure::PerSecond(health.activity.retries.per_second())),
        ] {
            map.serialize_entry(key, &[Check::Passing(figure)])?;
        }
        let mut kinds: BTreeMap<FindingKind, Vec<Check<'_>>> = BTreeMap::new();
        for finding in &health.findings {
            kinds.entry(finding.kind).or_default().push(Check::Found(finding));
        }
        for (kind, checks) in kinds {
            map.serialize_entry(&format!("finding:{}", kind.label()), &checks)?;
        }
        map.end()
    }
}

enum Check<'a> {
    Found(&'a Finding),
    Passing(Figure),
}

impl Serialize for Check<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (figure, status) = match self {
            Self::Found(finding) => (finding.figure, finding.severity.into()),
            Self::Passing(figure) => (*figure, HealthStatus::Pass),
        };
        let mut map = serializer.serialize_map(None)?;
        if let Self::Found(Finding { stream: Some(stream), .. }) = self {
            map.serialize_entry("componentId", stream.as_str())?;
        }
        match figure {
            Figure::Count(n) => map.serialize_entry("observedValue", &n)?,
            figure => map.serialize_entry("observedValue", &figure.value())?,
        }
        if !figure.unit().is_empty() {
            map.serialize_entry("observedUnit", figure.unit())?;
        }
        map.serialize_entry("status", status.label())?;
        if let Self::Found(finding) = self {
            let output = format!("{}. {}", finding.summary(), finding.advice());
            map.serialize_entry("output", &output)?;
        }
        map.end()
    }
}
