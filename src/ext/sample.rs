//! The latest value at each tick.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FusedStream, Stream, TryStream};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::alarm::{Alarm, after};
use super::latest::{Drained, Latest};

pin_project! {
    /// Stream of [`WsTryStreamExt::try_sample`](super::WsTryStreamExt::try_sample).
    #[must_use = "streams do nothing unless polled"]
    pub struct TrySample<St>
    where
        St: TryStream,
    {
        #[pin]
        latest: Latest<St>,
        alarm: Alarm,
        // Whether the alarm is set for the value that is held.
        is_set: bool,
        ticks: Ticks,
    }
}

impl<St: TryStream> TrySample<St> {
    pub(super) fn new(stream: St, period: Duration) -> Self {
        let ticks = Ticks { period, passed: None, start: None };
        Self { latest: Latest::new(stream), alarm: Alarm::default(), is_set: false, ticks }
    }
}

access!(TrySample<St>: TryStream, latest.source.stream);

impl<St: TryStream> Stream for TrySample<St> {
    type Item = Result<St::Ok, St::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if this.ticks.start.is_none() {
            this.ticks.start = Some(Instant::now());
        }
        if let Drained::Due(item) = ready!(this.latest.as_mut().poll_drain(cx)) {
            *this.is_set = false;
            return Poll::Ready(item);
        }
        if !this.latest.has_value() {
            return Poll::Pending;
        }
        if !this.ticks.period.is_zero() {
            if !*this.is_set {
                *this.is_set = true;
                this.alarm.set(this.ticks.next(Instant::now()));
            }
            ready!(this.alarm.poll(cx));
            this.ticks.pass(Instant::now());
            *this.is_set = false;
        }
        Poll::Ready(this.latest.take())
    }
}

/// Instants that are whole periods after the first poll. A tick that nobody waited for costs
/// nothing.
struct Ticks {
    // Not zero where the methods are called.
    period: Duration,
    /// The last tick that a value was yielded at.
    passed: Option<Instant>,
    start: Option<Instant>,
}

impl Ticks {
    /// The tick that a value which is there at `now` is for; `None` for never.
    fn next(&self, now: Instant) -> Option<Instant> {
        let latest = self.latest(now);
        let is_over = latest < now || latest == self.start? || Some(latest) == self.passed;
        if is_over { after(latest, self.period) } else { Some(latest) }
    }

    /// A value was yielded at `now`.
    fn pass(&mut self, now: Instant) {
        self.passed = Some(self.latest(now));
    }

    /// The latest tick that is not after `now`.
    fn latest(&self, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.start.unwrap_or(now));
        let into = since.as_nanos() % self.period.as_nanos();
        // No more than `since`, so it fits, and `now` is that long after the start.
        u64::try_from(into).map_or(now, |into| now - Duration::from_nanos(into))
    }
}

impl<St: TryStream> FusedStream for TrySample<St> {
    fn is_terminated(&self) -> bool {
        self.latest.is_ended()
    }
}

plain! {
    /// Stream of [`WsStreamExt::sample`](super::WsStreamExt::sample).
    Sample<St> of TrySample<Plain> over latest.source.stream,
    yields St::Item, where St: Stream
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_value_is_for_the_next_tick_and_each_tick_for_one_value() {
        let start = Instant::now();
        let mut ticks = Ticks { period: 10 * MS, passed: None, start: Some(start) };
        let next = |ticks: &Ticks, at| ticks.next(start + at * MS).unwrap() - start;
        assert_eq!(next(&ticks, 0), 10 * MS);
        assert_eq!(next(&ticks, 1), 10 * MS);
        assert_eq!(next(&ticks, 10), 10 * MS, "on the tick is in time");
        ticks.pass(start + 10 * MS);
        assert_eq!(next(&ticks, 10), 20 * MS, "but not twice");
        ticks.pass(start + 27 * MS);
        assert_eq!(next(&ticks, 27), 30 * MS, "a late tick moves no later one");
        assert_eq!(next(&ticks, 12_345), 12_350 * MS);
    }

    #[test]
    fn a_period_beyond_any_clock_has_no_tick() {
        let now = Instant::now();
        let ticks = Ticks { period: Duration::MAX, passed: None, start: Some(now) };
        assert_eq!(ticks.next(now + MS), None);
    }
}
