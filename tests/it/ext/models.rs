//! What each combinator is to yield, computed from the whole script at once, for a consumer that
//! is never busy. All that is at one time comes before anything else happens.

use std::collections::VecDeque;

use super::{Item, Value};

/// A script: items at times in milliseconds, and the time of the end.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub(super) items: Vec<(u64, Item)>,
    pub(super) ends_at: u64,
}

pub(super) type Played<T> = Vec<(u64, Option<Result<T, u32>>)>;

impl Events {
    /// The time of whatever comes after the item at `place`, the end included.
    fn after(&self, place: usize) -> u64 {
        self.items.get(place + 1).map_or(self.ends_at, |(at, _)| *at)
    }

    fn is_before_notice_or_end(&self, place: usize) -> bool {
        self.items.get(place + 1).is_none_or(|(_, item)| item.is_err())
    }

    fn with_end<T>(&self, mut played: Played<T>) -> Played<T> {
        played.push((self.ends_at, None));
        played
    }

    /// A value is yielded if the next item is not at the same time, or is a notice.
    pub(super) fn conflate(&self) -> Played<Value> {
        self.debounce(0)
    }

    /// A value is yielded `period` later if nothing comes by then, or just before what is no value.
    pub(super) fn debounce(&self, period: u64) -> Played<Value> {
        let mut played = Vec::new();
        for (place, (at, item)) in self.items.iter().enumerate() {
            let next = self.after(place);
            if item.is_err() {
                played.push((*at, Some(*item)));
            } else if self.is_before_notice_or_end(place) {
                played.push((next.min(at + period), Some(*item)));
            } else if next > at + period {
                played.push((at + period, Some(*item)));
            }
        }
        self.with_end(played)
    }

    /// The runs of values at one time without a notice between them, each with its notice.
    pub(super) fn conflate_by(&self) -> Played<Value> {
        let mut played = Vec::new();
        let mut run: Vec<Value> = Vec::new();
        for (place, (at, item)) in self.items.iter().enumerate() {
            match item {
                Ok(value) => {
                    match run.iter_mut().find(|earlier| earlier.0 == value.0) {
                        Some(earlier) => *earlier = *value,
                        None => run.push(*value),
                    }
                    if self.after(place) > *at || self.is_before_notice_or_end(place) {
                        played.extend(run.drain(..).map(|value| (*at, Some(Ok(value)))));
                    }
                }
                Err(_) => played.push((*at, Some(*item))),
            }
        }
        self.with_end(played)
    }

    /// A value is yielded at its tick if it is the last one before it, or just before what is no
    /// value.
    pub(super) fn sample(&self, period: u64) -> Played<Value> {
        if period == 0 {
            return self.conflate();
        }
        let mut played = Vec::new();
        for (place, (at, item)) in self.items.iter().enumerate() {
            let tick = at.next_multiple_of(period);
            let next = self.after(place);
            if item.is_err() {
                played.push((*at, Some(*item)));
            } else if self.is_before_notice_or_end(place) || next > tick {
                played.push((next.min(tick), Some(*item)));
            }
        }
        self.with_end(played)
    }

    pub(super) fn throttle_first(&self, period: u64) -> Played<Value> {
        let mut open_at = 0;
        let mut played = Vec::new();
        for (at, item) in &self.items {
            if item.is_ok() && *at < open_at {
                continue;
            }
            if item.is_ok() {
                open_at = at + period;
            }
            played.push((*at, Some(*item)));
        }
        self.with_end(played)
    }

    pub(super) fn dedup_by(&self, keys: usize, period: u64) -> Played<Value> {
        let mut seen: VecDeque<(u8, u64)> = VecDeque::new();
        let mut played = Vec::new();
        for (at, item) in &self.items {
            if let Ok((key, _)) = item {
                seen.retain(|(_, since)| at - since < period);
                if seen.iter().any(|(earlier, _)| earlier == key) {
                    continue;
                }
                seen.push_back((*key, *at));
                if seen.len() > keys {
                    seen.pop_front();
                }
            }
            played.push((*at, Some(*item)));
        }
        self.with_end(played)
    }

    pub(super) fn batch_by(&self, size: usize, period: u64) -> Played<Vec<Value>> {
        let mut batch = Vec::new();
        let mut due = 0;
        let mut played = Vec::new();
        for (place, (at, item)) in self.items.iter().enumerate() {
            match item {
                Ok(value) => {
                    if batch.is_empty() {
                        due = at + period;
                    }
                    batch.push(*value);
                    let next = self.after(place);
                    let is_full = batch.len() >= size.max(1);
                    let is_last = self.is_before_notice_or_end(place);
                    if is_full || is_last || next > due {
                        let at = if is_full { *at } else { next.min(due) };
                        played.push((at, Some(Ok(std::mem::take(&mut batch)))));
                    }
                }
                Err(notice) => played.push((*at, Some(Err(*notice)))),
            }
        }
        self.with_end(played)
    }

    /// For a consumer that is busy after each item, step by step.
    pub(super) fn conflate_by_while_busy(
        &self,
        max_keys: usize,
        busy: impl Fn(usize) -> u64,
    ) -> Played<Value> {
        let mut waiting: Vec<Value> = Vec::new();
        let mut notice = None;
        let mut items = self.items.iter().peekable();
        let mut now = 0;
        let mut played = Played::new();
        loop {
            while notice.is_none() && waiting.len() < max_keys {
                let Some((_, item)) = items.next_if(|(at, _)| *at <= now) else { break };
                match item {
                    Err(number) => notice = Some(*number),
                    Ok(value) => match waiting.iter_mut().find(|earlier| earlier.0 == value.0) {
                        Some(earlier) => *earlier = *value,
                        None => waiting.push(*value),
                    },
                }
            }
            let item = if waiting.is_empty() {
                notice.take().map(Err)
            } else {
                Some(Ok(waiting.remove(0)))
            };
            if item.is_some() {
                played.push((now, item));
                now += busy(played.len() - 1);
                continue;
            }
            match items.peek() {
                Some((at, _)) => now = *at,
                None => {
                    played.push((now.max(self.ends_at), None));
                    return played;
                }
            }
        }
    }
}
