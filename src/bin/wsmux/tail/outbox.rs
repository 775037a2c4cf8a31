//! What is to be written, and how much of it.
//!
//! Bounded: beyond [`FULL`] nothing more is taken, so that readers lag and are told; with
//! `--conflate` there is one message per stream, and what comes takes its place.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use wsmux::Message;

use super::format::{Notice, Printer};
use super::stats::Stats;
use super::time::wall;
use super::writer::Chunk;
use crate::args::Print;
use crate::values::Rate;

/// As much as is written at once, in bytes.
const FULL: usize = 64 << 10;

/// For bursts: messages come by the dozen.
const BURST: Duration = Duration::from_millis(100);

pub(super) struct Outbox {
    chunk: Chunk,
    printer: Printer,
    latest: Option<Latest>,
    left: Option<u64>,
    names: Vec<String>,
    pace: Option<Pace>,
    pub(super) stats: Stats,
    times: Times,
}

/// Which times are printed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    Live,
    /// Those by a clock that showed `wall` at `start`.
    Recorded {
        start: Instant,
        wall: SystemTime,
    },
}

impl Times {
    fn wall(self, at: Instant) -> SystemTime {
        match self {
            Self::Live => wall(at),
            Self::Recorded { start, wall } => wall + at.saturating_duration_since(start),
        }
    }
}

impl Outbox {
    pub(super) fn new(print: &Print, names: &[String], times: Times) -> Self {
        Self {
            chunk: Chunk::default(),
            printer: Printer::new(print.format),
            latest: print.conflate.then(|| Latest::new(names.len())),
            left: print.count,
            names: names.to_vec(),
            pace: print.rate.map(Pace::new),
            stats: Stats::new(names.len()),
            times,
        }
    }

    pub(super) fn message(&mut self, stream: usize, at: Instant, message: Message) {
        self.stats.message(stream, message.len(), at);
        match &mut self.latest {
            Some(latest) => latest.put(stream, at, message),
            None if self.pace.as_mut().is_none_or(|pace| pace.take(Instant::now())) => {
                self.print(stream, at, &message);
            }
            None => {}
        }
    }

    pub(super) fn notice(&mut self, stream: usize, at: Instant, notice: &Notice<'_>) {
        if let Notice::Gap(gap) = notice {
            self.stats.gap(stream, gap);
        }
        self.printer.notice(&mut self.chunk, &self.names[stream], self.times.wall(at), notice);
    }

    /// Adds a line with what was counted since the one before.
    pub(super) fn add_stats(&mut self) {
        let (text, json) = self.stats.look();
        self.printer.stats(&mut self.chunk, &text, json);
    }

    /// Adds a line with what was counted in all.
    pub(super) fn add_total(&mut self) {
        let (text, json) = self.stats.total();
        self.printer.stats(&mut self.chunk, &text, json);
    }

    /// Whether more is to be read.
    pub(super) fn has_room(&self) -> bool {
        !self.is_done() && self.written() < FULL
    }

    /// Whether it should be written before more is read.
    pub(super) fn is_pressing(&self) -> bool {
        self.latest.is_some() || !self.has_room()
    }

    /// Whether all messages that were asked for are printed.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// When there is something to be written; now, if that has passed.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.written() > 0 {
            return Some(now);
        }
        let waits = self.latest.as_ref().is_some_and(|latest| !latest.order.is_empty());
        let paced = || self.pace.as_ref().map_or(now, |pace| pace.due(now));
        if waits && !self.is_done() { Some(paced()) } else { None }
    }

    /// What is due.
    pub(super) fn take(&mut self) -> Chunk {
        let now = Instant::now();
        while self.has_room() && self.has_latest() {
            if !self.pace.as_mut().is_none_or(|pace| pace.take(now)) {
                break;
            }
            match self.latest.as_mut().and_then(Latest::take) {
                Some((stream, at, message)) => self.print(stream, at, &message),
                None => break,
            }
        }
        std::mem::take(&mut self.chunk)
    }

    fn has_latest(&self) -> bool {
        self.latest.as_ref().is_some_and(|latest| !latest.order.is_empty())
    }

    fn print(&mut self, stream: usize, at: Instant, message: &Message) {
        if self.is_done() {
            return;
        }
        self.printer.message(&mut self.chunk, &self.names[stream], self.times.wall(at), message);
        self.stats.printed(1);
        self.left = self.left.map(|left| left - 1);
    }

    fn written(&self) -> usize {
        self.chunk.stdout.len() + self.chunk.stderr.len()
    }
}

/// The latest message of each stream, that which waits longest first.
struct Latest {
    messages: Vec<Option<(Instant, Message)>>,
    order: VecDeque<usize>,
}

impl Latest {
    fn new(streams: usize) -> Self {
        Self { messages: vec![None; streams], order: VecDeque::new() }
    }

    fn put(&mut self, stream: usize, at: Instant, message: Message) {
        if self.messages[stream].replace((at, message)).is_none() {
            self.order.push_back(stream);
        }
    }

    fn take(&mut self) -> Option<(usize, Instant, Message)> {
        let stream = self.order.pop_front()?;
        self.messages[stream].take().map(|(at, message)| (stream, at, message))
    }
}

/// Keeps to a rate, with bursts of a tenth of a second's worth.
struct Pace {
    every: Duration,
    burst: Duration,
    /// When the next one would be, were all of them evenly spaced.
    next: Instant,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        let burst = if rate.every < BURST { BURST } else { Duration::ZERO };
        Self { every: rate.every, burst, next: Instant::now() }
    }

    fn due(&self, now: Instant) -> Instant {
        self.next.checked_sub(self.burst).unwrap_or(now)
    }

    /// Whether one more may go now; if so, it goes.
    fn take(&mut self, now: Instant) -> bool {
        let goes = self.next <= now + self.burst;
        if goes {
            self.next = self.next.max(now) + self.every;
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use tokio::time::advance;

    use super::*;
    use crate::values::rate;

    fn outbox(conflate: bool, per_second: Option<&str>, count: Option<NonZeroU64>) -> Outbox {
        let mut args = vec!["wsmux", "tail", "--format=raw", "ws://h", "a", "b"];
        args.extend(conflate.then_some("--conflate"));
        let args = <crate::args::Args as clap::Parser>::try_parse_from(args).unwrap();
        let crate::args::Command::Tail(mut tail) = args.command else { unreachable!() };
        tail.print.rate = per_second.map(|text| rate(text).unwrap());
        tail.print.count = count.map(NonZeroU64::get);
        Outbox::new(&tail.print, &tail.names, Times::Live)
    }

    fn put(outbox: &mut Outbox, stream: usize, text: &str) {
        outbox.message(stream, Instant::now(), text.into());
    }

    fn taken(outbox: &mut Outbox) -> String {
        String::from_utf8(outbox.take().stdout).unwrap().replace('\n', " ")
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_kept_in_order_until_it_is_full() {
        let mut outbox = outbox(false, None, None);
        assert!(outbox.due().is_none());
        put(&mut outbox, 0, "1");
        put(&mut outbox, 1, "2");
        assert!(outbox.due().is_some() && outbox.has_room() && !outbox.is_pressing());
        assert_eq!(taken(&mut outbox), "1 2 ");
        put(&mut outbox, 0, &"x".repeat(FULL));
        assert!(!outbox.has_room() && outbox.is_pressing());
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_takes_the_place_of_what_was_not_written() {
        let mut outbox = outbox(true, None, None);
        for n in 0..1000 {
            put(&mut outbox, 1, &format!("b{n}"));
            put(&mut outbox, 0, &format!("a{n}"));
        }
        assert!(outbox.has_room());
        assert_eq!(taken(&mut outbox), "b999 a999 ");
        assert!(outbox.due().is_none());
        assert_eq!(outbox.stats.messages_printed(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_above_the_rate_is_left_out() {
        let mut outbox = outbox(false, Some("2"), None);
        for _ in 0..100 {
            put(&mut outbox, 0, ".");
            advance(Duration::from_millis(50)).await;
        }
        assert_eq!(outbox.stats.messages_printed(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn bursts_below_the_rate_pass_whole() {
        let mut outbox = outbox(false, Some("1000"), None);
        for _ in 0..100 {
            (0..9).for_each(|_| put(&mut outbox, 0, "."));
            advance(Duration::from_millis(10)).await;
        }
        assert_eq!(outbox.stats.messages_printed(), 900);
        for _ in 0..100 {
            (0..90).for_each(|_| put(&mut outbox, 0, "."));
            advance(Duration::from_millis(10)).await;
        }
        let second = outbox.stats.messages_printed() - 900;
        assert!((1000..=1101).contains(&second), "{second}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_and_conflation_write_the_latest_when_it_is_time() {
        let mut outbox = outbox(true, Some("1"), None);
        put(&mut outbox, 0, "1");
        assert_eq!(taken(&mut outbox), "1 ");
        put(&mut outbox, 0, "2");
        put(&mut outbox, 0, "3");
        assert_eq!(outbox.due(), Some(Instant::now() + Duration::from_secs(1)));
        assert_eq!(taken(&mut outbox), "");
        advance(Duration::from_secs(1)).await;
        put(&mut outbox, 1, "b");
        assert_eq!(taken(&mut outbox), "3 ", "one per second");
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&mut outbox), "b ");
    }

    #[tokio::test(start_paused = true)]
    async fn the_count_is_of_what_is_printed() {
        for conflate in [false, true] {
            let mut outbox = outbox(conflate, None, NonZeroU64::new(1));
            put(&mut outbox, 0, "1");
            put(&mut outbox, 1, "2");
            assert_eq!(taken(&mut outbox), "1 ");
            assert!(outbox.is_done() && !outbox.has_room() && outbox.due().is_none());
        }
    }
}
