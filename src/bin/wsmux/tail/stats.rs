//! What was counted on the way.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;
use wsmux::Gap;

/// The longest distance that is told from longer ones, in microseconds.
const HOUR: u64 = 3_600_000_000;

/// Counts of a run, or of a part of it.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    bytes: u64,
    gaps: u64,
    messages: u64,
    missed: u64,
    printed: u64,
    reconnects: u64,
}

/// Counts, and how long apart messages of one stream came.
#[derive(Debug)]
pub(super) struct Stats {
    all: Counts,
    /// In microseconds.
    apart: Histogram<u64>,
    /// The same since the last look.
    apart_lately: Histogram<u64>,
    /// When each stream had its last message.
    last: Vec<Option<Instant>>,
    /// Those at the last look.
    before: (Instant, Counts),
    started: Instant,
}

impl Stats {
    pub(super) fn new(streams: usize) -> Self {
        let now = Instant::now();
        let apart = Histogram::new_with_bounds(1, HOUR, 3)
            .unwrap_or_else(|_| unreachable!("the bounds and 3 digits are allowed"));
        Self {
            all: Counts::default(),
            apart_lately: apart.clone(),
            apart,
            last: vec![None; streams],
            before: (now, Counts::default()),
            started: now,
        }
    }

    pub(super) fn message(&mut self, stream: usize, len: usize, at: Instant) {
        self.all.messages += 1;
        self.all.bytes += len as u64;
        if let Some(last) = self.last[stream].replace(at) {
            let micros = u64::try_from(at.duration_since(last).as_micros()).unwrap_or(u64::MAX);
            self.apart.saturating_record(micros);
            self.apart_lately.saturating_record(micros);
        }
    }

    pub(super) fn gap(&mut self, stream: usize, gap: &Gap) {
        self.all.gaps += 1;
        // The time across a gap is not one between messages.
        self.last[stream] = None;
        match gap {
            Gap::Lagged { missed } => self.all.missed = self.all.missed.saturating_add(*missed),
            Gap::Reconnected { .. } => self.all.reconnects += 1,
            _ => {}
        }
    }

    pub(super) fn printed(&mut self, messages: u64) {
        self.all.printed += messages;
    }

    #[cfg(test)]
    pub(super) fn messages_printed(&self) -> u64 {
        self.all.printed
    }

    /// Since the last look: for a line every so often.
    pub(super) fn look(&mut self) -> (String, Value) {
        let now = Instant::now();
        let (then, before) = std::mem::replace(&mut self.before, (now, self.all));
        let since = Counts {
            bytes: self.all.bytes - before.bytes,
            gaps: self.all.gaps - before.gaps,
            messages: self.all.messages - before.messages,
            missed: self.all.missed - before.missed,
            printed: self.all.printed - before.printed,
            reconnects: self.all.reconnects - before.reconnects,
        };
        let looked = shown(now.duration_since(then), since, &self.apart_lately);
        self.apart_lately.reset();
        looked
    }

    /// Since the start.
    pub(super) fn total(&self) -> (String, Value) {
        shown(self.started.elapsed(), self.all, &self.apart)
    }
}

fn shown(time: Duration, counts: Counts, apart: &Histogram<u64>) -> (String, Value) {
    let seconds = time.as_secs_f64();
    let per_second = rate(counts.messages, seconds);
    let Counts { bytes, gaps, messages, missed, printed, reconnects } = counts;
    let mut text = format!(
        "{seconds:.1} s: {} ({per_second:.1}/s), {}, {}, {}",
        several(messages, "message"),
        size(bytes),
        several(gaps, "gap"),
        several(reconnects, "reconnect"),
    );
    if missed > 0 {
        text += &format!(", {missed} missed by lagging");
    }
    if printed < messages {
        text += &format!(", {} left out", messages - printed);
    }
    let percentile = |p| apart.value_at_percentile(p);
    let of = [percentile(50.0), percentile(99.0), apart.max()];
    if !apart.is_empty() {
        let [p50, p99, max] = of.map(distance);
        text += &format!("; apart p50 {p50}, p99 {p99}, max {max}");
    }
    let json = json!({
        "seconds": (seconds * 1e3).round() / 1e3,
        "messages": messages,
        "messages_per_second": (per_second * 10.0).round() / 10.0,
        "bytes": bytes,
        "gaps": gaps,
        "reconnects": reconnects,
        "missed": missed,
        "left_out": messages.saturating_sub(printed),
        "apart_us": if apart.is_empty() { Value::Null } else { json!({
            "p50": of[0], "p99": of[1], "max": of[2],
        }) },
    });
    (text, json)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be rounded")]
pub(crate) fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

pub(crate) fn several(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be rounded")]
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A distance; those of messages that came in one read are none.
#[expect(clippy::cast_precision_loss, reason = "a figure to be rounded")]
pub(crate) fn distance(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_tells_of_the_time_since_the_last_one_alone() {
        let mut stats = Stats::new(1);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        (0..100).for_each(|n| stats.message(0, 1, at(n)));
        assert!(stats.look().0.ends_with("p50 1.0 ms, p99 1.0 ms, max 1.0 ms"));
        (1..=3).for_each(|n| stats.message(0, 1, at(99 + 100 * n)));
        let (text, json) = stats.look();
        assert!(text.contains("p50 100.0 ms"), "{text}");
        assert!(json["apart_us"]["p50"].as_u64() > Some(99_000), "{json}");
        assert!(stats.look().1["apart_us"].is_null(), "nothing came");
        assert!(stats.total().0.contains("p50 1.0 ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn counts_and_distances_add_up() {
        let mut stats = Stats::new(2);
        let start = Instant::now();
        for n in 0..100 {
            let at = start + Duration::from_millis(10 * n);
            stats.message(0, 20, at);
            // Another stream at the same time does not count.
            stats.message(1, 20, at);
        }
        stats.gap(0, &Gap::Lagged { missed: 7 });
        stats.message(0, 20, start + Duration::from_secs(3600));
        stats.printed(150);
        tokio::time::advance(Duration::from_secs(10)).await;
        let (text, json) = stats.total();
        assert_eq!(
            text,
            "10.0 s: 201 messages (20.1/s), 4.0 kB, 1 gap, 0 reconnects, 7 missed by lagging, 51 \
             left out; apart p50 10.0 ms, p99 10.0 ms, max 10.0 ms"
        );
        assert_eq!((&json["messages"], &json["apart_us"]["p50"]), (&201.into(), &10_007.into()));
        stats.look();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(stats.look().0.starts_with("1.0 s: 0 messages (0.0/s), 0 B, 0 gaps"));
    }
}
