//! `wsmux bench`: how busy a feed is, how regular, and how late.
//!
//! - Bounded: by `--seconds`, and by `--connections` for each name.
//! - Reads as any client does, through the library: what it is told of gaps and reconnects is what a
//!   program would be told.
//! - A latency takes two clocks. What only one of them is needed for is told apart from what both are.

mod figures;
mod signed;
mod stamp;

use std::io::{self, Write as _};
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{SelectAll, Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};
use wsmux::Status;

use self::figures::Figures;
pub(crate) use self::stamp::{Field, field};
use crate::args::Bench;
use crate::endpoint::{manager_by, once_each, subscribed};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::tail::ended::Ends;
use crate::tail::{End, Said, said};

pub(crate) async fn run(mut args: Bench) -> Result<Exit, Failure> {
    once_each(&mut args.names);
    let mut signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let names = vec![&*args.names; usize::from(args.connections)].concat();
    let ends = Ends::new(&names, args.retry);
    let figures = Figures::new(names.len(), args.timestamp.clone());
    // Each manager has sockets of its own.
    let mut managers = Vec::new();
    let mut streams = SelectAll::new();
    for connection in 0..usize::from(args.connections) {
        let manager = manager_by(&args.target, args.protocol, args.names.len(), args.retry)?;
        for (index, name) in args.names.iter().enumerate() {
            let place = connection * args.names.len() + index;
            streams.push(Box::pin(said(place, subscribed(&manager, name)?)));
        }
        managers.push(manager);
    }
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut measured = Measured { ends, figures };
    let end = measured.measure(&mut streams, until, &mut signals).await;
    measured.rest(&mut streams);
    let Measured { ends, figures } = measured;
    // Before the sockets are closed: that takes time, and is no part of it.
    let printed = print(&figures, args.json);
    drop(streams);
    let closing = futures::future::join_all(managers.iter().map(|manager| manager.shutdown()));
    tokio::select! {
        biased;
        () = signals.recv() => {}
        _ = closing => {}
    }
    match printed {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("cannot write the figures", &e))
        }
        _ => Ok(ends.told(end)),
    }
}

/// What is measured, and what became of the streams.
struct Measured {
    ends: Ends,
    figures: Figures,
}

impl Measured {
    async fn measure(
        &mut self,
        streams: &mut (impl Stream<Item = (usize, Said)> + Unpin),
        until: Instant,
        signals: &mut Signals,
    ) -> End {
        loop {
            if self.ends.is_all() {
                return End::Streams;
            }
            tokio::select! {
                biased;
                () = signals.recv() => return End::Interrupted,
                () = sleep_until(until) => return End::Time,
                next = streams.next() => match next {
                    Some((stream, said)) => self.take(stream, said),
                    None => return End::Streams,
                },
            }
        }
    }

    /// Takes what had come by now, and was not read yet.
    fn rest(&mut self, streams: &mut (impl Stream<Item = (usize, Said)> + Unpin)) {
        let now = Instant::now();
        self.figures.end(now);
        while let Some(Some((stream, said))) = streams.next().now_or_never() {
            if matches!(said, Said::Message(at, _) if at > now) {
                break;
            }
            self.take(stream, said);
        }
    }

    fn take(&mut self, stream: usize, said: Said) {
        match said {
            Said::Message(at, message) => {
                self.ends.opened(stream);
                self.figures.message(stream, message.as_bytes(), at);
            }
            Said::Gap(_, gap) => self.figures.gap(stream, &gap),
            Said::Closed(reason) => self.ends.closed(stream, reason),
            Said::Status(status) => {
                if matches!(status, Status::Open) {
                    self.figures.opened(stream);
                }
                self.ends.is_news(stream, &status);
            }
            Said::Ended(..) => {}
        }
    }
}

fn print(figures: &Figures, as_json: bool) -> io::Result<()> {
    if as_json {
        return writeln!(io::stdout(), "{}", figures.json());
    }
    io::stdout().write_all(figures.text().as_bytes())
}
