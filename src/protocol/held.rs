//! Data that overtook the answer by which it will be known whose it is.
//!
//! It is kept in order, up to [`MOST`] messages and [`MOST_BYTES`]. What finds no room is gone, and
//! whoever is joined after that is told of a gap: nothing is lost in silence.

use std::collections::VecDeque;

use crate::message::Message;

/// How many messages are held on a socket.
const MOST: usize = 256;
/// How many bytes of them.
const MOST_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: usize,
    kept: VecDeque<(Box<str>, Message)>,
    lost: bool,
}

impl Held {
    /// Keeps `payload` until it is known whose `key` is. Returns whether there was room.
    pub(super) fn hold(&mut self, key: &str, payload: Message) -> bool {
        let bytes = self.bytes.saturating_add(key.len()).saturating_add(payload.len());
        if self.kept.len() >= MOST || bytes > MOST_BYTES {
            self.lost = true;
            return false;
        }
        self.bytes = bytes;
        self.kept.push_back((key.into(), payload));
        true
    }

    /// What is there for `key`, in order, and whether there may have been more.
    pub(super) fn take(&mut self, key: &str) -> (Vec<Message>, bool) {
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for (of, payload) in self.kept.drain(..) {
            if *of == *key {
                self.bytes -= of.len() + payload.len();
                taken.push(payload);
            } else {
                left.push_back((of, payload));
            }
        }
        self.kept = left;
        (taken, self.lost)
    }

    /// Something is missing of what may have come for those who are waited for.
    pub(super) fn lose(&mut self) {
        self.lost |= !self.kept.is_empty();
    }

    /// Nothing is waited for any more: what is left is for nobody.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Message> + use<> {
        std::mem::take(self).kept.into_iter().map(|(_, payload)| payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_in_order_and_for_its_own_key() {
        let mut held = Held::default();
        for (key, payload) in [("a", "1"), ("b", "2"), ("a", "3")] {
            assert!(held.hold(key, payload.into()));
        }
        assert_eq!(held.take("a"), (vec!["1".into(), "3".into()], false));
        assert_eq!(held.take("a"), (vec![], false));
        assert_eq!(held.clear().collect::<Vec<_>>(), ["2".into()]);
        assert_eq!((held.bytes, held.kept.len()), (0, 0));
    }

    #[test]
    fn what_finds_no_room_is_told_of() {
        let mut held = Held::default();
        assert!((0..MOST).all(|_| held.hold("a", "1".into())));
        assert!(!held.hold("b", "2".into()));
        assert_eq!(held.take("b"), (vec![], true));
        assert_eq!(held.clear().count(), MOST);
        assert!(!held.hold("a", Message::from("x".repeat(MOST_BYTES))));
        assert!(held.hold("a", Message::from("x".repeat(MOST_BYTES - 1))));
        held.clear().for_each(drop);
        assert_eq!(held.take("a"), (vec![], false), "and it begins anew");
        held.lose();
        assert!(held.hold("a", "1".into()));
        assert_eq!(held.take("b"), (vec![], false), "nothing was there");
        held.lose();
        assert_eq!(held.take("a"), (vec!["1".into()], true));
    }
}
