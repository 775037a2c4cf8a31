//! How a gateway is made: its collaborators.

use std::fmt;
use std::sync::Arc;

use super::config::GatewayConfig;
use super::doors::{Doors, Open};
use super::feed::{Names, Source};
use super::handle::Gateway;
use super::shared::Shared;
use crate::manager::WsManager;
use crate::name::StreamName;

/// Builds a [`Gateway`]; made by [`Gateway::builder`].
#[must_use]
pub struct GatewayBuilder {
    config: GatewayConfig,
    doors: Arc<dyn Doors>,
    manager: WsManager,
    names: Arc<Names>,
}

impl Gateway {
    /// A gateway to the streams of `manager`, open to everybody, with defaults.
    #[must_use]
    pub fn new(manager: WsManager) -> Self {
        Self::builder(manager).build()
    }

    /// Starts to build a gateway.
    pub fn builder(manager: WsManager) -> GatewayBuilder {
        GatewayBuilder {
            config: GatewayConfig::default(),
            doors: Arc::new(Open),
            manager,
            names: Arc::new(|name| Some(name.clone())),
        }
    }
}

impl GatewayBuilder {
    /// Sets how it serves. Values that cannot work are brought to the next that can.
    pub fn config(mut self, config: GatewayConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets who is let in, in place of [`Open`].
    pub fn doors(mut self, doors: impl Doors) -> Self {
        self.doors = Arc::new(doors);
        self
    }

    /// Sets what a client's name stands for: the name to ask the manager for, or `None` where clients
    /// may not read it. By default each stands for itself.
    ///
    /// A name is asked about when a client subscribes; what clients are sent bears the name that they
    /// asked for. Names of [publishers](Gateway::publisher) are not asked about.
    pub fn names(
        mut self,
        names: impl Fn(&StreamName) -> Option<StreamName> + Send + Sync + 'static,
    ) -> Self {
        self.names = Arc::new(names);
        self
    }

    /// Builds the gateway. Opens nothing: a name is opened for its first client.
    #[must_use]
    pub fn build(self) -> Gateway {
        let source = Source { manager: self.manager, names: self.names, own: Arc::default() };
        Gateway::of(Shared::new(self.config.sane(), self.doors, source))
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder")
            .field("config", &self.config)
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}
