//! `wsmux replay`: prints recorded streams, by the code of `tail`.
//!
//! The file is read as it is printed, and looked through once before: for its names, and how long it is.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use futures::stream::unfold;
use indicatif::ProgressBar;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use wsmux::StreamName;
use wsmux::record::{Item, ReadError, Record, Records};

use crate::args::Replay;
use crate::exit::{Exit, Failure};
use crate::progress::{bounded, tell};
use crate::tail::{End, Said, print_recorded, say};
use crate::values::Speed;

pub(crate) async fn run(args: Replay) -> Result<Exit, Failure> {
    let shown = args.file.display().to_string();
    let cannot = |e: &ReadError| {
        let failure = Failure::usage(format!("cannot replay {shown}")).cause(e);
        failure.hint("`wsmux record -o FILE …` writes what can be replayed")
    };
    let file = args.file.clone();
    let looked = spawn_blocking(move || look(&file)).await;
    let seen = looked.map_err(|e| Failure::new(Exit::Lost, e))?.map_err(|e| cannot(&e))?;
    let names = if args.names.is_empty() { seen.names.clone() } else { args.names.clone() };
    if let Some(name) = names.iter().find(|name| !seen.names.contains(name)) {
        let all = seen.names.join(", ");
        return Err(
            Failure::usage(format!("{name} is not in the recording")).hint(format!("it has {all}"))
        );
    }
    let records = Records::new(File::open(&args.file).map_err(|e| cannot(&e.into()))?);
    let start = Instant::now();
    let bar = bounded(seen.bytes);
    let index: HashMap<_, _> = names.iter().cloned().enumerate().map(|(i, n)| (n, i)).collect();
    let playing = Playing { bar: bar.clone(), index, records, speed: args.speed, start };
    let streams = Box::pin(unfold(playing, Playing::next));
    let clock = (start, seen.started.unwrap_or(SystemTime::UNIX_EPOCH));
    let end = print_recorded(&args.print, &names, clock, streams).await?;
    bar.finish_and_clear();
    match seen.error {
        Some(e) if end == Some(End::Streams) => {
            if matches!(e, ReadError::Torn { .. }) {
                say(format!("{e}: its recorder was killed\n")).await;
                return Ok(Exit::Done);
            }
            Err(Failure::new(Exit::Lost, shown).cause(&e))
        }
        _ => Ok(Exit::Done),
    }
}

/// What is in a recording.
struct Seen {
    bytes: u64,
    /// Why it cannot be read any further.
    error: Option<ReadError>,
    names: Vec<String>,
    started: Option<SystemTime>,
}

fn look(file: &Path) -> Result<Seen, ReadError> {
    let mut records = Records::new(File::open(file)?);
    let mut names: HashMap<StreamName, usize> = HashMap::new();
    let error = loop {
        match records.next() {
            Some(Ok(record)) => {
                let next = names.len();
                names.entry(record.name).or_insert(next);
            }
            Some(Err(e)) => break Some(e),
            None => break None,
        }
    };
    let error = match error {
        Some(e @ (ReadError::Io(_) | ReadError::NotARecording | ReadError::Version { .. })) => {
            return Err(e);
        }
        other => other,
    };
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(_, index)| *index);
    let names = names.into_iter().map(|(name, _)| name.to_string()).collect();
    Ok(Seen { bytes: records.position(), error, names, started: records.started() })
}

/// A recording while it is played.
struct Playing {
    bar: ProgressBar,
    /// The streams that are played.
    index: HashMap<String, usize>,
    records: Records<File>,
    speed: Speed,
    start: Instant,
}

impl Playing {
    /// The next thing that a stream has to say, once it is time. What ends it has been seen before.
    async fn next(mut self) -> Option<((usize, Said), Self)> {
        loop {
            let record = self.records.next()?.ok()?;
            let Some(&stream) = self.index.get(record.name.as_str()) else { continue };
            self.bar.set_position(self.records.position());
            tell(&self.bar, || format!("{:.0?}", record.at));
            if let Speed(Some(times)) = self.speed {
                let due = self.start + record.at.div_f64(times);
                if due > Instant::now() {
                    sleep_until(due).await;
                }
            }
            return Some(((stream, self.said(record)), self));
        }
    }

    fn said(&self, record: Record) -> Said {
        let at = self.start + record.at;
        match record.item {
            Item::Closed { label, words } => Said::Ended(at, label.to_string(), words.to_string()),
            Item::Gap(gap) => Said::Gap(at, gap),
            Item::Message(message) => Said::Message(at, message),
            _ => Said::Ended(at, String::new(), "something of a later version".to_owned()),
        }
    }
}
