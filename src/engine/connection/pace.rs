//! When a socket may say something more, where its server takes only so much.
//!
//! In any window no more is written than the server allows, and where pings and pongs count one
//! frame less: a pong is written by the socket itself, at once, and must find room. A server that
//! pings faster than its own window allows answers for that itself.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::protocol::{Counted, MessageRate};
use crate::transport::Frame;

#[derive(Debug)]
pub(super) struct Pace {
    /// How many frames of our own fit into a window.
    most: usize,
    rate: MessageRate,
    /// When the latest frames that count were written, at most `most` of them: older ones say
    /// nothing about when there is room.
    written: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(rate: MessageRate) -> Self {
        let most = rate.count() as usize;
        let reserve = usize::from(rate.counted() == Counted::Everything && most > 1);
        Self { most: most - reserve, rate, written: VecDeque::new() }
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
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= self.rate.window();
        let over = self.written.iter().take_while(|at| is_over(at)).count();
        self.most - (self.written.len() - over)
    }

    /// When there is room again, if there is none now.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let first = self.written.front().filter(|_| self.room(now) == 0)?;
        Some(*first + self.rate.window())
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use std::time::Duration;

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
        assert_eq!((pace.room(at(400)), pace.due(at(400))), (0, Some(at(1000))));
        pace.ponged(at(600));
        assert_eq!((pace.room(at(999)), pace.due(at(999))), (0, Some(at(1400))));
        assert_eq!((pace.room(at(1400)), pace.room(at(1600))), (1, 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A pong per window at most, as from a server that is in its right mind.
        #[test]
        fn no_window_has_more_than_the_server_takes(
            count in 1..8_u32,
            steps in prop::collection::vec((0..600_u64, any::<bool>()), 1..200),
        ) {
            let (mut pace, mut now) = (pace(count, Counted::Everything), Instant::now());
            let (mut written, mut ponged): (Vec<Instant>, Option<Instant>) = (Vec::new(), None);
            for (millis, pong) in steps {
                now += Duration::from_millis(millis);
                if pong && count > 1 && ponged.is_none_or(|at| now - at >= SECOND) {
                    pace.ponged(now);
                    (ponged, written) = (Some(now), [written, vec![now]].concat());
                }
                prop_assert!(pace.room(now) > 0 || pace.due(now).is_some_and(|due| due > now));
                for _ in 0..pace.room(now) {
                    pace.wrote(now);
                    written.push(now);
                }
                let in_window = written.iter().filter(|at| now - **at < SECOND).count();
                prop_assert!(in_window <= count as usize, "{in_window} of {count}");
            }
        }
    }
}
