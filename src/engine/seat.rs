//! A claim on a topic, given back on drop: on any thread, inside a runtime or not.

use std::sync::Arc;

use super::core::Core;
use super::registry::{Kind, Link};
use super::sweeper;
use super::topic::{Reader, Topic};
use crate::error::SubscribeError;
use crate::name::StreamName;

pub(crate) struct Seat {
    core: Arc<Core>,
    kind: Kind,
    topic: Arc<Topic>,
}

impl Seat {
    /// Takes a seat on `name`. A returned [`Link`] is a new connection for the caller to run.
    pub(crate) fn take(
        core: &Arc<Core>,
        name: &StreamName,
        kind: Kind,
        can_open: bool,
    ) -> Result<(Self, Option<Link>), SubscribeError> {
        let (topic, link) = core.join(name, kind, can_open)?;
        let seat = Self { core: Arc::clone(core), kind, topic };
        if core.has_due() {
            sweeper::start(core); // Its runtime may have gone.
        }
        Ok((seat, link))
    }

    pub(crate) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    pub(crate) fn read(&self) -> Reader {
        self.topic.read()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.core.leave(&self.topic, self.kind) {
            sweeper::wake(&self.core);
        }
    }
}
