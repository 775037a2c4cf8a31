//! What was measured, and how it is told.
//!
//! - Figures cover the time from the first message to the end: dialling is told apart.
//! - The distance across a gap is none between messages. What came in one read came at one time.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;
use wsmux::Gap;

use super::signed::{Signed, histogram};
use super::stamp::Field;
use crate::tail::stats::{distance, rate, several, size};

/// What is told of each distribution.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p999", 99.9)];

/// Counts, and distributions.
pub(super) struct Figures {
    /// Between messages of one stream, in microseconds.
    apart: Histogram<u64>,
    bytes: u64,
    /// The second that is counted, its messages, and those of the busiest one.
    busiest: (u64, u64, u64),
    /// When it was over.
    end: Option<Instant>,
    first: Option<Instant>,
    gaps: u64,
    last: Vec<Option<Instant>>,
    latency: Option<(Field, Signed)>,
    messages: u64,
    missed: u64,
    /// From the start until each stream was open.
    opened: Vec<Option<Duration>>,
    reconnects: u64,
    started: (Instant, SystemTime),
    unstamped: u64,
}

impl Figures {
    pub(super) fn new(streams: usize, timestamp: Option<Field>) -> Self {
        Self {
            apart: histogram(),
            bytes: 0,
            busiest: (0, 0, 0),
            end: None,
            first: None,
            gaps: 0,
            last: vec![None; streams],
            latency: timestamp.map(|field| (field, Signed::new())),
            messages: 0,
            missed: 0,
            opened: vec![None; streams],
            reconnects: 0,
            started: (Instant::now(), SystemTime::now()),
            unstamped: 0,
        }
    }

    pub(super) fn opened(&mut self, stream: usize) {
        self.opened[stream].get_or_insert_with(|| self.started.0.elapsed());
    }

    pub(super) fn message(&mut self, stream: usize, message: &[u8], at: Instant) {
        self.opened(stream);
        self.messages += 1;
        self.bytes += message.len() as u64;
        let first = *self.first.get_or_insert(at);
        let second = at.saturating_duration_since(first).as_secs();
        let (current, count, most) = self.busiest;
        let count = if current == second { count + 1 } else { 1 };
        self.busiest = (second, count, most.max(count));
        if let Some(last) = self.last[stream].replace(at) {
            self.apart.saturating_record(micros(at.saturating_duration_since(last)));
        }
        let Some((field, latency)) = &mut self.latency else { return };
        let (start, wall) = self.started;
        let wall = (wall + at.saturating_duration_since(start)).duration_since(UNIX_EPOCH);
        let received = i64::try_from(micros(wall.unwrap_or_default())).unwrap_or(i64::MAX);
        match field.read(message) {
            Some(sent) => latency.record(received.saturating_sub(sent)),
            None => self.unstamped += 1,
        }
    }

    pub(super) fn gap(&mut self, stream: usize, gap: &Gap) {
        self.gaps += 1;
        self.last[stream] = None;
        match gap {
            Gap::Lagged { missed } => self.missed = self.missed.saturating_add(*missed),
            Gap::Reconnected { .. } => self.reconnects += 1,
            _ => {}
        }
    }

    /// Ends the time that figures are for.
    pub(super) fn end(&mut self, at: Instant) {
        self.end = Some(at);
    }

    fn seconds(&self) -> f64 {
        let end = self.end.unwrap_or_else(Instant::now);
        self.first.map_or(0.0, |first| end.saturating_duration_since(first).as_secs_f64())
    }

    /// The most in any second since the first message; in less than one, all.
    fn most(&self) -> u64 {
        self.busiest.2
    }

    pub(super) fn text(&self) -> String {
        let seconds = self.seconds();
        let mut text = format!(
            "{seconds:.1} s of messages; {} of {} open",
            self.opened.iter().flatten().count(),
            several(self.opened.len() as u64, "stream"),
        );
        if let Some(last) = self.opened.iter().flatten().max() {
            text += &format!(", the last after {}", distance(micros(*last)));
        }
        // Writing into a string does not fail.
        let _ = write!(
            text,
            "\nmessages   {} ({:.1}/s, busiest second {})\nbytes      {} ({}/s)\n",
            self.messages,
            rate(self.messages, seconds),
            self.most(),
            size(self.bytes),
            size(whole(rate(self.bytes, seconds))),
        );
        let _ = writeln!(
            text,
            "gaps       {}: {}, {} missed by lagging",
            self.gaps,
            several(self.reconnects, "reconnect"),
            self.missed,
        );
        if !self.apart.is_empty() {
            let of = PERCENTILES.map(|(name, percent)| {
                format!("{name} {}", distance(self.apart.value_at_percentile(percent)))
            });
            let _ =
                writeln!(text, "apart      {}, max {}", of.join(", "), distance(self.apart.max()));
        }
        self.latency_text(&mut text);
        text
    }

    fn latency_text(&self, text: &mut String) {
        let Some((field, latency)) = &self.latency else { return };
        let shown = |above: i64| {
            let of = PERCENTILES.map(|(name, percent)| {
                let value = latency.percentile(percent).unwrap_or_default() - above;
                format!("{name} {}", signed(value))
            });
            let max = latency.percentile(100.0).unwrap_or_default() - above;
            format!("{}, max {}", of.join(", "), signed(max))
        };
        if let Some(least) = latency.least() {
            let _ = writeln!(text, "latency    {}, least {}", shown(0), signed(least));
            let _ = writeln!(text, "over least {}", shown(least));
            let _ = writeln!(
                text,
                "  by `{field}` and this machine's clock: `latency` is right as far as the two clocks \
                 agree,\n  `over least` whatever they show"
            );
            if latency.below() > 0 {
                let _ = writeln!(
                    text,
                    "  they do not agree: {} came before it was sent",
                    several(latency.below(), "message")
                );
            }
        }
        if self.unstamped > 0 {
            let _ = writeln!(
                text,
                "  {} without a time in `{field}`",
                several(self.unstamped, "message")
            );
        }
    }

    pub(super) fn json(&self) -> Value {
        let seconds = self.seconds();
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let apart = (!self.apart.is_empty()).then(|| {
            let mut of = serde_json::Map::new();
            for (name, percent) in PERCENTILES {
                of.insert(name.to_owned(), self.apart.value_at_percentile(percent).into());
            }
            of.insert("max".to_owned(), self.apart.max().into());
            Value::from(of)
        });
        json!({
            "seconds": (seconds * 1e3).round() / 1e3,
            "streams": self.opened.len(),
            "streams_opened": self.opened.iter().flatten().count(),
            "all_open_after_ms": self.all_open_after().map(|time| micros(time) as f64 / 1e3),
            "messages": self.messages,
            "messages_per_second": tenths(rate(self.messages, seconds)),
            "messages_in_busiest_second": self.most(),
            "bytes": self.bytes,
            "bytes_per_second": tenths(rate(self.bytes, seconds)),
            "gaps": self.gaps,
            "reconnects": self.reconnects,
            "missed": self.missed,
            "apart_us": apart,
            "latency_us": self.latency_json(),
        })
    }

    fn latency_json(&self) -> Value {
        let Some((field, latency)) = &self.latency else { return Value::Null };
        let least = latency.least();
        let mut of = serde_json::Map::new();
        for (name, percent) in PERCENTILES.into_iter().chain([("max", 100.0)]) {
            of.insert(name.to_owned(), latency.percentile(percent).into());
        }
        let over = latency.percentile(50.0).zip(least).map(|(value, least)| value - least);
        let tail = latency.percentile(99.0).zip(least).map(|(value, least)| value - least);
        of.insert("least".to_owned(), least.into());
        of.insert("over_least_p50".to_owned(), over.into());
        of.insert("over_least_p99".to_owned(), tail.into());
        of.insert("below_zero".to_owned(), latency.below().into());
        of.insert("messages".to_owned(), latency.len().into());
        of.insert("messages_without_time".to_owned(), self.unstamped.into());
        of.insert("field".to_owned(), field.to_string().into());
        Value::from(of)
    }

    fn all_open_after(&self) -> Option<Duration> {
        self.opened.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn signed(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}", distance(micros.unsigned_abs()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a figure to be rounded"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::super::stamp::field;
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn counts_rates_and_distances_are_those_of_the_messages() {
        let mut figures = Figures::new(2, None);
        let start = Instant::now();
        for n in 0..200 {
            figures.message(0, b"0123456789", at(start, n * 10));
        }
        figures.gap(0, &Gap::Lagged { missed: 7 });
        // An hour across a gap is no distance between messages.
        figures.message(0, b"0123456789", at(start, 3_600_000));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let json = figures.json();
        assert_eq!(
            [&json["messages"], &json["bytes"], &json["missed"], &json["gaps"]],
            [201, 2010, 7, 1]
        );
        assert_eq!(json["messages_in_busiest_second"], 100);
        assert_eq!(json["seconds"], 3600.0);
        assert!((9990..=10_010).contains(&json["apart_us"]["max"].as_u64().unwrap()), "{json}");
        assert_eq!(
            (&json["streams_opened"], &json["all_open_after_ms"]),
            (&1.into(), &Value::Null)
        );
        assert!(json["latency_us"].is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_ahead_is_told_and_the_spread_is_right_all_the_same() {
        for ahead in [0, 5_000_000] {
            let mut figures = Figures::new(1, Some(field("t").unwrap()));
            let (start, wall) = figures.started;
            let sent = micros(wall.duration_since(UNIX_EPOCH).unwrap()) + ahead;
            for n in 0..100 {
                let message = format!("{{\"t\":{}}}", sent + n * 10_000);
                let late = Duration::from_micros(n * 10_000 + 1000 + n * 100);
                figures.message(0, message.as_bytes(), start + late);
            }
            figures.message(0, b"no time", at(start, 2000));
            let json = figures.json();
            let latency = &json["latency_us"];
            assert_eq!(latency["below_zero"], if ahead > 0 { 100 } else { 0 }, "{json}");
            assert_eq!(latency["messages_without_time"], 1);
            let over = latency["over_least_p50"].as_i64().unwrap();
            assert!((over - 4900).abs() <= 5000, "{json}");
            let text = figures.text();
            assert_eq!(text.contains("do not agree"), ahead > 0, "{text}");
            assert!(text.contains("1 message without a time in `t`"), "{text}");
        }
    }
}
