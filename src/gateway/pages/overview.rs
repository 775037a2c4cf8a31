//! `GET /overview`: the numbers of the dashboard, as JSON.
//!
//! `?search=` is part of a name, `&sort=` a column and `&limit=` how many rows: of ten thousand streams
//! a page shows some. Listing the streams and judging their health is done once a second at most, for all who
//! look.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
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

/// How long what was seen is shown: a page asks once a second.
const FRESH: Duration = Duration::from_millis(900);

/// Rows in one answer, at most.
const MAX_ROWS: usize = 1000;

/// What the pages show.
pub(super) struct Pages {
    /// What was seen last, and when.
    seen: Mutex<Option<(Instant, Arc<Seen>)>>,
    shared: Arc<Shared>,
    timeline: Timeline,
}

impl Pages {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let timeline = Timeline::of(&shared.source.manager);
        Self { seen: Mutex::default(), shared: Arc::clone(shared), timeline }
    }

    /// What is to be seen, no older than [`FRESH`]. Who comes while somebody looks waits for that.
    fn seen(&self) -> Arc<Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some((at, seen)) if at.elapsed() < FRESH => Arc::clone(seen),
            _ => {
                let fresh = Arc::new(Seen::look(&self.shared));
                *seen = Some((Instant::now(), Arc::clone(&fresh)));
                fresh
            }
        }
    }
}

/// All that costs much to see.
struct Seen {
    health: Health,
    overall: String,
    rows: Vec<Row>,
    stats: HubStats,
}

impl Seen {
    fn look(shared: &Shared) -> Self {
        let manager = &shared.source.manager;
        let (stats, now) = (shared.hub.stats(), Instant::now());
        let clients = clients_by_name(&stats);
        let rows = manager.streams().into_iter().map(|info| row(&info, &clients, now)).collect();
        Self {
            health: manager.health(),
            overall: manager.status().current().to_string(),
            rows,
            stats,
        }
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
    /// How many more there are, by kind.
    left_out: BTreeMap<&'static str, usize>,
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
    let seen = pages.seen();
    let Seen { health, stats, .. } = &*seen;
    let search = asked.search.to_lowercase();
    let is_match = |row: &&Row| row.name.to_lowercase().contains(&search);
    let mut rows: Vec<&Row> = seen.rows.iter().filter(is_match).collect();
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
        health: verdict(health),
        matching,
        open_streams: health.open_streams,
        overall: seen.overall.clone(),
        rows: rows.into_iter().cloned().collect(),
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
    Verdict {
        findings: health.findings.iter().map(found).collect(),
        left_out: health.left_out.iter().map(|(kind, count)| (kind.label(), *count)).collect(),
        status: health.status.label(),
    }
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use serde_json::Value;

    use crate::gateway::handle::Gateway;
    use crate::manager::WsManager;
    use crate::message::Message;
    use crate::protocol::Direct;
    use crate::test_util::memory;

    use super::*;

    async fn look(router: &axum::Router, query: &str) -> Value {
        let request = http::Request::get(format!("/overview?{query}")).body(Body::empty()).unwrap();
        let answer = TowerToHyperService::new(router.clone()).call(request).await.unwrap();
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_look_at_the_same_time_see_the_same_and_a_second_later_what_is_new() {
        let (transport, _upstream) = memory::pair();
        let direct = Direct::new("ws://upstream").unwrap();
        let manager = WsManager::builder(direct).transport(transport).build().unwrap();
        let pages = Gateway::new(manager.clone()).pages();
        assert_eq!(look(&pages, "").await["streams"], 0);
        let _streams = ["one", "two"].map(|name| manager.subscribe::<Message>(name).unwrap());
        tokio::time::advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(look(&pages, "search=one").await["streams"], 0, "nothing was listed anew");
        tokio::time::advance(Duration::from_millis(1)).await;
        let seen = look(&pages, "search=one").await;
        assert_eq!((&seen["streams"], &seen["matching"]), (&2.into(), &1.into()));
        // Each has its own part of what is shared.
        let seen = look(&pages, "limit=1&sort=name").await;
        assert_eq!((&seen["matching"], &seen["rows"][0]["name"]), (&2.into(), &"one".into()));
        assert_eq!(seen["rows"].as_array().unwrap().len(), 1);
    }
}
