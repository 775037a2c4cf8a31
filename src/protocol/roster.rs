//! The names of a socket, and where each stands: asked for, joined, or being left. For venues that
//! confirm both, by whatever it is.
//!
//! - A name is known by a key: what the venue's messages call it.
//! - A name that is left and wanted again is not asked for before the venue has confirmed that it was
//!   left: no message says which of the two times it belongs to.
//! - What comes of a name before its confirmation is held, and delivered after it.
//! - What is kept grows with names, and with nothing that the server says.

use std::collections::HashMap;

use super::held::Held;
use super::session::{Cx, Mark, To};
use super::short;
use crate::message::Message;
use crate::name::StreamName;

/// What a venue's messages tell of their feed, kept for each name.
pub(super) trait Feed {
    /// What is to be said of the next message.
    fn look(&mut self, message: &Message) -> Look;
}

/// What is said of a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Look {
    /// Messages are missing before it; so many, if that can be told.
    pub(super) gap: Option<Option<u64>>,
    pub(super) mark: Mark,
}

/// Why a venue does not serve a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal<'a> {
    /// For good, in its words.
    Final(&'a str),
    /// It may go well another time.
    Passing,
}

#[derive(Debug)]
pub(super) struct Roster<F> {
    /// How many are asked for.
    asked: usize,
    held: Held,
    seats: HashMap<Box<str>, Seat<F>>,
}

#[derive(Debug)]
struct Seat<F> {
    feed: F,
    name: StreamName,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Asked,
    Joined,
    Leaving { wanted: bool },
}

impl<F> Default for Roster<F> {
    fn default() -> Self {
        Self { asked: 0, held: Held::default(), seats: HashMap::new() }
    }
}

impl<F: Feed> Roster<F> {
    /// `name` is wanted, which the venue calls `key`. Returns whether it is to be asked for now.
    pub(super) fn join(&mut self, name: &StreamName, key: &str, feed: F, cx: &mut Cx<'_>) -> bool {
        match self.seats.get_mut(key) {
            None => {
                let seat = Seat { feed, name: name.clone(), state: State::Asked };
                self.seats.insert(key.into(), seat);
                self.asked += 1;
                return true;
            }
            Some(seat) if seat.name != *name => {
                cx.rejected(name.as_str(), "another name asks for the same");
            }
            Some(Seat { state: State::Asked, .. }) => {}
            Some(Seat { state: State::Joined, .. }) => cx.joined(name.as_str()),
            Some(Seat { state: State::Leaving { wanted }, .. }) => *wanted = true,
        }
        false
    }

    /// `name` is not wanted any more. Returns whether the venue is to be told now.
    pub(super) fn leave(&mut self, name: &StreamName, key: &str, cx: &mut Cx<'_>) -> bool {
        let Some(seat) = self.seats.get_mut(key).filter(|seat| seat.name == *name) else {
            return false;
        };
        let before = std::mem::replace(&mut seat.state, State::Leaving { wanted: false });
        if before == State::Asked {
            drop(self.held.take(key));
            self.one_less(cx);
        }
        !matches!(before, State::Leaving { .. })
    }

    /// The venue has confirmed `key`.
    pub(super) fn confirm(&mut self, key: &str, cx: &mut Cx<'_>) {
        let seat = self.seats.get_mut(key).filter(|seat| seat.state == State::Asked);
        let Some(seat) = seat else { return };
        seat.state = State::Joined;
        cx.joined(seat.name.as_str());
        let (early, lost) = self.held.take(key);
        if lost {
            cx.gap(To::Name(seat.name.as_str()), None);
        }
        early.into_iter().for_each(|message| seat.deliver(message, cx));
        self.one_less(cx);
    }

    /// The venue has done what it does about leaving `key`. Returns the name, if it is wanted again
    /// meanwhile: it is to be joined.
    pub(super) fn left(&mut self, key: &str) -> Option<StreamName> {
        let State::Leaving { wanted } = self.seats.get(key)?.state else { return None };
        let seat = self.seats.remove(key)?;
        wanted.then_some(seat.name)
    }

    /// The venue refuses `key`, which was asked for.
    pub(super) fn refuse(&mut self, key: &str, refusal: Refusal<'_>, cx: &mut Cx<'_>) {
        if self.asked(key).is_none() {
            return; // It was left meanwhile.
        }
        let Some(seat) = self.seats.remove(key) else { return };
        drop(self.held.take(key));
        match refusal {
            Refusal::Final(why) => cx.rejected(seat.name.as_str(), short(why)),
            Refusal::Passing => cx.ended(seat.name.as_str()),
        }
        self.one_less(cx);
    }

    /// `message` is data for `key`. Returns whether anybody knows it.
    pub(super) fn data(&mut self, key: &str, message: &Message, cx: &mut Cx<'_>) -> bool {
        let Some(seat) = self.seats.get_mut(key) else { return false };
        match seat.state {
            State::Asked => return self.held.hold(key, message.clone()),
            State::Joined => seat.deliver(message.clone(), cx),
            State::Leaving { .. } => {}
        }
        true
    }

    /// Messages are missing here, so many if that can be told, and nobody knows whose they were.
    pub(super) fn missed(&mut self, missed: Option<u64>, cx: &mut Cx<'_>) {
        cx.gap(To::All, missed);
        self.held.lose();
    }

    pub(super) fn is_known(&self, key: &str) -> bool {
        self.seats.contains_key(key)
    }

    /// The name of `key`, if it is asked for and not confirmed yet.
    pub(super) fn asked(&self, key: &str) -> Option<StreamName> {
        let seat = self.seats.get(key).filter(|seat| seat.state == State::Asked)?;
        Some(seat.name.clone())
    }

    /// The name of `key`, if it is being left.
    pub(super) fn leaving(&self, key: &str) -> Option<StreamName> {
        let is_leaving = |seat: &&Seat<F>| matches!(seat.state, State::Leaving { .. });
        Some(self.seats.get(key).filter(is_leaving)?.name.clone())
    }

    /// One name less is asked for. When none is, what is held is for nobody.
    fn one_less(&mut self, cx: &mut Cx<'_>) {
        self.asked = self.asked.saturating_sub(1);
        if self.asked == 0 {
            self.held.clear().for_each(|message| cx.unroutable(&message));
        }
    }
}

impl<F: Feed> Seat<F> {
    fn deliver(&mut self, message: Message, cx: &mut Cx<'_>) {
        let to = To::Name(self.name.as_str());
        let look = self.feed.look(&message);
        if let Some(missed) = look.gap {
            cx.gap(to, missed);
        }
        cx.data_marked(to, message, look.mark);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::protocol::talk::{data, ended, joined, rejected, unroutable};
    use crate::protocol::{Transcript, Utterance};

    /// Each message is its number.
    #[derive(Debug, Default)]
    struct Numbers(u64);

    impl Feed for Numbers {
        fn look(&mut self, message: &Message) -> Look {
            let number = message.as_text().unwrap().parse().unwrap();
            let before = std::mem::replace(&mut self.0, number);
            let missed = number.checked_sub(before + 1).filter(|missed| *missed > 0);
            Look { gap: missed.map(Some), mark: Mark::default() }
        }
    }

    /// Everything that is done to a roster, as a method that returns what was said.
    #[derive(Default)]
    struct Desk(Roster<Numbers>, Transcript);

    impl Desk {
        fn run<T>(
            &mut self,
            act: impl FnOnce(&mut Roster<Numbers>, &mut Cx<'_>) -> T,
        ) -> (T, Vec<Utterance>) {
            let done = act(&mut self.0, &mut self.1.cx(Instant::now()));
            (done, self.1.take())
        }

        fn join(&mut self, name: &str) -> (bool, Vec<Utterance>) {
            let name = StreamName::try_from(name).unwrap();
            self.run(|roster, cx| roster.join(&name, &name.as_str()[..1], Numbers(0), cx))
        }

        fn leave(&mut self, name: &str) -> (bool, Vec<Utterance>) {
            let name = StreamName::try_from(name).unwrap();
            self.run(|roster, cx| roster.leave(&name, &name.as_str()[..1], cx))
        }

        fn confirm(&mut self, key: &str) -> Vec<Utterance> {
            self.run(|roster, cx| roster.confirm(key, cx)).1
        }

        fn data(&mut self, key: &str, text: &str) -> (bool, Vec<Utterance>) {
            self.run(|roster, cx| roster.data(key, &text.into(), cx))
        }
    }

    #[test]
    fn a_name_hears_what_comes_after_its_confirmation_and_what_was_held_first() {
        let mut desk = Desk::default();
        assert_eq!(desk.join("a"), (true, vec![]));
        assert_eq!(desk.join("a"), (false, vec![]), "once");
        assert_eq!(desk.data("a", "1"), (true, vec![]));
        assert_eq!(desk.data("b", "1"), (false, vec![]));
        let gap = Utterance::Gap(Some("a".into()), Some(1));
        assert_eq!(desk.confirm("a"), [joined("a"), data("a", "1")]);
        assert_eq!(desk.confirm("a"), [], "once");
        assert_eq!(desk.data("a", "3"), (true, vec![gap, data("a", "3")]));
        assert_eq!(desk.join("a"), (false, vec![joined("a")]));
    }

    #[test]
    fn a_name_that_is_left_and_wanted_again_waits_until_it_was_left() {
        let mut desk = Desk::default();
        desk.join("a");
        assert_eq!(desk.data("a", "1"), (true, vec![]));
        assert_eq!(desk.leave("a"), (true, vec![]));
        assert_eq!(desk.leave("a"), (false, vec![]));
        assert_eq!(desk.confirm("a"), [], "of the time before");
        assert_eq!(desk.data("a", "2"), (true, vec![]));
        assert_eq!(desk.join("a"), (false, vec![]));
        assert_eq!(desk.0.left("a").as_ref().map(StreamName::as_str), Some("a"));
        assert_eq!(desk.0.left("a"), None);
        assert_eq!(desk.join("a"), (true, vec![]));
        assert_eq!(desk.confirm("a"), [joined("a")], "and nothing of the time before");
    }

    #[test]
    fn who_is_refused_is_forgotten_and_another_name_of_the_same_key_is_refused() {
        let mut desk = Desk::default();
        desk.join("a");
        let why = rejected("a2", "another name asks for the same");
        assert_eq!(desk.join("a2"), (false, vec![why]));
        assert_eq!(desk.leave("a2"), (false, vec![]), "it is not another's to leave");
        let refuse = |desk: &mut Desk, how| desk.run(|roster, cx| roster.refuse("a", how, cx)).1;
        assert_eq!(refuse(&mut desk, Refusal::Final("no")), [rejected("a", "no")]);
        assert_eq!(refuse(&mut desk, Refusal::Passing), []);
        desk.join("a");
        assert_eq!(refuse(&mut desk, Refusal::Passing), [ended("a")]);
        desk.join("a");
        desk.confirm("a");
        assert_eq!(refuse(&mut desk, Refusal::Passing), [], "it is joined");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_told_and_what_found_no_room_is_a_gap() {
        let mut desk = Desk::default();
        desk.join("a");
        desk.join("b");
        desk.data("b", "1");
        desk.0.held.hold("z", "2".into());
        desk.leave("b");
        assert_eq!(desk.confirm("a"), [joined("a"), unroutable("2")]);
        desk.join("c");
        (1..=256).for_each(|n| assert!(desk.data("c", &n.to_string()).0));
        assert!(!desk.data("c", "257").0);
        let said = desk.confirm("c");
        assert_eq!(said[..2], [joined("c"), Utterance::Gap(Some("c".into()), None)]);
    }
}
