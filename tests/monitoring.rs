//! The files in `monitoring/` ask for what there is: every metric, label and value that a query
//! names is in the text of a manager, a pool or a gateway, every metric has a panel, and every alert has an entry in
//! the runbook.

#![cfg(all(feature = "cache", feature = "gateway"))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use futures::future::FutureExt as _;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use wsmux::gateway::auth::{ApiKeys, Auth};
use wsmux::gateway::{Doors as _, Entrance, Gateway, Ops};
use wsmux::protocol::Direct;
use wsmux::test_util::memory::{self, MemoryServer};
use wsmux::{Config, Limiter, Message, WsManager};

const DASHBOARD: &str = include_str!("../monitoring/grafana-dashboard.json");
const ALERTS: &str = include_str!("../monitoring/alerts.yml");
const CASES: &str = include_str!("../monitoring/alerts.test.yml");
const OPERATIONS: &str = include_str!("../docs/operations.md");

#[tokio::test(start_paused = true)]
async fn every_query_of_the_dashboard_asks_for_what_there_is() {
    let shown = Shown::read(&text().await);
    let queries = dashboard_queries(DASHBOARD);
    assert!(queries.len() > 25, "only {} queries were found", queries.len());
    for query in queries {
        assert_eq!(shown.check(&query), Ok(()), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_alert_asks_for_what_there_is_and_says_what_to_do() {
    let shown = Shown::read(&text().await);
    let alerts: Vec<_> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 6, "only {} alerts were found", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let field = |name: &str| alert.split_once(&format!("{name}: ")).map(|(_, rest)| rest);
        let query = field("expr").unwrap().lines().next().unwrap();
        assert_eq!(shown.check(query), Ok(()), "{name}");
        for needed in ["for", "severity", "summary", "description"] {
            assert!(field(needed).is_some(), "{name} has no {needed}");
        }
        // A case that raises it, and one that does not.
        let cases = format!("alertname: {name}\n        exp_alerts:");
        let quiet = CASES.matches(&format!("{cases} []")).count();
        let cases = CASES.matches(&cases).count();
        assert!(quiet > 0 && cases > quiet, "{name}: {cases} cases, {quiet} without an alert");
    }
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() {
    let alerts = ALERTS.split("- alert: ").skip(1);
    let mut alerts: Vec<_> = alerts.map(|alert| alert.lines().next().unwrap()).collect();
    alerts.sort_unstable();
    assert_eq!(runbook(OPERATIONS), alerts);
    let without = OPERATIONS.replace("| `WsmuxReaderLag` |", "| `WsmuxReaderLags` |");
    assert_ne!(without, OPERATIONS);
    assert_ne!(runbook(&without), alerts, "one that is missing is noticed");
}

/// The alerts that the page has an entry for: a row of a table that begins with its name.
fn runbook(page: &str) -> Vec<&str> {
    let names = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("Wsmux")).collect();
    names.sort_unstable();
    names
}

#[tokio::test(start_paused = true)]
async fn a_query_for_what_there_is_not_is_noticed() {
    let shown = Shown::read(&text().await);
    assert_eq!(
        shown.check(r#"sum by (manager) (ws_manager_streams{status=~"open|joining"})"#),
        Ok(())
    );
    for (query, what) in [
        ("rate(ws_manager_message_total[5m])", "ws_manager_message_total"),
        ("rate(ws_manager_handshake_seconds_buckets[5m])", "ws_manager_handshake_seconds_buckets"),
        ("ws_manager_handshake_seconds", "ws_manager_handshake_seconds"),
        ("foo_total", "foo_total"),
        (r#"ws_manager_streams{state="open"}"#, "state"),
        (r#"ws_manager_streams{status="opened"}"#, "opened"),
        (r#"ws_manager_streams{status!~"open|closed"}"#, "closed"),
        ("sum by (cause) (ws_manager_disconnects_total)", "cause"),
        ("sum without (statuses) (ws_manager_streams)", "statuses"),
        ("ws_gateway_client", "ws_gateway_client"),
        ("sum by (kind) (ws_gateway_client offset 10m)", "ws_gateway_client"),
        (r#"ws_gateway_refused_total{reason=~"full|fool"}"#, "fool"),
    ] {
        assert_eq!(shown.check(query), Err(what.to_owned()), "{query}");
    }
    let misspelt = DASHBOARD.replacen("ws_manager_gaps_total", "ws_manager_gap_total", 1);
    assert_ne!(misspelt, DASHBOARD);
    assert!(dashboard_queries(&misspelt).iter().any(|query| shown.check(query).is_err()));
}

#[tokio::test(start_paused = true)]
async fn every_metric_has_a_panel() {
    let text = text().await;
    let queries = dashboard_queries(DASHBOARD).concat();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let missing: Vec<_> = families
        .map(|line| line.split(' ').next().unwrap())
        .filter(|family| !queries.contains(family))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(39));
    assert_eq!((&dashboard["title"], &dashboard["uid"]), (&"wsmux".into(), &"wsmux".into()));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|v| (&v["name"], &v["type"])).collect();
    let expected =
        [(&"datasource".into(), &"datasource".into()), (&"manager".into(), &"query".into())];
    assert_eq!(names, expected);

    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title}");
        for (x, y) in (at("x")..at("x") + at("w"))
            .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert((x, y)), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        for part in panel["targets"].as_array().unwrap().iter().chain([panel]) {
            assert_eq!(part["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

/// The checks of `promtool` are the script's; this is what it reads.
#[tokio::test(start_paused = true)]
async fn the_texts_are_written_for_promtool() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join("metrics.prom"), managers().await).unwrap();
    fs::write(folder.join("gateway.prom"), gateway().await).unwrap();
}

/// All that there is: the text of managers, and what a gateway writes beside its own manager's.
async fn text() -> String {
    let gateway = gateway().await;
    let own = gateway.find("# HELP ws_gateway").expect("it writes of itself");
    managers().await + pools().await.as_str() + &gateway[own..]
}

/// What a pool writes, without its manager.
async fn pools() -> String {
    use wsmux::requests::{CacheConfig, RequestPool};

    let (transport, _server) = memory::pair();
    let pool = RequestPool::builder(Direct::new("ws://test/").unwrap(), "x")
        .cache(CacheConfig::default())
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).label("pool"))
        .build()
        .unwrap();
    let text = wsmux::requests::prometheus([], [&pool]);
    let own = text.find("# HELP ws_request").expect("it writes of itself");
    text[own..].to_owned()
}

/// The same of pools, and of a manager beside them.
#[tokio::test(start_paused = true)]
async fn the_text_of_pools_is_written_for_promtool() {
    use wsmux::requests::{CacheConfig, Call, RequestPool};

    let pool = |label: &str| {
        let builder = RequestPool::builder(Direct::new("ws://test/").unwrap(), "x");
        let (transport, server) = memory::pair();
        let label = label.to_owned();
        let builder = builder
            .cache(CacheConfig::default())
            .manager(|manager| manager.transport(transport).limiter(Limiter::new()).label(label));
        (builder.build().unwrap(), server)
    };
    let (spot, mut server) = pool(r#"sp"ot\x"#);
    let (other, _other_server) = pool("other");
    let (feed, _feed_server) = manager("feed");
    let asked = spot.request(Call::new("a").cached());
    let (refused, _peer) = futures::join!(asked, server.accept());
    refused.unwrap_err();
    let text = wsmux::requests::prometheus([&feed, spot.manager()], [&spot, &spot.clone(), &other]);
    for line in [
        r#"ws_request_pool_requests_total{manager="sp\"ot\\x",outcome="unsent"} 1"#,
        r#"ws_request_cache_misses_total{manager="sp\"ot\\x"} 1"#,
        r#"ws_request_cache_misses_total{manager="other"} 0"#,
        r#"ws_manager_readers{manager="feed"} 0"#,
    ] {
        assert_eq!(text.lines().filter(|shown| *shown == line).count(), 1, "{line}\n{text}");
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pools.prom");
    fs::write(path, text).unwrap();
}

/// What two managers write, of which one has seen much.
async fn managers() -> String {
    let (spot, mut server) = manager("spot");
    let (futures, _futures_server) = manager(r#"fu"tu\res"#);
    let _waiting = futures.subscribe::<Message>("x").unwrap();
    let _alive = see_much(&spot, &mut server).await;
    wsmux::prometheus([&spot, &futures])
}

/// `/metrics` of a gateway with a user.
async fn gateway() -> String {
    let (manager, _server) = manager("gateway");
    let mut keys = ApiKeys::new();
    keys.add("ann", "the-key-of-ann-0123456789").unwrap();
    let entrance = Entrance::builder().auth(Auth::new().api_keys(keys)).build();
    let ops = Ops::new(Gateway::new(manager)).entrance(entrance.clone());
    let ask = Request::get("/ws").header("authorization", "Bearer the-key-of-ann-0123456789");
    let (parts, ()) = ask.body(()).unwrap().into_parts();
    let _visitor = entrance.admit(&parts, None).await.expect("she has a key");
    let ask = Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = TowerToHyperService::new(ops.admin()).call(ask).await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(text.to_vec()).unwrap()
}

fn manager(label: &str) -> (WsManager, MemoryServer) {
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(Direct::new("ws://test/").unwrap()).transport(transport);
    let builder = builder.config(Config::default().buffer(2)).limiter(Limiter::new()).seed(7);
    (builder.label(label).metrics_per_stream(2).build().unwrap(), server)
}

async fn see_much(manager: &WsManager, server: &mut MemoryServer) -> impl Sized + use<> {
    let settle = || tokio::time::sleep(Duration::from_millis(1));
    let mut alive = Vec::new();
    for name in [r"back\slash", r#"quo"te"#, "one too many"] {
        let mut stream = manager.subscribe::<u64>(name).unwrap();
        drop(server.dial().await);
        drop(server.accept().await);
        let peer = server.accept().await;
        settle().await;
        peer.send_all(["1", "2", "3", "bad"]);
        settle().await;
        while stream.recv().now_or_never().is_some() {}
        alive.push((stream, peer));
    }
    let seen = manager.metrics();
    assert!(seen.lagged > 0 && seen.decode_errors > 0 && seen.retries > 0, "{seen:?}");
    alive
}

/// The expressions that the dashboard asks for, its variables included.
fn dashboard_queries(dashboard: &str) -> Vec<String> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if ["expr", "definition"].contains(&&**name) => {
                            queries.push(text.clone());
                        }
                        value => collect(value, queries),
                    }
                }
            }
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(dashboard).unwrap(), &mut queries);
    queries
}

/// What is in a text: names of series, their labels, and the values of these.
struct Shown(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Shown {
    fn read(text: &str) -> Self {
        let mut shown = BTreeMap::<String, BTreeMap<String, BTreeSet<String>>>::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let tokens = tokens(line);
            let labels = shown.entry(tokens[0].clone()).or_default();
            for label in tokens.windows(3).filter(|three| three[1] == "=") {
                labels.entry(label[0].clone()).or_default().insert(label[2].clone());
            }
        }
        Self(shown)
    }

    /// Checks a query; the error is the first word in it that stands for nothing.
    fn check(&self, query: &str) -> Result<(), String> {
        let tokens = tokens(query);
        // Not a function's name, nor an operator's.
        let is_metric = |at: usize| {
            let next = tokens.get(at + 1).map_or("", |next| &**next);
            is_word(&tokens[at]) && !["(", "by", "without"].contains(&next)
        };
        // Where a list of labels is, in braces or behind a word: what is in it is no metric.
        let mut list: Option<&str> = None;
        let mut metrics = Vec::new();
        let mut grouped = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            match &**token {
                "{" => list = Some("}"),
                "(" if at > 0 && GROUPING.contains(&&*tokens[at - 1]) => list = Some(")"),
                end if list == Some(end) => list = None,
                "label_values" => metrics.push(&tokens[at + 2]),
                word if list == Some(")") && is_word(word) => grouped.push(token),
                word if list == Some("}") && is_word(word) && is_matcher(tokens.get(at + 1)) => {
                    let metric = metrics.last().ok_or_else(|| word.to_owned())?;
                    self.check_label(metric, word, &tokens[at + 1], &tokens[at + 2])?;
                }
                word if list.is_none() && is_metric(at) && !KEYWORDS.contains(&word) => {
                    if tokens.get(at.wrapping_sub(1)).is_some_and(|before| before == ",")
                        && query.starts_with("label_values")
                    {
                        grouped.push(token);
                    } else {
                        metrics.push(token);
                    }
                }
                _ => {}
            }
        }
        let mut labels = BTreeSet::new();
        for metric in metrics {
            labels.extend(self.0.get(metric).ok_or_else(|| metric.clone())?.keys());
        }
        if let Some(label) = grouped.into_iter().find(|label| !labels.contains(label)) {
            return Err(label.clone());
        }
        Ok(())
    }

    /// Checks `metric{label op "value"}`.
    fn check_label(&self, metric: &str, label: &str, op: &str, value: &str) -> Result<(), String> {
        let values = self.0.get(metric).ok_or_else(|| metric.to_owned())?;
        let values = values.get(label).ok_or_else(|| label.to_owned())?;
        if value.starts_with('$') {
            return Ok(()); // A variable of the dashboard.
        }
        let mut asked: Box<dyn Iterator<Item = &str>> = match op {
            "=~" | "!~" => Box::new(value.split('|')),
            _ => Box::new(std::iter::once(value)),
        };
        asked.find(|value| !values.contains(*value)).map_or(Ok(()), |value| Err(value.to_owned()))
    }
}

const GROUPING: [&str; 4] = ["by", "ignoring", "on", "without"];
const KEYWORDS: [&str; 9] =
    ["and", "by", "ignoring", "offset", "on", "or", "unless", "without", "m"];

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
}

fn is_matcher(token: Option<&String>) -> bool {
    token.is_some_and(|token| ["=", "!=", "=~", "!~"].contains(&&**token))
}

/// Words, numbers, strings without their quotes, and marks. What is in brackets is left out.
fn tokens(query: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        let is_part = |c: char| c == '_' || c == '.' || c == ':' || c.is_ascii_alphanumeric();
        let end = match c {
            '"' => {
                let end = closing_quote(rest);
                tokens.push(rest[1..end].to_owned());
                end + 1
            }
            '[' => rest.find(']').unwrap() + 1,
            c if c.is_whitespace() => c.len_utf8(),
            c if is_part(c) => {
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                tokens.push(rest[..end].to_owned());
                end
            }
            c => {
                let two =
                    ["!=", "=~", "!~", ">=", "<=", "=="].iter().any(|op| rest.starts_with(op));
                let end = if two { 2 } else { c.len_utf8() };
                tokens.push(rest[..end].to_owned());
                end
            }
        };
        rest = &rest[end..];
    }
    tokens
}

/// Where the string at the start of `text` ends.
fn closing_quote(text: &str) -> usize {
    let mut escaped = true;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at,
            _ => {}
        }
    }
    panic!("no closing quote: {text}");
}
