//! `GET /overview`: the numbers of the dashboard, as JSON.
//!
//! `?search=` is part of a name, `&sort=` a column and `&limit=` how many rows: of ten thousand streams
//! a page shows some. Each look costs as much as listing the streams and judging their health.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::timeline::{Timeline, Told, millis};
use crate::gateway::hub::HubStats;
use crate::gateway::shared::Shared;
use crate::observe::{Finding, Health, Latency, StreamInfo};

/// Rows in one answer, at most.
const MAX_ROWS: usize = 1000;

/// What the pages show.
pub(super) struct Pages {
    shared: Arc<Shared>,
    timeline: Timeline,
}

impl Pages {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), timeline: Timeline::of(&shared.source.manager) }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default = "some")]
    limit: usize,
    #[serde(default)]
    search: String,
    #[serde(default)]
    sort: Sort,
}

fn some() -> usize {
    100
}

/// What rows are sorted by, the highest first, but for names and statuses.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    Age,
    Clients,
    Gaps,
    Latency,
    Losses,
    Name,
    /// By messages: what a client counts a rate from.
    Rate,
    #[default]
    Readers,
    Status,
    Uptime,
}

#[derive(Debug, Serialize)]
struct Overview {
    clients: Clients,
    connections: usize,
    health: Verdict,
    /// Streams whose names match the search.
    matching: usize,
    open_streams: usize,
    overall: String,
    rows: Vec<Row>,
    streams: usize,
    timeline: Vec<Told>,
    uptime_ms: u64,
}

#[derive(Debug, Serialize)]
struct Clients {
    cut_off: u64,
    delivered: u64,
    missed: u64,
    sse: usize,
    websocket: usize,
}

#[derive(Debug, Serialize)]
struct Verdict {
    findings: Vec<Found>,
    status: &'static str,
}

#[derive(Debug, Serialize)]
struct Found {
    advice: &'static str,
    figure: String,
    kind: &'static str,
    severity: String,
    stream: Option<String>,
    threshold: String,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
struct Row {
    age_ms: Option<u64>,
    bytes: u64,
    clients: usize,
    gaps: u64,
    lost_lately: usize,
    messages: u64,
    name: String,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    readers: usize,
    status: &'static str,
    uptime_ms: Option<u64>,
}

pub(super) async fn overview(
    State(pages): State<Arc<Pages>>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    match pages.shared.admit(&parts, peer, &[]).await {
        Ok(_) => ([(CACHE_CONTROL, "no-store")], Json(look(&pages, &asked))).into_response(),
        Err(refused) => refused,
    }
}

fn look(pages: &Pages, asked: &Asked) -> Overview {
    let manager = &pages.shared.source.manager;
    let (health, stats, now) = (manager.health(), pages.shared.hub.stats(), Instant::now());
    let clients = clients_by_name(&stats);
    let search = asked.search.to_lowercase();
    let is_match = |row: &Row| row.name.to_lowercase().contains(&search);
    let rows = manager.streams().into_iter().map(|info| row(&info, &clients, now));
    let mut rows: Vec<Row> = rows.filter(is_match).collect();
    let matching = rows.len();
    rows.sort_by(|a, b| asked.sort.order(a, b).then_with(|| a.name.cmp(&b.name)));
    rows.truncate(asked.limit.min(MAX_ROWS));
    Overview {
        clients: Clients {
            cut_off: stats.cut_off,
            delivered: stats.delivered,
            missed: stats.missed,
            sse: stats.sse,
            websocket: stats.clients,
        },
        connections: health.connections,
        health: verdict(&health),
        matching,
        open_streams: health.open_streams,
        overall: manager.status().current().to_string(),
        rows,
        streams: health.streams,
        timeline: pages.timeline.told(),
        uptime_ms: millis(health.uptime),
    }
}

/// By the names that clients know, which are the manager's unless they were renamed.
fn clients_by_name(stats: &HubStats) -> HashMap<&str, usize> {
    stats.names.iter().map(|name| (name.name.as_str(), name.readers)).collect()
}

fn row(info: &StreamInfo, clients: &HashMap<&str, usize>, now: Instant) -> Row {
    let latency = |pick: fn(&Latency) -> Duration| {
        info.latency.as_ref().map(|latency| pick(latency).as_secs_f64() * 1000.0)
    };
    Row {
        age_ms: info.last_message.map(|at| millis(now.saturating_duration_since(at))),
        bytes: info.bytes,
        clients: clients.get(info.name.as_str()).copied().unwrap_or_default(),
        gaps: info.gaps,
        lost_lately: info.lost_lately,
        messages: info.messages,
        name: info.name.to_string(),
        p50_ms: latency(|latency| latency.p50),
        p99_ms: latency(|latency| latency.p99),
        readers: info.readers,
        status: info.status.label(),
        uptime_ms: info.uptime.map(millis),
    }
}

fn verdict(health: &Health) -> Verdict {
    let found = |finding: &Finding| Found {
        advice: finding.advice(),
        figure: finding.figure.to_string(),
        kind: finding.kind.label(),
        severity: finding.severity.to_string(),
        stream: finding.stream.as_ref().map(ToString::to_string),
        threshold: finding.threshold.to_string(),
    };
    Verdict { findings: health.findings.iter().map(found).collect(), status: health.status.label() }
}

impl Sort {
    fn order(self, a: &Row, b: &Row) -> Ordering {
        let highest =
            |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
        match self {
            Self::Age => b.age_ms.cmp(&a.age_ms),
            Self::Clients => b.clients.cmp(&a.clients),
            Self::Gaps => b.gaps.cmp(&a.gaps),
            Self::Latency => highest(a.p99_ms, b.p99_ms),
            Self::Losses => b.lost_lately.cmp(&a.lost_lately),
            Self::Name => Ordering::Equal,
            Self::Rate => b.messages.cmp(&a.messages),
            Self::Readers => (b.clients + b.readers).cmp(&(a.clients + a.readers)),
            Self::Status => a.status.cmp(b.status),
            Self::Uptime => b.uptime_ms.cmp(&a.uptime_ms),
        }
    }
}
