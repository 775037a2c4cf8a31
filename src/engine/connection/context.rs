//! What a connection keeps over all its sockets, and each of them works with.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use rand::rngs::SmallRng;
use tokio::runtime::Handle as Runtime;

use super::members::Members;
use crate::config::Config;
use crate::engine::core::Core;
use crate::engine::registry::{Changes, Link};
use crate::observe::Metrics;
use crate::protocol::{Protocol, Verdict};

pub(super) struct Context {
    pub(super) config: Arc<Config>,
    pub(super) core: Weak<Core>,
    pub(super) link: Link,
    pub(super) members: Members,
    pub(super) metrics: Arc<Metrics>,
    /// What the session itself said about the failure that is to be judged.
    pub(super) overruled: Option<Verdict>,
    pub(super) protocol: Arc<dyn Protocol>,
    pub(super) random: SmallRng,
    /// Sleeps of the machine that any connection has noticed.
    pub(super) sleeps: Arc<AtomicU64>,
    /// Starts the task of another connection.
    pub(super) spawn: fn(&Arc<Core>, &Runtime, Link),
    pub(super) wall: fn() -> SystemTime,
}

impl Context {
    /// What has changed since the last call; `None` once the connection is not wanted.
    pub(super) fn changes(&self) -> Option<Changes> {
        self.core.upgrade()?.changes(self.link.id)
    }

    /// Names per call of a session.
    pub(super) fn batch(&self) -> usize {
        self.protocol.limits(&self.link.lane).batch.unwrap_or(usize::MAX).max(1)
    }
}
