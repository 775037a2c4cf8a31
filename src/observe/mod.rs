//! What an operator sees: status, events, counters. Plain data; who tells it whom is the engine's
//! business.

mod event;
mod metrics;
mod status;

pub use event::Event;
pub use metrics::ManagerMetrics;
pub(crate) use metrics::Metrics;
pub use status::{ConnectionId, Overall, Status, StreamInfo};
