//! How a gateway is made: its collaborators.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "requests")]
use super::batch::{BatchRequest, Desk};
use super::config::GatewayConfig;
use super::doors::{Doors, Open};
use super::feed::{Names, Source};
use super::handle::Gateway;
use super::numbers::Numbers;
use super::positions::Positions;
use super::shared::Shared;
use crate::manager::WsManager;
use crate::name::StreamName;
#[cfg(feature = "requests")]
use crate::requests::{Call, RequestPool};

/// Builds a [`Gateway`]; made by [`Gateway::builder`].
#[must_use]
pub struct GatewayBuilder {
    #[cfg(feature = "requests")]
    batch: Option<Desk>,
    config: GatewayConfig,
    doors: Arc<dyn Doors>,
    manager: WsManager,
    names: Arc<Names>,
    positions: Option<Positions>,
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
            #[cfg(feature = "requests")]
            batch: None,
            config: GatewayConfig::default(),
            doors: Arc::new(Open),
            manager,
            names: Arc::new(|name| Some(name.clone())),
            positions: None,
        }
    }
}

impl GatewayBuilder {
    /// Has clients ask `pool` many things at once, by `POST /batch`, and hear of the results as events, as
    /// they come.
    ///
    /// `map` says what is sent for a request, or `None` where there is no such request for that visitor. A
    /// client names what it wants, and may say something beside it; what is made of that is the program's
    /// affair alone. The visitor [may read](super::Standing::may_read) the name already, so a tier's patterns
    /// hold. Called for each request, on the way of the answer: it should not wait for anything.
    ///
    /// A batch counts as a connection of its user until its results are read to the end; a client that goes
    /// away has the rest cancelled. How many requests and bytes there may be is in
    /// [`GatewayConfig`]. Without this, the gateway has no such route.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use wsmux::gateway::Gateway;
    /// use wsmux::protocol::Direct;
    /// use wsmux::requests::{Call, RequestPool};
    /// use wsmux::WsManager;
    ///
    /// #[derive(Deserialize)]
    /// struct Chart {
    ///     bars: u16,
    /// }
    ///
    /// let pool = RequestPool::new(Direct::new("wss://charts.example.com")?, "ws")?;
    /// let gateway = Gateway::builder(WsManager::connect("wss://stream.example.com/ws")?)
    ///     .batch(pool, |asked| {
    ///         let symbol = asked.name().as_str().strip_prefix("chart/")?;
    ///         let known = ["BTCUSDT", "ETHUSDT"].into_iter().find(|known| *known == symbol)?;
    ///         let bars = asked.params::<Chart>().map_or(100, |chart| chart.bars.min(1000));
    ///         Some(Call::new(format!(r#"{{"symbol":"{known}","bars":{bars}}}"#)).idempotent())
    ///     })
    ///     .build();
    /// # let _ = gateway;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "requests")]
    #[cfg_attr(docsrs, doc(cfg(feature = "requests")))]
    pub fn batch(
        mut self,
        pool: RequestPool,
        map: impl Fn(&BatchRequest<'_>) -> Option<Call> + Send + Sync + 'static,
    ) -> Self {
        self.batch = Some(Desk::new(pool, Box::new(map)));
        self
    }

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

    /// Gives events ids after those of an earlier gateway, which has told its
    /// [`positions`](Gateway::positions).
    ///
    /// No id is given again then, if all that the earlier one has given are within `positions`: see
    /// [`Positions::later`]. Who shows one of them is told of a gap, as what came meanwhile is not to be had.
    /// Without this ids are told apart by chance, of which there are 2⁶⁴ for each gateway.
    pub fn ids_after(mut self, positions: Positions) -> Self {
        self.positions = Some(positions);
        self
    }

    /// Builds the gateway. Opens nothing: a name is opened for its first client.
    #[must_use]
    pub fn build(self) -> Gateway {
        let source = Source { manager: self.manager, names: self.names, own: Arc::default() };
        let numbers = self.positions.map_or_else(Numbers::default, Numbers::after);
        let shared = Shared::new(self.config.sane(), self.doors, source, numbers);
        #[cfg(feature = "requests")]
        let shared = shared.with_batch(self.batch);
        Gateway::of(shared)
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
