//! What has happened to connections lately.
//!
//! Written down from when the pages were made, so that who looks after something has happened sees it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::manager::WsManager;
use crate::observe::{ConnectionId, Event};
use crate::protocol::Lane;
use crate::stream::Events;

/// Events kept, the latest.
const KEPT: usize = 100;

/// What happens within so long, for the same reason, is one.
const TOGETHER: Duration = Duration::from_secs(5);

const RETRYING: &str = "retrying";

#[derive(Debug)]
pub(super) struct Timeline {
    log: Arc<Log>,
    /// What is to be followed, until there is a runtime to do it in.
    waiting: Mutex<Option<Events>>,
}

#[derive(Debug, Default)]
struct Log(Mutex<VecDeque<(Instant, Entry)>>);

/// One event, or as many of a kind as came together: in an outage that is thousands.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    count: usize,
    how: String,
    severity: &'static str,
    what: &'static str,
    /// Whom the latest was about.
    who: String,
    why: &'static str,
}

/// One event, as a page shows it.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    ago_ms: u64,
    detail: String,
    severity: &'static str,
    what: &'static str,
}

impl Timeline {
    pub(super) fn of(manager: &WsManager) -> Self {
        let timeline = Self { log: Arc::default(), waiting: Mutex::new(Some(manager.events())) };
        timeline.follow();
        timeline
    }

    /// What there is, the latest first.
    pub(super) fn told(&self) -> Vec<Told> {
        self.follow();
        let now = Instant::now();
        let told = |(at, entry): &(Instant, Entry)| Told {
            ago_ms: millis(now.saturating_duration_since(*at)),
            detail: entry.detail(),
            severity: entry.severity,
            what: entry.what,
        };
        self.log.lock().iter().rev().map(told).collect()
    }

    /// Begins to write down what happens, if that is possible and was not begun. Ends with the manager.
    fn follow(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let events = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut events) = events else { return };
        let log = Arc::downgrade(&self.log);
        runtime.spawn(async move {
            while let Some(event) = events.next().await {
                let Some(log) = log.upgrade() else { return };
                if let Some(entry) = entry(&event) {
                    log.write(Instant::now(), entry);
                }
            }
        });
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Entry)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, at: Instant, entry: Entry) {
        let mut log = self.lock();
        if let Some((then, one)) = log.back_mut().filter(|(_, one)| entry.goes_on(one)) {
            (*then, *one) = (at, Entry { count: one.count + 1, ..entry });
            return;
        }
        let mut recent =
            log.iter_mut().rev().take_while(|(then, _)| at.duration_since(*then) < TOGETHER);
        let same =
            |(_, one): &&mut (Instant, Entry)| (one.what, one.why) == (entry.what, entry.why);
        if let Some((_, one)) = recent.find(same) {
            *one = Entry { count: one.count + 1, ..entry };
            return;
        }
        if log.len() == KEPT {
            log.pop_front();
        }
        log.push_back((at, entry));
    }
}

impl Entry {
    fn new(what: &'static str, severity: &'static str, who: String) -> Self {
        Self { count: 1, how: String::new(), severity, what, who, why: "" }
    }

    /// With a reason: of a failure its label, as its words may be a server's.
    fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    fn how(self, how: String) -> Self {
        Self { how, ..self }
    }

    /// Whether this is more of the same with nothing in between: an outage is a line, however long it is.
    fn goes_on(&self, before: &Self) -> bool {
        self.what == RETRYING && (before.what, before.why) == (self.what, self.why)
    }

    fn detail(&self) -> String {
        let Self { count, how, who, why, .. } = self;
        let who = if *count == 1 { who.clone() } else { format!("{count} times, lately {who}") };
        let said = [why, how.as_str()].into_iter().filter(|said| !said.is_empty());
        match said.collect::<Vec<_>>().join("; ") {
            said if said.is_empty() => who,
            said => format!("{who}: {said}"),
        }
    }
}

/// What a page says of an event, if it says anything.
fn entry(event: &Event) -> Option<Entry> {
    let of = |connection: &ConnectionId, lane: &Lane| {
        format!("connection {connection} ({})", lane.as_str())
    };
    Some(match event {
        Event::Connected { connection, lane, attempt, handshake } => {
            let after = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let entry = Entry::new("connected", "pass", of(connection, lane));
            entry.how(format!("in {handshake:.0?}{after}"))
        }
        Event::Disconnected { connection, lane, reason, uptime } => {
            let entry = Entry::new("disconnected", "warn", of(connection, lane));
            entry.because(reason.label()).how(format!("after {uptime:.0?}"))
        }
        Event::Retrying { connection, lane, attempt, delay, error } => {
            let entry = Entry::new(RETRYING, "warn", of(connection, lane));
            entry.because(error.reason().label()).how(format!("attempt {attempt} in {delay:.1?}"))
        }
        Event::Closed { connection, lane, reason } if reason.label() != "unused" => {
            Entry::new("closed for good", "fail", of(connection, lane)).because(reason.label())
        }
        Event::HandingOver { connection, lane, reason, .. } => {
            Entry::new("handing over", "pass", of(connection, lane)).because(reason.label())
        }
        Event::StreamMoved { name, aligned: true } => {
            Entry::new("moved", "pass", name.to_string()).because("without a gap")
        }
        Event::StreamMoved { name, aligned: false } => {
            Entry::new("moved", "warn", name.to_string()).because("with a gap")
        }
        Event::StreamRetrying { name, attempt, delay, error } => {
            let entry = Entry::new(RETRYING, "warn", name.to_string());
            entry.because(error.reason().label()).how(format!("attempt {attempt} in {delay:.1?}"))
        }
        Event::StreamClosed { name, reason } if reason.label() != "unused" => {
            Entry::new("ended", "fail", name.to_string()).because(reason.label())
        }
        _ => return None,
    })
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;
    use crate::name::StreamName;

    #[test]
    fn the_latest_are_kept() {
        let log = Log::default();
        let now = Instant::now();
        for number in 0..=KEPT {
            let at = now + TOGETHER * u32::try_from(number).unwrap();
            log.write(at, Entry::new("connected", "pass", number.to_string()));
        }
        let log = log.lock();
        assert_eq!((log.len(), &*log[0].1.who), (KEPT, "1"));
    }

    #[test]
    fn what_happens_to_many_at_once_is_one_line() {
        let log = Log::default();
        let now = Instant::now();
        for number in 1..=500 {
            let who = number.to_string();
            log.write(now, Entry::new("disconnected", "warn", who.clone()).because("ended"));
            log.write(now, Entry::new(RETRYING, "warn", who).because("ended"));
        }
        log.write(now, Entry::new("disconnected", "warn", "501".to_owned()).because("dns"));
        let details: Vec<_> = log.lock().iter().map(|(_, entry)| entry.detail()).collect();
        assert_eq!(details[..2], ["500 times, lately 500: ended"; 2]);
        assert_eq!(details[2..], ["501: dns"]);
    }

    #[test]
    fn an_outage_is_one_line_however_long_it_is() {
        let (log, now) = (Log::default(), Instant::now());
        let retrying = |who: &str, why| Entry::new(RETRYING, "warn", who.to_owned()).because(why);
        for turn in 0..200_u32 {
            log.write(now + TOGETHER * 2 * turn, retrying(["1", "2"][turn as usize % 2], "io"));
        }
        let lost = Entry::new("disconnected", "warn", "3".to_owned()).because("ended");
        log.write(now + TOGETHER * 500, lost);
        log.write(now + TOGETHER * 600, retrying("1", "io"));
        log.write(now + TOGETHER * 700, retrying("1", "dns"));
        let log = log.lock();
        let details: Vec<_> = log.iter().map(|(_, entry)| entry.detail()).collect();
        assert_eq!(details, ["200 times, lately 2: io", "3: ended", "1: io", "1: dns"]);
        assert_eq!(log[0].0, now + TOGETHER * 398, "it says when it was last so");
    }

    #[test]
    fn a_server_s_words_are_not_shown_and_what_was_wanted_is_no_news() {
        let name = StreamName::try_from("a").unwrap();
        let ended = |reason| entry(&Event::StreamClosed { name: name.clone(), reason });
        let reason = CloseReason::Rejected { reason: "token abc is bad".into() };
        assert_eq!(ended(reason).unwrap().detail(), "a: rejected");
        assert_eq!(ended(CloseReason::Unused), None);
    }
}
