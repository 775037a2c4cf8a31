//! The calls of a socket that have no answer yet.
//!
//! - Numbers rise from 1, and none is given twice on a socket. So an answer is known, late (or said
//!   twice), or one to nothing that was ever asked.
//! - What waits here is bounded: by the names and requests of the program, and by [`MOST`] where a
//!   server answers nothing at all.

use std::collections::HashMap;

use crate::protocol::RequestId;

/// How many calls may wait. More than a socket has names and requests is a server that does not answer.
const MOST: usize = 16_384;

#[derive(Debug)]
pub(super) struct Calls<T> {
    last: u64,
    /// The numbers of requests.
    requests: HashMap<RequestId, u64>,
    waiting: HashMap<u64, Call<T>>,
}

/// Who waits for an answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Call<T> {
    /// The session itself.
    Own(T),
    /// The program.
    Request(RequestId),
}

/// What an answer belongs to.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answered<T> {
    Known(Call<T>),
    /// To what was answered before, or is not waited for any more.
    Late,
    /// To nothing that was asked.
    Stranger,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self { last: 0, requests: HashMap::new(), waiting: HashMap::new() }
    }
}

impl<T> Calls<T> {
    /// The number of a call of the session's own.
    pub(super) fn own(&mut self, call: T) -> u64 {
        self.add(Call::Own(call))
    }

    /// The number of a request of the program's.
    pub(super) fn request(&mut self, id: RequestId) -> u64 {
        self.forget(id);
        let number = self.add(Call::Request(id));
        self.requests.insert(id, number);
        number
    }

    /// Nobody waits for the answer to a request any more.
    pub(super) fn forget(&mut self, id: RequestId) {
        if let Some(number) = self.requests.remove(&id) {
            self.waiting.remove(&number);
        }
    }

    /// The answer to a call of the session's own now means something else.
    pub(super) fn turn(&mut self, number: u64, into: T) {
        if let Some(call) = self.waiting.get_mut(&number) {
            *call = Call::Own(into);
        }
    }

    pub(super) fn answered(&mut self, number: u64) -> Answered<T> {
        match self.waiting.remove(&number) {
            Some(call) => {
                if let Call::Request(id) = &call {
                    self.requests.remove(id);
                }
                Answered::Known(call)
            }
            None if (1..=self.last).contains(&number) => Answered::Late,
            None => Answered::Stranger,
        }
    }

    /// Whether a server that answered anything would have left less.
    pub(super) fn is_overdue(&self) -> bool {
        self.waiting.len() > MOST
    }

    fn add(&mut self, call: Call<T>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, call);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_once_and_late_from_then_on() {
        let mut calls = Calls::default();
        let (own, asked) = (calls.own('a'), calls.request(RequestId(70)));
        assert_eq!((own, asked), (1, 2));
        assert_eq!(calls.answered(2), Answered::Known(Call::Request(RequestId(70))));
        assert_eq!(calls.answered(2), Answered::Late);
        calls.turn(1, 'b');
        assert_eq!(calls.answered(1), Answered::Known(Call::Own('b')));
        assert_eq!(calls.answered(1), Answered::Late);
        for stranger in [0, 3, u64::MAX] {
            assert_eq!(calls.answered(stranger), Answered::Stranger);
        }
    }

    #[test]
    fn a_request_that_is_asked_again_or_given_up_leaves_nothing() {
        let mut calls = Calls::<()>::default();
        assert_eq!((calls.request(RequestId(5)), calls.request(RequestId(5))), (1, 2));
        assert_eq!(calls.answered(1), Answered::Late);
        calls.forget(RequestId(5));
        calls.forget(RequestId(5));
        assert_eq!(calls.answered(2), Answered::Late);
        assert!(calls.waiting.is_empty() && calls.requests.is_empty());
    }

    #[test]
    fn a_server_that_answers_nothing_is_noticed() {
        let mut calls = Calls::default();
        (0..MOST).for_each(|_| assert!(calls.own(()) > 0));
        assert!(!calls.is_overdue());
        calls.own(());
        assert!(calls.is_overdue());
    }
}
