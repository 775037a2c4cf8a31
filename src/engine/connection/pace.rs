//! When a socket may say something more, where its server takes only so much.
//!
//! In any window no more is written than the server allows, and where pings and pongs count one
//! frame less: a pong is written by the socket itself, at once, and must find room. A server that
//! pings faster than its own window allows answers for that itself.
//!
//! The server counts as frames arrive. One that was held up on the way comes with those of the next
//! window: that is as much longer here as frames are usually held up, for a lost packet too.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{Counted, MessageRate};
use crate::transport::Frame;

/// What a lost packet costs, and a little more: it is sent again after a second by RFC 6298, and after
/// 200 ms at the soonest by Linux.
const HELD_UP: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Pace {
    /// How many frames of our own fit into a window.
    most: usize,
    rate: MessageRate,
    /// The server's, and what frames may be held up on the way.
    window: Duration,
    /// When the latest frames that count were written, at most `most` of them: older ones say
    /// nothing about when there is room.
    written: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(rate: MessageRate) -> Self {
        let most = rate.count() as usize;
        let reserve = usize::from(rate.counted() == Counted::Everything && most > 1);
        let window = rate.window().saturating_add(HELD_UP.min(rate.window() / 4));
        Self { most: most - reserve, rate, window, written: VecDeque::new() }
    }

    /// How many frames fit into a window.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether `frame` counts, which was pushed as a join or leave or not.
    pub(super) fn counts(&self, frame: &Frame, is_join: bool) -> bool {
        match self.rate.counted() {
            Counted::Everything => !matches!(frame, Frame::Close(_)),
            Counted::Joins => is_join,
            Counted::Messages => matches!(frame, Frame::Data(_)),
        }
    }

    /// Whether the program's own messages count.
    pub(super) fn counts_messages(&self) -> bool {
        self.rate.counted() != Counted::Joins
    }

    /// The socket has queued a pong.
    pub(super) fn ponged(&mut self, now: Instant) {
        if self.rate.counted() == Counted::Everything {
            self.wrote(now);
        }
    }

    /// A frame that counts is written.
    pub(super) fn wrote(&mut self, now: Instant) {
        if self.written.len() == self.most {
            self.written.pop_front();
        }
        self.written.push_back(now);
    }

    /// How many frames that count may be written now.
    pub(super) fn room(&self, now: Instant) -> usize {
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= self.window;
        let over = self.written.iter().take_while(|at| is_over(at)).count();
        self.most - (self.written.len() - over)
    }

    /// When there is room again, if there is none now.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let first = self.written.front().filter(|_| self.room(now) == 0)?;
        first.checked_add(self.window)
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(count: u32, counted: Counted) -> Pace {
        Pace::new(MessageRate::new(count, SECOND, counted))
    }

    #[test]
    fn one_frame_of_a_window_is_kept_for_a_pong_where_pongs_count() {
        let own = |count, counted| pace(count, counted).room(Instant::now());
        assert_eq!([1, 2, 5].map(|count| own(count, Counted::Everything)), [1, 1, 4]);
        assert_eq!([0, 1, 5].map(|count| own(count, Counted::Messages)), [1, 1, 5]);
        assert_eq!(own(5, Counted::Joins), 5);
    }

    #[test]
    fn only_what_the_server_counts_is_counted() {
        let data = Frame::Data("a".into());
        let (ping, close) = (Frame::Ping("".into()), Frame::Close(None));
        let counts = |counted| {
            let pace = pace(5, counted);
            let frames = [(&data, true), (&data, false), (&ping, false), (&close, false)];
            frames.map(|(frame, is_join)| pace.counts(frame, is_join))
        };
        assert_eq!(counts(Counted::Everything), [true, true, true, false]);
        assert_eq!(counts(Counted::Joins), [true, false, false, false]);
        assert_eq!(counts(Counted::Messages), [true, true, false, false]);
        let mut paces = [Counted::Everything, Counted::Joins, Counted::Messages]
            .map(|counted| pace(5, counted));
        let now = Instant::now();
        paces.iter_mut().for_each(|pace| pace.ponged(now));
        assert_eq!(paces.map(|pace| pace.room(now)), [3, 5, 5]);
    }

    #[test]
    fn there_is_room_again_when_the_oldest_leaves_the_window() {
        let (start, mut pace) = (Instant::now(), pace(3, Counted::Everything));
        let at = |millis| start + Duration::from_millis(millis);
        pace.wrote(at(0));
        assert_eq!((pace.room(at(0)), pace.due(at(0))), (1, None));
        pace.wrote(at(400));
        assert_eq!((pace.room(at(400)), pace.due(at(400))), (0, Some(at(1250))));
        pace.ponged(at(600));
        assert_eq!((pace.room(at(1249)), pace.due(at(1249))), (0, Some(at(1650))));
        assert_eq!((pace.room(at(1650)), pace.room(at(1850))), (1, 2));
    }

    #[test]
    fn what_is_held_up_is_a_quarter_of_a_short_window_and_a_moment_of_a_long_one() {
        let window = |length| Pace::new(MessageRate::new(1, length, Counted::Messages)).window;
        assert_eq!(window(SECOND / 10), SECOND / 8);
        assert_eq!(window(3600 * SECOND), 3600 * SECOND + HELD_UP);
        assert_eq!(window(Duration::MAX), Duration::MAX);
        let mut never = Pace::new(MessageRate::new(1, Duration::MAX, Counted::Messages));
        never.wrote(Instant::now());
        assert_eq!((never.room(Instant::now()), never.due(Instant::now())), (0, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Frames are held up on the way, each as long as it may be, and keep their order. A pong per
        /// window at most, as from a server that is in its right mind.
        #[test]
        fn no_window_of_the_server_has_more_than_it_takes(
            count in 1..8_u32,
            steps in prop::collection::vec((0..600_u64, 0..=250_u64, any::<bool>()), 1..200),
        ) {
            let (mut pace, mut now) = (pace(count, Counted::Everything), Instant::now());
            let (mut arrived, mut ponged): (Vec<Instant>, Option<Instant>) = (Vec::new(), None);
            for (millis, held_up, pong) in steps {
                now += Duration::from_millis(millis);
                let arrives = now + Duration::from_millis(held_up);
                let arrives = arrived.last().map_or(arrives, |last| arrives.max(*last));
                if pong && count > 1 && ponged.is_none_or(|at| now - at >= SECOND + HELD_UP) {
                    pace.ponged(now);
                    ponged = Some(now);
                    arrived.push(arrives);
                }
                prop_assert!(pace.room(now) > 0 || pace.due(now).is_some_and(|due| due > now));
                for _ in 0..pace.room(now) {
                    pace.wrote(now);
                    arrived.push(arrives);
                }
                let in_window = arrived.iter().filter(|at| arrives - **at < SECOND).count();
                prop_assert!(in_window <= count as usize, "{in_window} of {count}");
            }
        }
    }
}
