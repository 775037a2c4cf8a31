//! The counts as text for Prometheus, written by the functions of `metrics-exporter-prometheus`.
//!
//! Its recorder is not used, as it would be a second set of books: histograms that have to be
//! tidied up lest they grow, a clock that is calibrated when it is first read, and one text per
//! recorder, of which two do not make a valid third. What is written here is a pure function of
//! snapshots, in an order that is always the same.

use std::collections::BTreeMap;

use ::metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};

use self::Samples::{By, Histogram, One};
use super::families::{self, Family, Kind};
use super::{DurationHistogram, ManagerMetrics, StreamCounts, StreamStates};
use crate::error::{CloseReason, Gap, SendError};
use crate::observe::HandoverReason;
use crate::protocol::DisconnectReason;

/// What a metric is for one manager.
enum Samples<'a> {
    /// By the values of one label.
    By(&'static str, Vec<(&'a str, u64)>),
    Histogram(&'a DurationHistogram),
    One(u64),
}

/// Writes what managers have counted as one text. Those of one label are added up: two series of
/// the same name would make the text invalid.
pub(crate) fn render<'a>(managers: impl IntoIterator<Item = (&'a str, ManagerMetrics)>) -> String {
    let mut by_label: Vec<(&str, ManagerMetrics)> = Vec::new();
    for (label, metrics) in managers {
        match by_label.iter_mut().find(|(other, _)| *other == label) {
            Some((_, sum)) => sum.add(&metrics),
            None => by_label.push((label, metrics)),
        }
    }
    let mut text = String::new();
    for (family, samples) in SHOWN {
        let samples = by_label.iter().map(|(label, metrics)| (*label, samples(metrics)));
        write_family(&mut text, family, samples);
    }
    text
}

fn write_family<'a>(
    text: &mut String,
    family: &Family,
    managers: impl Iterator<Item = (&'a str, Samples<'a>)>,
) {
    let mut lines = String::new();
    for (manager, samples) in managers {
        match samples {
            By(name, counts) => {
                for (value, count) in counts {
                    write(&mut lines, family, &labels(manager, Some((name, value))), count);
                }
            }
            Histogram(histogram) => {
                write_histogram(&mut lines, family, &labels(manager, None), histogram);
            }
            One(count) => write(&mut lines, family, &labels(manager, None), count),
        }
    }
    if lines.is_empty() {
        return; // By stream, and nobody asked for it.
    }
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    write_help_line(text, family.name, Some(family.unit), None, family.help);
    write_type_line(text, family.name, Some(family.unit), None, kind);
    text.push_str(&lines);
    text.push('\n');
}

fn write(lines: &mut String, family: &Family, labels: &LabelSet, count: u64) {
    let no_more = None::<(&str, &str)>;
    write_metric_line(lines, family.name, None, labels, no_more, count, Some(family.unit));
}

fn write_histogram(
    lines: &mut String,
    family: &Family,
    labels: &LabelSet,
    histogram: &DurationHistogram,
) {
    let Family { name, unit, .. } = *family;
    let no_more = None::<(&str, &str)>;
    for (bound, count) in histogram.cumulative() {
        let le = Some(("le", bound));
        write_metric_line(lines, name, Some("bucket"), labels, le, count, Some(unit));
    }
    let (count, sum) = (histogram.count(), histogram.sum().as_secs_f64());
    let le = Some(("le", "+Inf"));
    write_metric_line(lines, name, Some("bucket"), labels, le, count, Some(unit));
    write_metric_line(lines, name, Some("sum"), labels, no_more, sum, Some(unit));
    write_metric_line(lines, name, Some("count"), labels, no_more, count, Some(unit));
}

fn labels(manager: &str, more: Option<(&'static str, &str)>) -> LabelSet {
    let mut labels = vec![label("manager", manager)];
    labels.extend(more.map(|(name, value)| label(name, value)));
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default())
}

/// The library takes a value for one that may be escaped already, so that `a\b` and `a\\b` would be
/// one and the same, and the text invalid. Escaped backslashes are what it leaves alone.
fn label(name: &'static str, value: &str) -> Label {
    Label::new(name, value.replace('\\', r"\\"))
}

type Read = fn(&ManagerMetrics) -> Samples<'_>;

/// Where each metric is found, in the order in which they are shown.
static SHOWN: &[(&Family, Read)] = &[
    (&families::ACTIVE_CONNECTIONS, |m| One(m.active_connections)),
    (&families::ACTIVE_CONNECTIONS_HWM, |m| One(m.active_connections_hwm)),
    (&families::RETRIES, |m| One(m.retries)),
    (&families::STREAM_CREATIONS, |m| One(m.stream_creations)),
    (&families::STREAM_CLEANUPS, |m| {
        By("reason", all(CloseReason::LABELS, &m.stream_cleanups_by_reason))
    }),
    (&families::STREAMS, |m| {
        let StreamStates { backing_off, connecting, joining, open, waiting } = m.streams;
        let states = ["backing_off", "connecting", "joining", "open", "waiting"];
        let counts = [backing_off, connecting, joining, open, waiting];
        By("status", states.into_iter().zip(counts).collect())
    }),
    (&families::STREAMS_QUIET, |m| One(m.quiet_streams)),
    (&families::READERS, |m| One(m.readers)),
    (&families::READER_LAG, |m| One(m.lag)),
    (&families::LEASES, |m| One(m.leases)),
    (&families::MESSAGES, |m| One(m.messages)),
    (&families::BYTES, |m| One(m.bytes)),
    (&families::SENT, |m| One(m.sent)),
    (&families::SEND_ERRORS, |m| By("reason", all(SendError::LABELS, &m.send_errors_by_reason))),
    (&families::UNROUTABLE, |m| One(m.unroutable)),
    (&families::DECODE_ERRORS, |m| One(m.decode_errors)),
    (&families::CALLBACK_PANICS, |m| One(m.callback_panics)),
    (&families::GAPS, |m| By("cause", all(Gap::LABELS, &m.gaps_by_cause))),
    (&families::LAGGED, |m| One(m.lagged)),
    (&families::DISCONNECTS, |m| {
        By("reason", all(DisconnectReason::LABELS, &m.disconnects_by_reason))
    }),
    (&families::EXHAUSTED, |m| One(m.exhausted)),
    (&families::HANDOVERS, |m| By("reason", all(HandoverReason::LABELS, &m.handovers_by_reason))),
    (&families::HANDSHAKE, |m| Histogram(&m.handshakes)),
    (&families::RECONNECT, |m| Histogram(&m.reconnects)),
    (&families::STREAM_MESSAGES, |m| by_stream(m, |stream| stream.messages)),
    (&families::STREAM_BYTES, |m| by_stream(m, |stream| stream.bytes)),
    (&families::STREAM_GAPS, |m| by_stream(m, |stream| stream.gaps)),
    (&families::STREAM_LAGGED, |m| by_stream(m, |stream| stream.lagged)),
];

/// A count for each label there is: a rate is right from the first one on only where it was zero
/// before.
fn all(
    labels: &'static [&'static str],
    counts: &BTreeMap<&'static str, u64>,
) -> Vec<(&'static str, u64)> {
    labels.iter().map(|label| (*label, counts.get(label).copied().unwrap_or(0))).collect()
}

fn by_stream(metrics: &ManagerMetrics, count: fn(&StreamCounts) -> u64) -> Samples<'_> {
    By("stream", metrics.per_stream.iter().map(|(name, counts)| (&**name, count(counts))).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_metric_is_shown_once_and_in_order() {
        let shown: Vec<_> = SHOWN.iter().map(|(family, _)| family.name).collect();
        let all: Vec<_> = families::ALL.iter().map(|family| family.name).collect();
        assert_eq!(shown, all);
    }

    fn of_streams(names: &[&str]) -> ManagerMetrics {
        let counts = StreamCounts { messages: 1, ..StreamCounts::default() };
        let per_stream = names.iter().map(|name| ((*name).to_owned(), counts)).collect();
        ManagerMetrics { per_stream, ..ManagerMetrics::default() }
    }

    #[test]
    fn each_hostile_name_is_one_label_of_its_own() {
        let names = [r"a\b", r"a\\b", r"a\nb", r#"a\"b"#, r#"a"b"#, r"a\", "}", "{a=\"b\"} 1"];
        let text = render([(r#"q"\"#, of_streams(&names))]);
        let lines: Vec<_> =
            text.lines().filter(|l| l.starts_with("ws_manager_stream_messages_total")).collect();
        let mut read: Vec<_> = lines.iter().map(|line| unescaped(line, "stream")).collect();
        read.sort();
        let mut names = names.map(str::to_owned);
        names.sort();
        assert_eq!(read, names);
        assert!(lines.iter().all(|line| unescaped(line, "manager") == r#"q"\"#), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_label_is_read_as_it_was_written(value in r#"(\PC|[\\"{}=,n]){1,20}"#) {
            let text = render([(&*value, ManagerMetrics::default())]);
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                prop_assert_eq!(unescaped(line, "manager"), &*value);
            }
        }
    }

    /// What the library alone would write; two names become one.
    #[test]
    fn names_that_are_not_escaped_first_are_noticed() {
        let written = |value: &str| {
            let key = Key::from_parts("", vec![Label::new("stream", value.to_owned())]);
            LabelSet::from_key_and_global(&key, &Default::default()).to_strings().next().unwrap()
        };
        assert_eq!(written(r"a\\b"), written(r"a\b"));
        assert_ne!(unescaped(&written(r#"a\"b"#), "stream"), r#"a\"b"#);
    }

    /// The value of a label, as Prometheus reads it.
    fn unescaped(line: &str, name: &str) -> String {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        let mut chars = rest.chars();
        let mut value = String::new();
        loop {
            match chars.next().unwrap() {
                '"' => return value,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c} is no escape: {line}"),
                }),
                c => value.push(c),
            }
        }
    }

    #[test]
    fn managers_of_one_label_are_one() {
        let of = |n| ManagerMetrics { messages: n, ..ManagerMetrics::default() };
        let text = render([("a", of(1)), ("b", of(2)), ("a", of(4))]);
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains("manager_messages_total")).collect();
        let expected = [
            "# HELP ws_manager_messages_total Messages received.",
            "# TYPE ws_manager_messages_total counter",
            r#"ws_manager_messages_total{manager="a"} 5"#,
            r#"ws_manager_messages_total{manager="b"} 2"#,
        ];
        assert_eq!(lines, expected);
        assert!(render([]).is_empty());
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_its_sum_and_count() {
        let mut buckets = [0; DurationHistogram::BOUNDS.len() + 1];
        (buckets[0], buckets[15]) = (2, 1);
        let handshakes = DurationHistogram::new(buckets, Duration::from_millis(2500));
        let text = render([("a", ManagerMetrics { handshakes, ..ManagerMetrics::default() })]);
        let lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("ws_manager_handshake")).collect();
        assert_eq!(lines[0], r#"ws_manager_handshake_seconds_bucket{manager="a",le="0.005"} 2"#);
        let end = [
            r#"ws_manager_handshake_seconds_bucket{manager="a",le="1800"} 2"#,
            r#"ws_manager_handshake_seconds_bucket{manager="a",le="+Inf"} 3"#,
            r#"ws_manager_handshake_seconds_sum{manager="a"} 2.5"#,
            r#"ws_manager_handshake_seconds_count{manager="a"} 3"#,
        ];
        assert_eq!(lines[14..], end);
    }
}
