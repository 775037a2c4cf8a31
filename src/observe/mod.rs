//! What an operator sees: status, events, counters, health. Plain data; who tells it whom is the
//! engine's business.

mod activity;
mod event;
mod handover;
pub(crate) mod health;
mod latency;
mod metrics;
mod status;
mod window;

pub use activity::Activity;
pub use event::Event;
pub use handover::HandoverReason;
pub use health::{
    Cause, Diagnosis, Figure, Finding, FindingKind, Health, HealthChange, HealthStatus, Severity,
    Thresholds,
};
pub(crate) use latency::Delays;
pub use latency::Latency;
#[cfg(feature = "prometheus")]
pub(crate) use metrics::render;
pub use metrics::{DurationHistogram, ManagerMetrics, StreamCounts, StreamStates};
pub(crate) use metrics::{Metrics, Series, switch_counted};
pub use status::{ConnectionId, Overall, Status, StreamInfo};
pub use window::Lately;
pub(crate) use window::nanos;
