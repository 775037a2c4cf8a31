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

use futures::stream::{SelectAll, Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};
use wsmux::Status;

use self::figures::Figures;
pub(crate) use self::stamp::{Field, field};
use crate::args::Bench;
use crate::endpoint::{manager, once_each, subscribed};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::tail::ended::Ends;
use crate::tail::{End, Said, said};

pub(crate) async fn run(mut args: Bench) -> Result<Exit, Failure> {
    once_each(&mut args.names);
    let mut signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let names = vec![&*args.names; usize::from(args.connections)].concat();
    let mut ends = Ends::new(&names, args.retry);
    let mut figures = Figures::new(names.len(), args.timestamp.clone());
    // Each manager has a socket of its own for each name.
    let mut managers = Vec::new();
    let mut streams = SelectAll::new();
    for connection in 0..usize::from(args.connections) {
        let manager = manager(&args.target, args.names.len(), args.retry)?;
        for (index, name) in args.names.iter().enumerate() {
            let place = connection * args.names.len() + index;
            streams.push(Box::pin(said(place, subscribed(&manager, name)?)));
        }
        managers.push(manager);
    }
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let end = measure(&mut streams, until, &mut signals, &mut figures, &mut ends).await;
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

async fn measure(
    streams: &mut (impl Stream<Item = (usize, Said)> + Unpin),
    until: Instant,
    signals: &mut Signals,
    figures: &mut Figures,
    ends: &mut Ends,
) -> End {
    loop {
        if ends.is_all() {
            return End::Streams;
        }
        let (stream, said) = tokio::select! {
            biased;
            () = signals.recv() => return End::Interrupted,
            () = sleep_until(until) => return End::Time,
            next = streams.next() => match next {
                Some(next) => next,
                None => return End::Streams,
            },
        };
        match said {
            Said::Message(at, message) => {
                ends.opened(stream);
                figures.message(stream, message.as_bytes(), at);
            }
            Said::Gap(_, gap) => figures.gap(stream, &gap),
            Said::Closed(reason) => ends.closed(stream, reason),
            Said::Status(status) => {
                if matches!(status, Status::Open) {
                    figures.opened(stream);
                }
                ends.is_news(stream, &status);
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
