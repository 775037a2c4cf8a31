//! The operators' side, as a program holds it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use crate::config::Secret;
use crate::gateway::entrance::Entrance;
use crate::gateway::handle::Gateway;

/// The operators' side of a [`Gateway`]. Cloning is cheap: all clones are the same.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::gateway::{Gateway, Ops};
///
/// let gateway = Gateway::new(WsManager::connect("wss://stream.example.com/ws")?);
/// let ops = Ops::new(gateway.clone()).token("a token of the operator's");
/// let public = gateway.router().merge(ops.public());
/// let admin = ops.admin(); // for a listener on loopback
/// ops.set_ready(true);
/// # let _ = (public, admin);
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Ops {
    pub(super) entrance: Option<Entrance>,
    pub(super) gateway: Gateway,
    pub(super) shared: Arc<Shared>,
    /// The hash of the token.
    pub(super) token: Option<Arc<[u8]>>,
}

#[derive(Default)]
pub(super) struct Shared {
    ready: AtomicBool,
    pub(super) sample: Mutex<Option<Sample>>,
}

/// What had been counted at some time.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// What was delivered and what was missed.
    pub(super) counted: [u64; 2],
    /// The same per second, before that.
    pub(super) rates: Option<[f64; 2]>,
}

impl Ops {
    /// The operators' side of `gateway`. It is not ready before that is [said](Self::set_ready).
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self { entrance: None, gateway, token: None, shared: Arc::default() }
    }

    /// Sets who lets clients in, to be told of in metrics.
    #[must_use]
    pub fn entrance(mut self, entrance: Entrance) -> Self {
        self.entrance = Some(entrance);
        self
    }

    /// Sets the token that operators show in `Authorization: Bearer`. Its hash is kept.
    #[must_use]
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(hash(token.into().expose()).into());
        self
    }

    /// Sets whether clients may be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::Release);
    }

    /// Whether clients may be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }
}

pub(super) fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops")
            .field("gateway", &self.gateway)
            .field("ready", &self.is_ready())
            .field("token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}
