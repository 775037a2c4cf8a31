//! Who reads which name: taking a seat, leaving it, and sending to those who have one.

use std::time::Duration;

use futures::stream::{StreamExt as _, abortable, iter};

use super::feed::{Feed, Parcel, Seat, Verdict};
use super::state::Shard;
use crate::gateway::control::Form;
use crate::gateway::visitor::Denied;
use crate::gateway::words::{self, Id};
use crate::name::StreamName;

/// Why a name is not read.
struct Refused {
    code: &'static str,
    message: String,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self { code: denied.code(), message: denied.to_string() }
    }
}

impl Shard {
    /// Takes seats for a client, and tells it which.
    pub(super) fn subscribe(&mut self, client: usize, id: &Id, names: Vec<StreamName>) {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for name in names {
            match self.take_seat(client, &name) {
                Ok(()) => taken.push(name),
                Err(why) => {
                    let is_enough = why.code == Denied::TooMany.code();
                    refused.push((name, why));
                    if is_enough {
                        break;
                    }
                }
            }
        }
        if self.clients[client].form == Form::Raw {
            // It has one name, or nothing to do here.
            if let Some((_, why)) = refused.first() {
                let code = if why.code == "unavailable" { 1013 } else { 1008 };
                self.close(client, Some(code), why.code);
            }
            return;
        }
        self.say(client, words::ack(id, taken.iter().map(StreamName::as_str)));
        for (name, Refused { code, message }) in refused {
            self.say(client, words::error(id, code, Some(name.as_str()), &message));
        }
        for name in taken {
            let status = self.seat_of(client, &name).map(|at| {
                let (feed, _) = self.clients[client].names[at];
                self.feeds[feed].status
            });
            if let Some(status) = status.filter(|status| !status.is_empty()) {
                self.say(client, words::status(name.as_str(), status));
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, client: usize, id: &Id, names: &[StreamName]) {
        for name in names {
            if let Some(at) = self.seat_of(client, name) {
                let (feed, seat) = self.clients[client].names.swap_remove(at);
                self.give_back(feed, seat);
            }
        }
        self.say(client, words::ack(id, names.iter().map(StreamName::as_str)));
    }

    /// Which of a client's names that is, if any.
    fn seat_of(&self, client: usize, name: &StreamName) -> Option<usize> {
        self.clients[client].names.iter().position(|(feed, _)| self.feeds[*feed].name == *name)
    }

    /// Takes the client out of all feeds.
    pub(super) fn leave_all(&mut self, client: usize) {
        for (feed, seat) in std::mem::take(&mut self.clients[client].names) {
            self.give_back(feed, seat);
        }
    }

    /// Tells the readers of a feed what it is doing.
    pub(super) fn tell_status(&mut self, feed: usize, status: &'static str) {
        let Some(feed) = self.feeds.get_mut(feed) else { return };
        feed.status = status;
        let word = words::status(feed.name.as_str(), status);
        let readers: Vec<usize> = feed.seats.iter().map(|(_, seat)| seat.client).collect();
        for client in readers {
            if self.clients[client].form == Form::Words {
                self.say(client, word.clone());
            }
        }
    }

    /// A feed has come to its end: its readers are told, and leave it.
    pub(super) fn end(&mut self, feed: usize) {
        let Some(ended) = self.feeds.get(feed) else { return };
        let name = ended.name.clone();
        let word = words::error(&Id::default(), "ended", Some(name.as_str()), "it has ended");
        let readers: Vec<usize> = ended.seats.iter().map(|(_, seat)| seat.client).collect();
        for client in readers {
            self.clients[client].names.retain(|(own, _)| *own != feed);
            if self.clients[client].form == Form::Words {
                self.say(client, word.clone());
            } else {
                self.close(client, Some(1011), "ended");
            }
        }
        self.forget(feed);
    }

    /// Hands something to all readers of a feed.
    pub(super) fn send(&mut self, feed: usize, parcel: Option<Parcel<'_>>) {
        let (Some(mut parcel), Some(reading)) = (parcel, self.feeds.get_mut(feed)) else { return };
        let (mut denied, mut going_over, mut untold) = (Vec::new(), Vec::new(), Vec::new());
        let mut receivers = 0;
        for (_, seat) in &mut reading.seats {
            let client = &mut self.clients[seat.client];
            match seat.check(&client.visitor, &reading.name, reading.delay) {
                Verdict::Stays => {}
                Verdict::GoesOver => {
                    going_over.push(seat.client);
                    continue;
                }
                Verdict::Denied(why) => {
                    denied.push((seat.client, why));
                    continue;
                }
            }
            let Some(chunk) = parcel.chunk(client.form) else {
                untold.push(seat.client);
                continue;
            };
            client.queue.push(chunk);
            receivers += 1;
            if !std::mem::replace(&mut client.dirty, true) {
                self.dirty.push(seat.client);
            }
        }
        self.delivered += receivers * parcel.messages();
        for client in untold {
            self.close(client, Some(1012), "gap");
        }
        for (client, why) in denied {
            self.expel(client, feed, why);
        }
        for client in going_over {
            self.go_over(client, feed);
        }
    }

    fn take_seat(&mut self, client: usize, name: &StreamName) -> Result<(), Refused> {
        if self.seat_of(client, name).is_some() {
            return Ok(());
        }
        let visitor = self.clients[client].visitor.clone();
        if self.clients[client].names.len()
            >= self.config.names_per_client.min(visitor.standing().max_names())
        {
            return Err(Denied::TooMany.into());
        }
        // Looked at first: a change in between is seen by the next delivery.
        let version = visitor.standing().version();
        visitor.may_read(name)?;
        let held = visitor.standing().hold(name)?;
        let delay = visitor.standing().delay();
        let feed = match self.by_name.get(&(name.clone(), delay)) {
            Some(feed) => *feed,
            None => self.open(name, delay)?,
        };
        let seat = Seat::new(client, held, self.hub.reads(name), version);
        let seat = self.feeds[feed].seats.insert(seat);
        self.clients[client].names.push((feed, seat));
        Ok(())
    }

    fn open(&mut self, name: &StreamName, delay: Duration) -> Result<usize, Refused> {
        let (news, _) = self
            .source
            .open(name, delay)
            .map_err(|why| Refused { code: why.code(), message: why.to_string() })?;
        let entry = self.feeds.vacant_entry();
        let key = entry.key();
        let end = iter([(key, None)]);
        let (news, stop) = abortable(news.map(move |news| (key, Some(news))).chain(end));
        entry.insert(Feed::new(name.clone(), delay, stop));
        self.by_name.insert((name.clone(), delay), key);
        self.news.push(Box::pin(news));
        Ok(key)
    }

    /// Gives a seat back. With the last one, the feed is left.
    fn give_back(&mut self, feed: usize, seat: usize) {
        let Some(reading) = self.feeds.get_mut(feed) else { return };
        reading.seats.try_remove(seat);
        if reading.seats.is_empty() {
            self.forget(feed);
        }
    }

    fn forget(&mut self, feed: usize) {
        let feed = self.feeds.remove(feed);
        self.by_name.remove(&(feed.name.clone(), feed.delay));
    }

    /// Takes a seat away from a client that may not have it any more.
    fn expel(&mut self, client: usize, feed: usize, why: Denied) {
        let Some(name) = self.lose_seat(client, feed) else { return };
        if self.clients[client].form == Form::Raw {
            return self.close(client, Some(1008), why.code());
        }
        let word = words::error(&Id::default(), why.code(), Some(name.as_str()), &why.to_string());
        self.say(client, word);
    }

    /// Has a client read on by another feed of the same name, which comes earlier or later: what lies
    /// between, if anything, is missing, or comes again.
    fn go_over(&mut self, client: usize, feed: usize) {
        let Some(name) = self.lose_seat(client, feed) else { return };
        if self.clients[client].form == Form::Raw {
            return self.close(client, Some(1012), "gap");
        }
        let word = match self.take_seat(client, &name) {
            Ok(()) => words::replayed(name.as_str()),
            Err(Refused { code, message }) => {
                words::error(&Id::default(), code, Some(name.as_str()), &message)
            }
        };
        self.say(client, word);
    }

    /// Gives a client's seat back. Returns the name that it had.
    fn lose_seat(&mut self, client: usize, feed: usize) -> Option<StreamName> {
        let name = self.feeds.get(feed)?.name.clone();
        let seats = &mut self.clients[client].names;
        let at = seats.iter().position(|(own, _)| *own == feed)?;
        let (feed, seat) = seats.swap_remove(at);
        self.give_back(feed, seat);
        Some(name)
    }
}
