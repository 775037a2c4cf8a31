//! `POST /batch`: of whom clients may ask what.
//!
//! - A client names a method, and may give it parameters. What is sent is made here, and only for a method
//!   that the configuration names: a client chooses neither the address nor any other field.
//! - The connections are a pool of their own, beside those of the streams.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};
use wsmux::StreamName;
use wsmux::gateway::{BatchRequest, GatewayBuilder};
use wsmux::protocol::{BinanceApi, JsonRpc, TradingView};
use wsmux::requests::{Call, PoolConfig, Pooled, RequestPool, RequestPoolBuilder};

use super::config::{Batch, BatchSpeaks, File, wrong};
use crate::exit::Failure;

/// What the pool's connections are called in metrics and on the dashboard.
const LABEL: &str = "batch";

/// What TradingView can be asked: its parameters are all of the request.
const HISTORY: &str = "history";

/// Where clients' requests go, and which may.
pub(super) struct Batches {
    allowed: Arc<RwLock<Allowed>>,
    pool: RequestPool,
    speaks: BatchSpeaks,
}

/// What clients may ask.
#[derive(Debug)]
struct Allowed {
    idempotent: bool,
    methods: HashSet<String>,
    speaks: BatchSpeaks,
}

impl Allowed {
    /// What `config` allows, of a server that speaks so.
    fn of(config: &Batch, speaks: BatchSpeaks) -> Result<Self, Failure> {
        if config.methods.is_empty() {
            return Err(wrong("[batch] has no methods: nobody could ask anything"));
        }
        if let Some(method) =
            config.methods.iter().find(|method| StreamName::try_from(method.as_str()).is_err())
        {
            return Err(wrong(format!("[batch]: {method:?} is no method")));
        }
        let is_other = |method: &&String| *method != HISTORY;
        if let (BatchSpeaks::TradingView, Some(method)) =
            (speaks, config.methods.iter().find(is_other))
        {
            return Err(wrong(format!("[batch]: {method:?} is none of TradingView's methods"))
                .hint("it has one, `history`"));
        }
        let methods = config.methods.iter().cloned().collect();
        Ok(Self { idempotent: config.idempotent, methods, speaks })
    }

    /// What is sent for a method and its parameters.
    fn call(&self, method: &str, params: Option<Value>) -> Option<Call> {
        if !self.methods.contains(method) {
            return None;
        }
        let body = match (self.speaks, params) {
            (BatchSpeaks::TradingView, params) => params.unwrap_or_else(|| json!({})),
            (_, Some(params)) => json!({ "method": method, "params": params }),
            (_, None) => json!({ "method": method }),
        };
        let call = Call::new(body.to_string());
        Some(if self.idempotent { call.idempotent() } else { call })
    }
}

impl Batches {
    /// What the configuration says, if it says anything. Opens nothing.
    pub(super) fn of(file: &File) -> Result<Option<Self>, Failure> {
        let Some(config) = &file.batch else { return Ok(None) };
        let speaks = config.protocol;
        let allowed = Arc::new(RwLock::new(Allowed::of(config, speaks)?));
        Ok(Some(Self { allowed, pool: pool(config)?, speaks }))
    }

    /// The gateway, with them.
    pub(super) fn offer(&self, gateway: GatewayBuilder) -> GatewayBuilder {
        let allowed = Arc::clone(&self.allowed);
        gateway.batch(self.pool.clone(), move |asked: &BatchRequest<'_>| {
            let allowed = allowed.read().unwrap_or_else(PoisonError::into_inner);
            allowed.call(asked.name().as_str(), asked.params())
        })
    }

    /// What `file` allows, to be [taken](Self::take) once all of the file makes sense.
    pub(super) fn check(old: Option<&Self>, file: &File) -> Result<Option<Checked>, Failure> {
        match (old, &file.batch) {
            (None, None) => Ok(None),
            (Some(old), Some(config)) => {
                Allowed::of(config, old.speaks).map(|allowed| Some(Checked(allowed)))
            }
            _ => Err(wrong("whether there is a [batch] is that of the start")),
        }
    }

    pub(super) fn take(&self, checked: Checked) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = checked.0;
    }

    /// Closes the connections.
    pub(super) async fn end(&self) {
        self.pool.manager().shutdown().await;
    }
}

/// What is allowed from now on.
#[derive(Debug)]
pub(super) struct Checked(Allowed);

fn pool(config: &Batch) -> Result<RequestPool, Failure> {
    let unusable = |e: &(dyn std::error::Error + 'static)| wrong("[batch]").cause(e);
    let url = &config.url;
    let pool = match config.protocol {
        BatchSpeaks::BinanceApi => {
            let api = BinanceApi::spot().at(url).map_err(|e| unusable(&e))?;
            RequestPool::builder(api, LABEL)
        }
        BatchSpeaks::JsonRpc => {
            let rpc = JsonRpc::new(url).map_err(|e| unusable(&e))?;
            RequestPoolBuilder::of(Pooled::new(rpc).unjoined(), LABEL)
        }
        BatchSpeaks::TradingView => {
            let charts = TradingView::new(url).map_err(|e| unusable(&e))?;
            RequestPoolBuilder::of(Pooled::new(charts).unjoined(), LABEL)
        }
    };
    let mut settings = PoolConfig::default();
    settings.connections = config.connections.unwrap_or(settings.connections);
    settings.deadline = config.deadline.map_or(settings.deadline, |deadline| deadline.0);
    settings.in_flight = config.in_flight.unwrap_or(settings.in_flight);
    let pool = pool.config(settings).manager(|manager| manager.label(LABEL));
    pool.build().map_err(|e| unusable(&e))
}
