//! `/stats`: what is going on, for people and dashboards.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::time::Instant;

use super::handle::{Ops, Sample};
use super::metrics;
use crate::gateway::hub::{HubStats, Laggard};

/// How many of each list are shown.
const SHOWN: usize = 100;

/// Rates are over at least this.
const LEAST: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Stats {
    batches: usize,
    clients: usize,
    connections: Option<usize>,
    connections_by_tier: BTreeMap<String, usize>,
    cut_off: u64,
    delivered: u64,
    /// Per second, since the last time that somebody asked; not the first time.
    delivered_per_second: Option<f64>,
    /// WebSocket clients, the one that waits longest first.
    laggards: Vec<Behind>,
    missed: u64,
    /// The same for those that slow clients missed.
    missed_per_second: Option<f64>,
    names: Vec<Name>,
    names_total: usize,
    ready: bool,
    refused: BTreeMap<&'static str, u64>,
    sse: usize,
    streams: Vec<Stream>,
    users_by_tier: BTreeMap<String, usize>,
}

#[derive(Serialize)]
struct Behind {
    missed: u64,
    stuck_seconds: f64,
    user: String,
    waiting_bytes: usize,
}

impl From<&Laggard> for Behind {
    fn from(laggard: &Laggard) -> Self {
        Self {
            missed: laggard.missed,
            stuck_seconds: laggard.stuck_for.as_secs_f64(),
            user: laggard.user.to_string(),
            waiting_bytes: laggard.waiting,
        }
    }
}

#[derive(Serialize)]
struct Name {
    name: String,
    readers: usize,
}

/// An upstream stream, the one with the slowest reader first.
#[derive(Serialize)]
struct Stream {
    gaps: u64,
    lag: u64,
    messages: u64,
    name: String,
    open: bool,
    readers: usize,
}

pub(super) async fn serve(State(ops): State<Ops>, RawQuery(query): RawQuery) -> Response {
    let wants_text = query.is_some_and(|q| q.split('&').any(|pair| pair == "format=prometheus"));
    if wants_text {
        return metrics::serve(State(ops)).await;
    }
    Json(stats(&ops)).into_response()
}

fn stats(ops: &Ops) -> Stats {
    let hub = ops.gateway.stats();
    let entrance = ops.entrance.as_ref();
    let users = entrance.map(|entrance| entrance.tiers().users()).unwrap_or_default();
    let names = hub.names.iter().take(SHOWN);
    let by_tier = entrance.map(|entrance| entrance.connections_by_tier()).unwrap_or_default();
    let rates = rates(ops, &hub);
    Stats {
        batches: hub.batches,
        clients: hub.clients,
        connections: entrance.map(|entrance| entrance.connections()),
        connections_by_tier: by_tier.into_iter().map(|(tier, n)| (tier.to_string(), n)).collect(),
        cut_off: hub.cut_off,
        delivered: hub.delivered,
        delivered_per_second: rates.map(|[delivered, _]| delivered),
        laggards: hub.laggards.iter().map(Behind::from).collect(),
        missed: hub.missed,
        missed_per_second: rates.map(|[_, missed]| missed),
        names: names.map(|n| Name { name: n.name.to_string(), readers: n.readers }).collect(),
        names_total: hub.names.len(),
        ready: ops.is_ready(),
        refused: entrance.map(|entrance| entrance.refused().into()).unwrap_or_default(),
        sse: hub.sse,
        streams: streams(ops),
        users_by_tier: users.into_iter().map(|(tier, n)| (tier.to_string(), n)).collect(),
    }
}

fn streams(ops: &Ops) -> Vec<Stream> {
    let mut streams = ops.gateway.manager().streams();
    streams.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.name.cmp(&b.name)));
    streams.truncate(SHOWN);
    let stream = |info: &crate::observe::StreamInfo| Stream {
        gaps: info.gaps,
        lag: info.lag,
        messages: info.messages,
        name: info.name.to_string(),
        open: info.status.is_open(),
        readers: info.readers,
    };
    streams.iter().map(stream).collect()
}

/// What was delivered and missed per second since the sample before, which is replaced once it is a second old.
fn rates(ops: &Ops, hub: &HubStats) -> Option<[f64; 2]> {
    let (now, counted) = (Instant::now(), [hub.delivered, hub.missed]);
    let mut last = ops.shared.sample.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(before) = *last else {
        *last = Some(Sample { at: now, counted, rates: None });
        return None;
    };
    let passed = now - before.at;
    if passed < LEAST {
        return before.rates;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate =
        |of: usize| counted[of].saturating_sub(before.counted[of]) as f64 / passed.as_secs_f64();
    let rates = Some([rate(0), rate(1)]);
    *last = Some(Sample { at: now, counted, rates });
    rates
}
