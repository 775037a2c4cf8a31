//! What all parts of a gateway have.

use std::sync::Arc;

use super::config::GatewayConfig;
use super::doors::Doors;
use super::hub::Hub;
use crate::manager::WsManager;
use crate::name::StreamName;

/// What clients' names stand for.
pub(super) type Names = dyn Fn(&StreamName) -> Option<StreamName> + Send + Sync;

pub(super) struct Shared {
    pub(super) config: GatewayConfig,
    #[expect(dead_code, reason = "the routes ask it")]
    pub(super) doors: Arc<dyn Doors>,
    pub(super) hub: Arc<Hub>,
    pub(super) manager: WsManager,
    #[expect(dead_code, reason = "the routes ask it")]
    pub(super) names: Arc<Names>,
}
