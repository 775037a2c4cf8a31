//! What a connection keeps over all its sockets, and each of them works with.

use std::sync::{Arc, Weak};

use rand::rngs::SmallRng;
use tokio::runtime::Handle as Runtime;

use super::batch::Batch;
use super::members::Members;
use crate::engine::core::Core;
use crate::engine::registry::{Changes, Link};
use crate::engine::tools::Tools;
use crate::protocol::{Limits, Verdict};

pub(super) struct Context {
    pub(super) core: Weak<Core>,
    pub(super) link: Link,
    pub(super) members: Members,
    /// What the session itself said about the failure that is to be judged.
    pub(super) overruled: Option<Box<Verdict>>,
    pub(super) random: SmallRng,
    /// Starts the task of another connection.
    pub(super) spawn: fn(&Arc<Core>, &Runtime, Link, Option<u16>),
    pub(super) tools: Arc<Tools>,
}

impl Context {
    /// What has changed since the last call; `None` once the connection is not wanted.
    pub(super) fn changes(&self) -> Option<Changes> {
        self.core.upgrade()?.changes(self.link.id)
    }

    /// What a socket of the lane may carry and say.
    pub(super) fn limits(&self) -> Limits {
        self.tools.protocol.limits(&self.link.lane)
    }

    /// What one call of a session may ask for.
    pub(super) fn batch(&self) -> Batch {
        Batch::of(&self.limits())
    }
}
