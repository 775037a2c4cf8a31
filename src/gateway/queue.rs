//! What waits for one client, and what becomes of it when the client is slow. No I/O.
//!
//! - Frames of a round are shared: an entry is a reference and a range.
//! - A frame that is partly sent is finished before anything else, whatever is dropped.
//! - What is dropped of a name is counted in one gap, which stands before the next frame of that name.
//! - Words (acks, errors, pings) are never dropped. A client that has asked for more of them than the
//!   queue holds, and reads none, is [full](Full).

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::config::SlowClient;
use super::frame;
use super::words;
use crate::name::StreamName;

/// Frames of one name, joined.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    /// Whether the frames are messages; else it is one that tells of a gap upstream.
    pub(super) is_data: bool,
    pub(super) name: StreamName,
}

/// More waits than may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: usize,
    entries: VecDeque<Entry>,
    /// How much of the first entry is sent.
    sent: usize,
}

#[derive(Debug)]
enum Entry {
    Data { chunk: Arc<Chunk>, range: Range<usize> },
    Gap { bytes: Bytes, missed: u64, name: StreamName },
    Word(Bytes),
}

impl Entry {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Data { chunk, range } => &chunk.bytes[range.clone()],
            Self::Gap { bytes, .. } | Self::Word(bytes) => bytes,
        }
    }

    /// Whose messages it bears, if any, and how many.
    fn frames(&self) -> Option<(&StreamName, u64)> {
        match self {
            Self::Data { chunk, .. } if chunk.is_data => {
                Some((&chunk.name, frame::count(self.bytes())))
            }
            Self::Data { chunk, .. } => Some((&chunk.name, 0)),
            Self::Gap { missed, name, .. } => Some((name, *missed)),
            Self::Word(_) => None,
        }
    }

    fn is_data(&self) -> bool {
        matches!(self, Self::Data { chunk, .. } if chunk.is_data)
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How much waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, chunk: &Arc<Chunk>) {
        let range = 0..chunk.bytes.len();
        self.push_entry(Entry::Data { chunk: Arc::clone(chunk), range });
    }

    pub(super) fn push_word(&mut self, word: Bytes) {
        self.push_entry(Entry::Word(word));
    }

    fn push_entry(&mut self, entry: Entry) {
        self.bytes += entry.bytes().len();
        if self.entries.capacity() == 0 {
            // Most often it is sent before anything else comes.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
    }

    /// What is to be written next, in at most `slices.len()` pieces. Returns how many those are.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut sent = self.sent;
        let mut count = 0;
        for (slice, entry) in slices.iter_mut().zip(&self.entries) {
            *slice = IoSlice::new(&entry.bytes()[sent..]);
            sent = 0;
            count += 1;
        }
        count
    }

    /// Takes note that `written` bytes more are sent.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(first) = self.entries.front() {
            let left = first.bytes().len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.sent = 0;
            self.entries.pop_front();
        }
        if self.entries.capacity() > 1 {
            // Room for a backlog is not kept, as most clients have none.
            self.entries = VecDeque::new();
        }
    }

    /// Drops everything but what is left of a frame that is partly sent.
    pub(super) fn finish_frame(&mut self) {
        let begun = self.split_begun();
        self.entries.clear();
        self.bytes = 0;
        if let Some(begun) = begun {
            self.restore(begun);
        }
    }

    /// Brings the queue of a client that does not keep up back into its bounds. Returns how many
    /// messages were dropped.
    pub(super) fn enforce(&mut self, policy: SlowClient, limit: usize) -> Result<u64, Full> {
        match policy {
            SlowClient::Conflate => Ok(self.conflate()),
            _ if self.bytes <= limit => return Ok(0),
            SlowClient::DropOldest => Ok(self.drop_oldest(limit)),
            SlowClient::Disconnect => Err(Full),
        }
        .and_then(|dropped| if self.bytes > limit { Err(Full) } else { Ok(dropped) })
    }

    fn drop_oldest(&mut self, limit: usize) -> u64 {
        let begun = self.split_begun();
        let mut bytes: usize = self.entries.iter().map(|entry| entry.bytes().len()).sum();
        bytes += begun.as_ref().map_or(0, |(entry, sent)| entry.bytes().len() - sent);
        let mut missed = Missed::default();
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            // Room for the gaps that will be told.
            let full = bytes + missed.len() > limit;
            match entry.frames() {
                Some((name, frames)) if full => {
                    bytes -= entry.bytes().len();
                    missed.add(name, frames, entry.is_data());
                }
                _ => kept.push_back(entry),
            }
        }
        self.entries = kept;
        let dropped = missed.dropped;
        for (name, missed) in missed.names.into_iter().rev() {
            self.entries.push_front(gap(name, "slow", missed));
        }
        self.recount(begun);
        dropped
    }

    /// Keeps the newest message of each name.
    fn conflate(&mut self) -> u64 {
        let begun = self.split_begun();
        // Of each name, from its newest message on: how many before it are dropped, if anything is.
        let mut newest: HashMap<StreamName, Option<u64>> = HashMap::new();
        let mut dropped = 0;
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..).rev() {
            match entry.frames() {
                Some((name, frames)) => match newest.get_mut(name) {
                    Some(missed) => {
                        *missed = Some(missed.unwrap_or_default() + frames);
                        dropped += if entry.is_data() { frames } else { 0 };
                    }
                    None if entry.is_data() => {
                        newest.insert(name.clone(), (frames > 1).then(|| frames - 1));
                        dropped += frames - 1;
                        kept.push_front(last_frame(entry));
                    }
                    // A gap after which nothing came.
                    None => kept.push_front(entry),
                },
                None => kept.push_front(entry),
            }
        }
        for entry in kept {
            if let Some((name, _)) = entry.frames().filter(|_| entry.is_data()) {
                if let Some(Some(missed)) = newest.remove(name) {
                    self.entries.push_back(gap(name.clone(), "conflated", missed));
                }
            }
            self.entries.push_back(entry);
        }
        self.recount(begun);
        dropped
    }

    /// Takes out the frame that is partly sent, and what of it is. What follows it in the same entry
    /// stays.
    fn split_begun(&mut self) -> Option<(Entry, usize)> {
        if self.sent == 0 {
            return None;
        }
        let first = self.entries.pop_front()?;
        let mut sent = std::mem::take(&mut self.sent);
        let Entry::Data { chunk, range } = first else { return Some((first, sent)) };
        let mut start = range.start;
        while let Some(len) = frame::len(&chunk.bytes[start..range.end]) {
            if sent < len {
                break;
            }
            sent -= len;
            start += len;
        }
        let end = start + frame::len(&chunk.bytes[start..range.end]).unwrap_or_default();
        if sent == 0 {
            // Between two frames.
            self.entries.push_front(Entry::Data { chunk, range: start..range.end });
            return None;
        }
        if end < range.end {
            let rest = Entry::Data { chunk: Arc::clone(&chunk), range: end..range.end };
            self.entries.push_front(rest);
        }
        Some((Entry::Data { chunk, range: start..end }, sent))
    }

    fn restore(&mut self, (entry, sent): (Entry, usize)) {
        self.bytes += entry.bytes().len() - sent;
        self.sent = sent;
        self.entries.push_front(entry);
    }

    fn recount(&mut self, begun: Option<(Entry, usize)>) {
        self.bytes = self.entries.iter().map(|entry| entry.bytes().len()).sum();
        if let Some(begun) = begun {
            self.restore(begun);
        }
    }
}

fn gap(name: StreamName, reason: &'static str, missed: u64) -> Entry {
    Entry::Gap { bytes: words::missed(name.as_str(), reason, missed), missed, name }
}

fn last_frame(entry: Entry) -> Entry {
    let Entry::Data { chunk, mut range } = entry else { return entry };
    while let Some(len) = frame::len(&chunk.bytes[range.clone()]) {
        if len >= range.len() {
            break;
        }
        range.start += len;
    }
    Entry::Data { chunk, range }
}

/// What was dropped, by name, in the order in which names came.
#[derive(Default)]
struct Missed {
    dropped: u64,
    names: Vec<(StreamName, u64)>,
}

impl Missed {
    fn add(&mut self, name: &StreamName, frames: u64, is_data: bool) {
        self.dropped += if is_data { frames } else { 0 };
        match self.names.iter_mut().find(|(own, _)| own == name) {
            Some((_, missed)) => *missed += frames,
            None => self.names.push((name.clone(), frames)),
        }
    }

    /// About how long the gaps will be.
    fn len(&self) -> usize {
        self.names.iter().map(|(name, _)| name.as_str().len() + 96).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn name(at: usize) -> StreamName {
        StreamName::try_from(["a", "b", "c"][at]).unwrap()
    }

    /// A round's frames of a name, numbered from `from` on.
    fn chunk(at: usize, from: u64, frames: u64) -> Arc<Chunk> {
        let prefix = words::data_prefix(name(at).as_str());
        let mut out = BytesMut::new();
        for number in from..from + frames {
            words::put_data(&mut out, &prefix, &number.to_string().into());
        }
        Arc::new(Chunk { bytes: out.freeze(), is_data: true, name: name(at) })
    }

    /// Sends up to `bytes` of what waits.
    fn send(queue: &mut Queue, sent: &mut Vec<u8>, bytes: usize) {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = queue.slices(&mut slices);
        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        let some = bytes.min(all.len());
        sent.extend_from_slice(&all[..some]);
        queue.advance(some);
    }

    fn send_all(queue: &mut Queue, sent: &mut Vec<u8>) {
        while !queue.is_empty() {
            send(queue, sent, usize::MAX);
        }
    }

    /// What a client reads.
    fn read(mut sent: &[u8]) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        while let Some(len) = frame::len(sent) {
            let (one, rest) = sent.split_at(len);
            let header = if one[1] == 126 { 4 } else { 2 };
            all.push(serde_json::from_slice(&one[header..]).expect("a whole frame"));
            sent = rest;
        }
        assert!(sent.is_empty(), "half a frame");
        all
    }

    /// Each name's numbers, from 0 to `totals`, come in order, or are counted in a gap in their place.
    /// What follows the last one may be in a gap, too.
    fn nothing_is_lost(read: &[serde_json::Value], totals: [u64; 3]) {
        for (at, total) in totals.into_iter().enumerate() {
            let mut next = 0;
            for frame in read.iter().filter(|frame| frame["name"] == *name(at).as_str()) {
                if frame["type"] == "gap" {
                    next += frame["missed"].as_u64().unwrap();
                } else {
                    assert_eq!(frame["data"].as_u64(), Some(next), "{read:?}");
                    next += 1;
                }
            }
            assert_eq!(next, total, "{read:?}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, u64),
        Send(usize),
        Word,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3_usize, 1..5_u64).prop_map(|(at, frames)| Step::Push(at, frames)),
            (0..400_usize).prop_map(Step::Send),
            Just(Step::Word),
        ];
        prop::collection::vec(step, 1..60)
    }

    fn run(steps: Vec<Step>, policy: SlowClient) {
        let (mut queue, mut sent, mut totals, mut words) =
            (Queue::default(), Vec::new(), [0; 3], 0);
        for step in steps {
            match step {
                Step::Push(at, frames) => {
                    queue.push(&chunk(at, totals[at], frames));
                    totals[at] += frames;
                }
                Step::Send(bytes) => send(&mut queue, &mut sent, bytes),
                Step::Word => {
                    queue.push_word(words::pong(&words::Id::default()));
                    words += 1;
                }
            }
            let _ = queue.enforce(policy, 600);
            let entries: usize = queue.entries.iter().map(|entry| entry.bytes().len()).sum();
            assert_eq!(queue.bytes, entries - queue.sent);
        }
        send_all(&mut queue, &mut sent);
        let read = read(&sent);
        nothing_is_lost(&read, totals);
        assert_eq!(read.iter().filter(|frame| frame["type"] == "pong").count(), words);
    }

    proptest! {
        #[test]
        fn whatever_is_dropped_for_a_slow_client_is_told_in_its_place(steps in steps()) {
            run(steps, SlowClient::DropOldest);
        }

        #[test]
        fn whatever_is_conflated_for_a_slow_client_is_told_in_its_place(steps in steps()) {
            run(steps, SlowClient::Conflate);
        }
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn the_check_refuses_a_queue_that_drops_in_silence() {
        let mut queue = Queue::default();
        queue.push(&chunk(0, 0, 2));
        queue.push(&chunk(0, 2, 2));
        queue.entries.pop_front();
        let mut sent = Vec::new();
        send_all(&mut queue, &mut sent);
        nothing_is_lost(&read(&sent), [4, 0, 0]);
    }

    #[test]
    fn the_oldest_give_way_and_the_queue_stays_in_its_bounds() {
        let mut queue = Queue::default();
        for round in 0..100 {
            queue.push(&chunk(0, round * 2, 2));
            queue.enforce(SlowClient::DropOldest, 500).unwrap();
            assert!(queue.bytes <= 500);
        }
        let mut sent = Vec::new();
        send_all(&mut queue, &mut sent);
        let read = read(&sent);
        assert_eq!((&read[0]["type"], &read[0]["reason"]), (&"gap".into(), &"slow".into()));
        assert_eq!(read.last().unwrap()["data"], 199);
    }

    #[test]
    fn a_conflated_queue_has_the_newest_of_each_name() {
        let mut queue = Queue::default();
        for round in 0..10 {
            queue.push(&chunk(0, round * 3, 3));
            queue.push(&chunk(1, round, 1));
            queue.enforce(SlowClient::Conflate, 10_000).unwrap();
        }
        let mut sent = Vec::new();
        send_all(&mut queue, &mut sent);
        let told: Vec<_> = read(&sent)
            .iter()
            .map(|frame| frame.get("missed").or(frame.get("data")).unwrap().as_u64().unwrap())
            .collect();
        assert_eq!(told, [29, 29, 9, 9]);
    }

    #[test]
    fn a_gap_upstream_is_told_or_part_of_one_that_is() {
        for policy in [SlowClient::Conflate, SlowClient::DropOldest] {
            let mut queue = Queue::default();
            queue.push(&chunk(0, 0, 1));
            let bytes = words::missed("a", "reconnected", 0);
            queue.push(&Arc::new(Chunk { bytes, is_data: false, name: name(0) }));
            queue.push(&chunk(0, 1, 1));
            queue.enforce(policy, 130).unwrap();
            let mut sent = Vec::new();
            send_all(&mut queue, &mut sent);
            assert!(read(&sent).iter().any(|word| word["type"] == "gap"), "{policy:?}");
            nothing_is_lost(&read(&sent), [2, 0, 0]);
        }
    }

    #[test]
    fn a_client_whose_policy_it_is_or_who_asks_without_reading_is_full() {
        let mut queue = Queue::default();
        queue.push(&chunk(0, 0, 10));
        assert_eq!(queue.enforce(SlowClient::Disconnect, 10_000), Ok(0));
        assert_eq!(queue.enforce(SlowClient::Disconnect, 100), Err(Full));
        queue.finish_frame();
        assert!(queue.is_empty());
        for _ in 0..100 {
            queue.push_word(words::pong(&words::Id::default()));
        }
        assert_eq!(queue.enforce(SlowClient::DropOldest, 1000), Err(Full));
        assert_eq!(queue.enforce(SlowClient::Conflate, 1000), Err(Full));
    }

    #[test]
    fn a_frame_that_is_partly_sent_is_finished() {
        let mut queue = Queue::default();
        queue.push(&chunk(0, 0, 3));
        let one = frame::len(queue.entries[0].bytes()).unwrap();
        let mut sent = Vec::new();
        send(&mut queue, &mut sent, one + 1);
        queue.finish_frame();
        assert_eq!(queue.bytes, one - 1);
        send_all(&mut queue, &mut sent);
        assert_eq!(read(&sent).len(), 2);
        // Between two frames, there is none.
        queue.push(&chunk(0, 0, 3));
        send(&mut queue, &mut sent, one);
        queue.finish_frame();
        assert!(queue.is_empty());
    }
}
