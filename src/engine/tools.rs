//! What the tasks of a manager work with.
//!
//! A task must not keep its manager: it holds a `Weak` of the core. What it needs at each turn is
//! here, and lives for as long as the manager or one of its tasks does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use super::bases::Bases;
use super::events::Log;
use super::limiter::Limiter;
use crate::config::{Config, RetryPolicy};
use crate::observe::{Event, Metrics};
use crate::protocol::Protocol;
use crate::transport::DynTransport;

pub(crate) struct Tools {
    pub(crate) bases: Bases,
    pub(crate) config: Arc<Config>,
    pub(crate) events: Arc<Log<Event>>,
    pub(crate) limiter: Limiter,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) retry: Arc<RetryPolicy>,
    /// Sleeps of the machine that any connection has noticed.
    pub(crate) sleeps: Arc<AtomicU64>,
    pub(crate) transport: Arc<dyn DynTransport>,
    /// The wall clock, for dates only.
    pub(crate) wall: fn() -> SystemTime,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").finish_non_exhaustive()
    }
}
