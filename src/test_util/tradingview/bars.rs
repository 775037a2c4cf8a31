//! Histories: what is asked for, and what the server says of it.

use serde_json::{Value, json};

use super::wire::{frame, word};

/// Seconds since 1970 of the first bar, where no range is asked for.
const START: u64 = 1_600_000_020;
const MINUTE: u64 = 60;
/// Bars that the server has.
const MOST: u64 = 5000;

/// A series of a chart session.
#[derive(Debug)]
pub(super) struct History {
    count: u64,
    session: String,
    start: u64,
    pub(super) symbol: String,
}

impl History {
    /// What `create_series` asks for.
    pub(super) fn read(session: &str, symbol: String, p: &Value) -> Option<Self> {
        let names = p[1] == "sds_1" && p[2] == "s1" && p[3] == "sds_sym_1" && p[4].is_string();
        let count = p[5].as_u64().filter(|count| names && *count > 0)?.min(MOST);
        let (start, count) = match p.get(6) {
            None => (START, count),
            Some(range) => {
                let (from, to) = range.as_str()?.strip_prefix("r,")?.split_once(':')?;
                let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
                (from, count.min(to.checked_sub(from)? / MINUTE + 1))
            }
        };
        Some(Self { count, session: session.to_owned(), start, symbol })
    }

    /// The frames of the answer, with a live update that comes too late for a history.
    pub(super) fn frames(&self, parts: usize, trap: &str, lie: i64) -> Vec<String> {
        let session = &self.session;
        let resolved = json!([session, "sds_sym_1", {"name": self.symbol, "description": trap}]);
        let mut first = frame(&word("symbol_resolved", &resolved), lie);
        first += &frame(&word("series_loading", &json!([session, "sds_1", "s1"])), lie);
        let mut frames = Vec::new();
        let bars: Vec<_> = (0..self.count).map(|n| self.bar(n)).collect();
        for bars in bars.chunks(bars.len().div_ceil(parts).max(1)) {
            let series = json!({"sds_1": {"node": trap, "s": bars}});
            let update = word("timescale_update", &json!([session, series]));
            frames.push(std::mem::take(&mut first) + &frame(&update, lie));
        }
        let completed = json!([session, "sds_1", "streaming", "s1", {"rt_update_period": 5}]);
        let live = json!([session, {"sds_1": {"s": []}}]);
        let completed = frame(&word("series_completed", &completed), lie);
        frames.push(completed + &frame(&word("du", &live), lie));
        frames
    }

    fn bar(&self, n: u64) -> Value {
        json!({"i": n, "v": [self.start + n * MINUTE, n, n, n, n, 1.5]})
    }

    pub(super) fn failed(&self, method: &str, words: &str, lie: i64) -> Vec<String> {
        let session = &self.session;
        let of = match method {
            "symbol_error" => json!([session, "sds_sym_1", words]),
            "series_error" => json!([session, "sds_1", "s1", words]),
            _ => json!([session, words, "method: create_series"]),
        };
        vec![frame(&word(method, &of), lie)]
    }
}
