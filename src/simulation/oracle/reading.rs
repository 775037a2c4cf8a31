//! One reader: what it is owed, and what it got.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::moving::Follower;
use super::{End, Oracle, Topic};
use crate::error::{CloseReason, Gap};

/// More notices than this wait for no reader: the engine merges them.
const CROWDED: usize = 60;

#[allow(clippy::struct_excessive_bools, reason = "each can be so whatever the others are")]
pub(in crate::simulation) struct Reading {
    /// Too many gaps were waiting to tell them apart: only the order is checked from then on.
    crowded: bool,
    /// How many gaps the next one stands for, after a lag.
    covered: usize,
    /// Who looks at it, where sockets are replaced.
    pub(super) follower: Option<Follower>,
    /// Whether it has got a message or its end since the faults were over.
    pub(in crate::simulation) is_fed: bool,
    pub(super) in_break: bool,
    is_over: bool,
    last: Option<u64>,
    pub(super) owed: VecDeque<Owed>,
    pub(super) topic: usize,
    /// Where it began in its topic, for what the failure says.
    start: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Owed {
    End(End),
    Gap(Due),
    /// The message at that place of its topic.
    Message(usize),
}

/// A gap that is due.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Due {
    down_for: Duration,
    /// The label of its reason; none where only the client knows.
    reason: Option<&'static str>,
}

/// A break that no join has mended yet.
pub(super) struct Broken {
    reason: Option<&'static str>,
    since: Instant,
}

impl Broken {
    pub(super) fn new(since: Instant, reason: Option<&'static str>) -> Self {
        Self { reason, since }
    }

    pub(super) fn gap(&self, now: Instant) -> Due {
        let down_for = now.saturating_duration_since(self.since);
        Due { down_for, reason: self.reason }
    }
}

/// What a reader got.
#[derive(Debug)]
pub(in crate::simulation) enum Item {
    Closed(CloseReason),
    /// `None`: the stream says that it is over.
    End,
    Gap(Gap),
    Message {
        bytes: usize,
        number: Option<u64>,
    },
    /// There is nothing to read now.
    Nothing,
}

impl Reading {
    pub(super) fn new(topic: usize, start: usize) -> Self {
        Self {
            crowded: false,
            covered: 0,
            follower: None,
            is_fed: false,
            in_break: false,
            is_over: false,
            last: None,
            owed: VecDeque::new(),
            topic,
            start,
        }
    }

    /// Whether there is something to read.
    pub(in crate::simulation) fn is_owed(&self) -> bool {
        self.follower.is_none() && !self.owed.is_empty()
    }

    pub(in crate::simulation) fn is_over(&self) -> bool {
        self.is_over
    }

    /// How many gaps stand before the next message or the end.
    fn due(&self) -> usize {
        self.owed.iter().take_while(|owed| matches!(owed, Owed::Gap(_))).count()
    }

    fn message(&mut self, messages: &[(u64, usize)], got: (u64, usize)) -> Result<(), String> {
        let in_order = self.last.is_none_or(|last| last < got.0);
        self.last = Some(got.0);
        if !in_order {
            return Err(format!("message {got:?} comes again, or out of order"));
        }
        if self.crowded {
            while self.owed.front().is_some_and(|owed| match owed {
                Owed::Message(at) => messages[*at].0 <= got.0,
                Owed::Gap(_) => true,
                Owed::End(_) => false,
            }) {
                self.owed.pop_front();
            }
            return Ok(());
        }
        match self.owed.front() {
            Some(Owed::Message(at)) if messages[*at] == got => {
                self.owed.pop_front();
                self.covered = 0;
                Ok(())
            }
            Some(Owed::Message(at)) => {
                Err(format!("got message {got:?} where {:?} is next", messages[*at]))
            }
            other => Err(format!("got message {got:?} where {other:?} is owed")),
        }
    }

    /// Steps over what was lost; the gaps in it stay owed, as one. Returns the next place.
    fn lag(&mut self, missed: u64) -> Result<usize, String> {
        if missed == 0 || self.due() > 0 {
            return Err(format!("lagged by {missed} where {:?} is owed", self.owed.front()));
        }
        let mut gaps = VecDeque::new();
        let (mut left, mut next) = (missed, 0);
        while left > 0 {
            match self.owed.pop_front() {
                Some(Owed::Message(at)) => (next, left) = (at + 1, left - 1),
                Some(gap @ Owed::Gap(_)) => gaps.push_back(gap),
                other => return Err(format!("lagged by {missed}, and {left} are {other:?}")),
            }
        }
        gaps.append(&mut self.owed);
        self.owed = gaps;
        self.covered = self.due();
        Ok(next)
    }

    fn gap(&mut self, got: &Due) -> Result<(), String> {
        if self.crowded {
            return Ok(());
        }
        if self.due() == 0 {
            return Err(format!("a gap {got:?} where {:?} is owed", self.owed.front()));
        }
        let covers = std::mem::take(&mut self.covered).max(1);
        let gaps: Vec<_> = self.owed.drain(..covers).collect();
        let (mut down_for, mut reason) = (Duration::ZERO, None);
        for gap in &gaps {
            if let Owed::Gap(due) = gap {
                down_for += due.down_for;
                reason = due.reason;
            }
        }
        let is_it = down_for == got.down_for && (reason.is_none() || reason == got.reason);
        if is_it { Ok(()) } else { Err(format!("got {got:?} where {gaps:?} is owed")) }
    }

    fn closed(&mut self, reason: &CloseReason) -> Result<(), String> {
        self.is_over = true;
        let is_end = |owed: &Owed| matches!(owed, Owed::End(_));
        if self.crowded {
            while self.owed.front().is_some_and(|owed| !is_end(owed)) {
                self.owed.pop_front();
            }
        }
        match self.owed.pop_front() {
            Some(Owed::End(end)) if end.is(reason) => Ok(()),
            other => Err(format!("closed because of `{reason}` where {other:?} is owed")),
        }
    }

    fn nothing(&self) -> Result<(), String> {
        match self.owed.front() {
            Some(owed) if !self.crowded => Err(format!("got nothing where {owed:?} is owed")),
            _ => Ok(()),
        }
    }
}

impl Topic {
    /// Where a ring of these bounds begins.
    fn window(&self, (buffer, bytes): (usize, usize)) -> usize {
        let mut sum = 0;
        let fits = |message: &&(u64, usize)| {
            sum += message.1;
            sum <= bytes
        };
        let kept = self.messages.iter().rev().take(buffer).take_while(fits).count();
        self.messages.len() - kept.max(1).min(self.messages.len())
    }
}

impl Oracle {
    /// `reader` has read, and got `item`.
    pub(in crate::simulation) fn reads(
        &mut self,
        reader: usize,
        item: &Item,
    ) -> Result<(), String> {
        let Some(reading) = self.readers.get_mut(&reader) else { return Ok(()) };
        let topic = &self.topics[reading.topic];
        let gaps = reading.owed.iter().filter(|owed| matches!(owed, Owed::Gap(_))).count();
        reading.crowded |= gaps > CROWDED;
        let feeds = matches!(item, Item::Message { .. } | Item::Closed(_) | Item::End);
        reading.is_fed |= feeds;
        let result = match item {
            item if reading.follower.is_some() => {
                reading.is_over |= matches!(item, Item::Closed(_));
                let course = &self.courses[&topic.name];
                let follower = reading.follower.as_mut();
                follower.map_or(Ok(()), |follower| follower.reads(item, course))
            }
            Item::Message { bytes, number: Some(number) } => {
                reading.message(&topic.messages, (*number, *bytes))
            }
            Item::Message { .. } => Err("a message that nobody sent".to_owned()),
            Item::Gap(Gap::Lagged { missed }) => reading.lag(*missed).and_then(|next| {
                let oldest = topic.window(self.buffer);
                let is_it = next == oldest || reading.crowded;
                is_it.then_some(()).ok_or_else(|| {
                    format!("lagged by {missed} to {next}, and the oldest kept is {oldest}")
                })
            }),
            Item::Gap(Gap::Reconnected { down_for, reason }) => {
                reading.gap(&Due { down_for: *down_for, reason: Some(reason.label()) })
            }
            Item::Gap(gap) => Err(format!("a gap that nobody made: {gap:?}")),
            Item::Closed(reason) => reading.closed(reason),
            Item::End if reading.is_over => Ok(()),
            Item::End => Err("over, and no reason was given".to_owned()),
            Item::Nothing => reading.nothing(),
        };
        result.map_err(|what| {
            let (name, start) = (topic.name, reading.start);
            format!("reader {reader} of {name}, there since its message {start}: {what}")
        })
    }
}
