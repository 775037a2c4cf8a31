//! `/metrics`: the library's text, that of the pool of batches included, and the gateway's families behind it.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};

use super::handle::Ops;

/// Prometheus, exposition formats, text format 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn serve(State(ops): State<Ops>) -> Response {
    ([(CONTENT_TYPE, TEXT)], text(&ops)).into_response()
}

/// Values, each by the value of one label, if any.
type Samples = Vec<(Option<(&'static str, String)>, u64)>;

pub(super) fn text(ops: &Ops) -> String {
    let mut text = ops.gateway.prometheus();
    let stats = ops.gateway.stats();
    let one = |value: u64| vec![(None, value)];
    let kinds = vec![
        (Some(("kind", "batch".to_owned())), stats.batches as u64),
        (Some(("kind", "sse".to_owned())), stats.sse as u64),
        (Some(("kind", "websocket".to_owned())), stats.clients as u64),
    ];
    let mut families: Vec<(&str, &str, &str, Samples)> = vec![
        ("clients", "gauge", "Clients that are connected.", kinds),
        ("names", "gauge", "Names that clients read.", one(stats.names.len() as u64)),
        (
            "cut_off_total",
            "counter",
            "Clients cut off as they did not keep up, did not answer, or broke the rules.",
            one(stats.cut_off),
        ),
        ("delivered_total", "counter", "Messages handed to clients.", one(stats.delivered)),
        ("missed_total", "counter", "Messages that slow clients missed.", one(stats.missed)),
        ("rounds_total", "counter", "Rounds in which something was delivered.", one(stats.rounds)),
        ("writes_total", "counter", "Writes to clients' sockets.", one(stats.writes)),
    ];
    if let Some(entrance) = &ops.entrance {
        let mut tiers: Vec<_> = entrance.tiers().users().into_iter().collect();
        tiers.sort();
        let by_tier = |(tier, users): (std::sync::Arc<str>, usize)| {
            (Some(("tier", tier.to_string())), users as u64)
        };
        let by_reason =
            |(reason, count): (&'static str, u64)| (Some(("reason", reason.to_owned())), count);
        let refused = entrance.refused().into_iter().map(by_reason).collect();
        let (asked, failed) = (entrance.tiers().look_ups(), entrance.tiers().failures());
        let inside = one(entrance.connections() as u64);
        families.extend([
            ("connections", "gauge", "Connections that were let in.", inside),
            ("refused_total", "counter", "Requests that were not let in.", refused),
            ("tier_lookups_total", "counter", "Times the source of tiers was asked.", one(asked)),
            ("tier_failures_total", "counter", "Times it could not tell.", one(failed)),
            (
                "users",
                "gauge",
                "Users that are connected.",
                tiers.into_iter().map(by_tier).collect(),
            ),
        ]);
    }
    for (name, kind, help, samples) in families {
        write(&mut text, &format!("ws_gateway_{name}"), kind, help, samples);
    }
    text
}

fn write(text: &mut String, name: &str, kind: &str, help: &str, samples: Samples) {
    if samples.is_empty() {
        return; // By tier, and nobody is there.
    }
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, kind);
    for (label, value) in samples {
        // The library takes a backslash for one that escapes something.
        let label = label.map(|(name, value)| Label::new(name, value.replace('\\', r"\\")));
        let key = Key::from_parts("", Vec::from_iter(label));
        let labels = LabelSet::from_key_and_global(&key, &Default::default());
        write_metric_line(text, name, None, &labels, None::<(&str, &str)>, value, None);
    }
    text.push('\n');
}
