//! `wsmux tail`: prints the messages of streams as they come.
//!
//! One loop reads the streams, and a thread writes. What stands still is the thread: then the loop
//! stops reading when the [`Outbox`] is full, the streams' rings lap, and the reader is told what it
//! missed. It never stops listening to Ctrl-C.

mod ended;
pub(crate) mod escape;
mod format;
mod outbox;
mod stats;
mod time;
mod writer;

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use futures::stream::{PollNext, SelectAll, Stream, StreamExt as _, select_with_strategy};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};
use wsmux::protocol::Direct;
use wsmux::{Config, Limits, Message, Stamped, Status, StreamError, Subscription, WsManager};

use crate::args::Tail;
use crate::endpoint::{WithHeaders, headers, transport};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;

use ended::Ends;
use format::Notice;
use outbox::Outbox;
use writer::{Writer, say};

/// Messages kept per stream while the output is slow.
const BUFFER: usize = 8192;

/// Ten years: longer than anybody tails.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

type Item = Result<Stamped<Message>, StreamError>;

/// What a stream has to say.
enum Said {
    Item(Item),
    Status(Status),
}

/// Why the printing ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// All messages that were asked for are printed.
    Count,
    /// All streams have ended.
    Streams,
    /// A signal.
    Interrupted,
    /// Nobody reads the output any more, or it cannot be written.
    Output,
    /// The time is up.
    Time,
}

pub(crate) async fn run(mut args: Tail) -> Result<Exit, Failure> {
    // A name that is given twice is one stream.
    let mut seen = HashSet::new();
    args.names.retain(|name| seen.insert(name.clone()));
    let mut signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let manager = manager(&args)?;
    let mut ends = Ends::new(&args);
    let mut streams = SelectAll::new();
    for (index, name) in args.names.iter().enumerate() {
        let stream = manager
            .subscribe(name)
            .map_err(|e| Failure::usage(format!("the stream {name}: {e}")))?;
        streams.push(Box::pin(said(index, stream)));
    }
    let mut outbox = Outbox::new(&args);
    let mut writer = Writer::start().map_err(|e| Failure::io("cannot start to write", &e))?;
    let end = print(&args, &mut streams, &mut outbox, &mut writer, &mut ends, &mut signals).await;
    drop(streams);
    if args.stats.is_some() {
        outbox.add_total();
    }
    let mut written = Ok(());
    let ending = async {
        written = finish(end, &mut outbox, writer).await;
        if end == End::Interrupted && args.stats.is_none() {
            say(summary(&outbox)).await;
        }
        manager.shutdown().await;
    };
    // One more signal, and nothing is waited for any longer.
    tokio::select! {
        biased;
        () = signals.recv() => {}
        () = ending => {}
    }
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("cannot write the output", &e))
        }
        Err(_) => Ok(Exit::Done),
        Ok(()) => Ok(ends.told(end)),
    }
}

fn manager(args: &Tail) -> Result<WsManager, Failure> {
    let direct = Direct::new(&args.target.url).map_err(Failure::usage)?;
    let protocol = WithHeaders { direct, headers: headers(&args.target)? };
    let mut limits = Limits::default();
    limits.max_connections = limits.max_connections.max(args.names.len());
    let config = Config::default().buffer(BUFFER).limits(limits).retry(args.retry.policy());
    WsManager::builder(protocol)
        .config(config)
        .transport(transport(&args.target)?)
        .build()
        .map_err(Failure::usage)
}

/// Status first: that a stream is open should be said before its messages.
fn said(index: usize, stream: Subscription<Stamped<Message>>) -> impl Stream<Item = (usize, Said)> {
    let states = stream.status_changes().map(Said::Status);
    let items = stream.map(Said::Item);
    let both = select_with_strategy(states, items, |(): &mut ()| PollNext::Left);
    both.map(move |said| (index, said))
}

async fn print(
    args: &Tail,
    streams: &mut (impl Stream<Item = (usize, Said)> + Unpin),
    outbox: &mut Outbox,
    writer: &mut Writer,
    ends: &mut Ends,
    signals: &mut Signals,
) -> End {
    let mut looks = looks(args.stats);
    let deadline = later(args.limit.unwrap_or(NEVER));
    loop {
        if outbox.is_done() {
            return End::Count;
        }
        if ends.is_all() {
            return End::Streams;
        }
        let due = outbox.due();
        let is_due = due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            biased;
            () = signals.recv() => return End::Interrupted,
            () = writer.chunks.closed() => return End::Output,
            () = sleep_until(deadline) => return End::Time,
            _ = looks.tick(), if outbox.has_room() => outbox.add_stats(),
            Ok(permit) = writer.chunks.reserve(), if is_due && outbox.is_pressing() => {
                permit.send(outbox.take());
            }
            Some((stream, said)) = streams.next(), if outbox.has_room() => {
                take(stream, said, outbox, ends);
            }
            Ok(permit) = writer.chunks.reserve(), if is_due => permit.send(outbox.take()),
            () = sleep_until(due.unwrap_or(deadline)), if due.is_some() && !is_due => {}
        }
    }
}

fn take(stream: usize, said: Said, outbox: &mut Outbox, ends: &mut Ends) {
    match said {
        Said::Item(Ok(message)) => {
            ends.opened(stream);
            outbox.message(stream, message);
        }
        Said::Item(Err(StreamError::Gap(gap))) => outbox.notice(stream, &Notice::Gap(&gap)),
        Said::Item(Err(StreamError::Closed(reason))) => {
            outbox.notice(stream, &Notice::Closed(&reason));
            ends.closed(stream, reason);
        }
        // Every message is one.
        Said::Item(Err(_)) => {}
        // Its item tells of the end, in its place; and a stream that its URL joins is joined at once.
        Said::Status(Status::Closed(_) | Status::Joining) => {}
        Said::Status(status) => {
            if ends.is_news(stream, &status) {
                outbox.notice(stream, &Notice::Status(&status));
            }
        }
    }
}

/// Has all written that is there: for as long as it takes, or a second if somebody wants it to end.
async fn finish(end: End, outbox: &mut Outbox, writer: Writer) -> io::Result<()> {
    let all = async {
        loop {
            // With `--conflate` it may be more than is written at once.
            let chunk = outbox.take();
            // Where the thread has ended, it says why.
            if chunk.is_empty() || writer.chunks.send(chunk).await.is_err() {
                return writer.finish().await;
            }
        }
    };
    let soon = Duration::from_secs(1);
    if end == End::Interrupted { timeout(soon, all).await.unwrap_or(Ok(())) } else { all.await }
}

/// A line of its own, behind the `^C` that a terminal shows.
fn summary(outbox: &Outbox) -> String {
    use std::io::IsTerminal as _;

    let start = if io::stderr().is_terminal() { "\n" } else { "" };
    format!("{start}{}\n", outbox.stats.total().0)
}

fn looks(period: Option<Duration>) -> Interval {
    let period = period.unwrap_or(NEVER).min(NEVER);
    let mut looks = interval_at(later(period), period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

fn later(duration: Duration) -> Instant {
    Instant::now() + duration.min(NEVER)
}
