//! What the program's own messages come to, and whether their senders are told the truth.
//!
//! Messages are numbered in the order in which they were sent, over all names. The network says which
//! of them was handed to a socket, which the kernel took, and which the server got:
//!
//! 1. A message is handed to one socket at most, and those of a name are in their order. So it is for
//!    what the server gets of a name on one socket.
//! 2. `Ok`: the kernel has taken it by then. The server gets it once, unless its socket broke with it
//!    on its way.
//! 3. `Unknown`: it was handed to a socket that is lost by then.
//! 4. Any other error: it was handed to none and never is, and what the error says is so. The same
//!    holds for one that was taken back before it was handed over.
//! 5. All are told, in their time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Oracle;
use crate::error::SendError;
use crate::simulation::world::SockId;

/// What may be late by the granularity of timers.
const SLACK: Duration = Duration::from_millis(5);

type Outcome = Result<(), SendError>;

/// All messages, and how far they are.
pub(super) struct Letters {
    all: Vec<Letter>,
    /// The last that the server got, of a name on a socket.
    got: BTreeMap<(SockId, usize), usize>,
    /// The last of a name that was handed over.
    handed: BTreeMap<usize, usize>,
    /// For how long one may wait, and be written.
    longest: (Duration, Duration),
    /// How many of a stream may wait.
    most: usize,
}

struct Letter {
    fate: Fate,
    is_speakable: bool,
    name: usize,
    /// The socket that it was handed to.
    on: Option<SockId>,
    sent_at: Instant,
    /// The topic that it was sent on, if the name was there.
    topic: Option<usize>,
    way: Way,
}

/// What the sender knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    TakenBack,
    Told(Outcome),
    Waits,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Arrived,
    /// Its socket broke under way.
    Lost,
    OnIt,
    WithClient,
}

impl Letters {
    pub(super) fn new(config: &crate::config::Config) -> Self {
        Self {
            all: Vec::new(),
            got: BTreeMap::new(),
            handed: BTreeMap::new(),
            longest: (config.send_ttl, config.write_timeout),
            most: config.send_queue,
        }
    }

    fn is_late(&self, letter: &Letter) -> bool {
        let (waiting, writing) = self.longest;
        letter.sent_at.elapsed() > waiting + writing + SLACK
    }

    /// How many messages of `topic` wait with the client.
    fn waiting(&self, topic: Option<usize>) -> usize {
        let waits = |letter: &&Letter| letter.fate == Fate::Waits && letter.on.is_none();
        self.all.iter().filter(waits).filter(|letter| letter.topic == topic).count()
    }
}

impl Oracle {
    /// The program sends a message on `name`. Returns its number.
    pub(in crate::simulation) fn posts(&mut self, name: usize, is_speakable: bool) -> usize {
        let topic = self.current.get(&name).copied();
        let sent_at = Instant::now();
        let (fate, way) = (Fate::Waits, Way::WithClient);
        self.letters.all.push(Letter { fate, is_speakable, name, on: None, sent_at, topic, way });
        self.letters.all.len() - 1
    }

    /// The client hands a message to a socket.
    pub(in crate::simulation) fn hands_over(
        &mut self,
        number: usize,
        sock: SockId,
    ) -> Result<(), String> {
        let letter = &mut self.letters.all[number];
        if let Some(before) = letter.on.replace(sock) {
            return Err(format!("letter {number} is handed to sock {sock}, after sock {before}"));
        }
        if letter.fate != Fate::Waits {
            return Err(format!("letter {number} is written, and was {:?}", letter.fate));
        }
        match self.letters.handed.insert(letter.name, number) {
            Some(before) if before > number => {
                Err(format!("letter {number} is written after letter {before}"))
            }
            _ => Ok(()),
        }
    }

    /// The kernel takes a message.
    pub(in crate::simulation) fn takes(&mut self, number: usize) {
        self.letters.all[number].way = Way::OnIt;
    }

    /// A message comes to the server, or would have, had its socket not broken.
    pub(in crate::simulation) fn arrives(
        &mut self,
        number: usize,
        sock: SockId,
        is_heard: bool,
    ) -> Result<(), String> {
        let letter = &mut self.letters.all[number];
        if !is_heard {
            letter.way = Way::Lost;
            return Ok(());
        }
        if std::mem::replace(&mut letter.way, Way::Arrived) == Way::Arrived {
            return Err(format!("the server got letter {number} twice"));
        }
        match self.letters.got.insert((sock, letter.name), number) {
            Some(before) if before > number => {
                Err(format!("the server got letter {number} after letter {before}"))
            }
            _ => Ok(()),
        }
    }

    /// The sender of a message is told what came of it.
    pub(in crate::simulation) fn told(
        &mut self,
        number: usize,
        outcome: Outcome,
        is_lost: impl Fn(SockId) -> bool,
    ) -> Result<(), String> {
        let letter = &self.letters.all[number];
        let is_true = match outcome {
            Ok(()) => letter.way != Way::WithClient,
            Err(SendError::Unknown) => letter.on.is_some_and(is_lost),
            Err(error) => letter.on.is_none() && self.is_so(letter, error),
        };
        let (is_late, on, way) = (self.letters.is_late(letter), letter.on, letter.way);
        self.letters.all[number].fate = Fate::Told(outcome);
        if is_true && !is_late {
            return Ok(());
        }
        let waited = self.letters.all[number].sent_at.elapsed();
        let on = on.map_or("no socket".to_owned(), |sock| format!("sock {sock}"));
        Err(format!("letter {number}, given to {on} and {way:?}, is {outcome:?} after {waited:?}"))
    }

    /// Whether a message could not be sent for this reason.
    fn is_so(&self, letter: &Letter, error: SendError) -> bool {
        let is_there = letter.topic.is_some_and(|topic| self.is_kept(letter.name, topic));
        match error {
            SendError::Closed | SendError::NotOpen => !is_there,
            SendError::Expired => letter.sent_at.elapsed() >= self.letters.longest.0,
            // It counts itself.
            SendError::Full => self.letters.waiting(letter.topic) > self.letters.most,
            SendError::Refused => !letter.is_speakable,
            _ => false,
        }
    }

    /// Whether `topic` is there, and stays: somebody sits on it, and nothing has ended it.
    fn is_kept(&self, name: usize, topic: usize) -> bool {
        let is_current = self.current.get(&name) == Some(&topic);
        is_current && self.topics[topic].seats() > 0 && !self.may_have_ended(name)
    }

    /// The sender does not wait for what comes of it any more.
    pub(in crate::simulation) fn takes_back(&mut self, number: usize) {
        let letter = &mut self.letters.all[number];
        // What is being written cannot be taken back: nobody learns how it ends.
        letter.fate = Fate::TakenBack;
    }

    /// Nobody has waited for longer than may be.
    pub(in crate::simulation) fn nobody_waits_too_long(&self) -> Result<(), String> {
        let mut all = self.letters.all.iter().enumerate();
        let waits_long =
            |letter: &Letter| letter.fate == Fate::Waits && self.letters.is_late(letter);
        match all.find(|(_, letter)| waits_long(letter)) {
            Some((number, letter)) => {
                let waited = letter.sent_at.elapsed();
                Err(format!("the sender of letter {number} was told nothing in {waited:?}"))
            }
            None => Ok(()),
        }
    }

    /// All is over: everybody was told, and what was sent has come.
    pub(in crate::simulation) fn all_are_told(&self) -> Result<(), String> {
        for (number, letter) in self.letters.all.iter().enumerate() {
            let is_right = match letter.fate {
                Fate::Waits => false,
                Fate::Told(Ok(())) => matches!(letter.way, Way::Arrived | Way::Lost),
                Fate::Told(Err(SendError::Unknown)) | Fate::TakenBack => true,
                Fate::Told(Err(_)) => letter.on.is_none(),
            };
            if !is_right {
                let (fate, way) = (letter.fate, letter.way);
                return Err(format!("in the end letter {number} is {fate:?}, and {way:?}"));
            }
        }
        Ok(())
    }
}
