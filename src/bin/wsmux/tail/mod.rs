//! `wsmux tail`: prints the messages of streams as they come.
//!
//! One loop reads the streams, and a thread writes. What stands still is the thread: then the loop
//! stops reading when the [`Outbox`] is full, the streams' rings lap, and the reader is told what it
//! missed. It never stops listening to Ctrl-C.

pub(crate) mod ended;
pub(crate) mod escape;
mod format;
mod outbox;
pub(crate) mod stats;
mod time;
mod writer;

use std::future::{Future, ready};
use std::io;
use std::time::{Duration, SystemTime};

use futures::stream::{PollNext, SelectAll, Stream, StreamExt as _, select_with_strategy};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};
use wsmux::{CloseReason, Gap, Message, Stamped, Status, StreamError, Subscription};

use crate::args::{Print, Tail};
use crate::endpoint::{manager, once_each, subscribed};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::values::Retry;

use ended::Ends;
use format::Notice;
use outbox::{Outbox, Times};
use writer::Writer;
pub(crate) use writer::say;

/// Ten years: longer than anybody tails.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a stream has to say.
pub(crate) enum Said {
    Closed(CloseReason),
    /// What a recording tells of the end: when, a word, and more of them.
    Ended(Instant, String, String),
    Gap(Instant, Gap),
    Message(Instant, Message),
    Status(Status),
}

/// Why the printing ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
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
    once_each(&mut args.names);
    let signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let manager = manager(&args.target, args.names.len(), args.retry)?;
    let mut streams = SelectAll::new();
    for (index, name) in args.names.iter().enumerate() {
        streams.push(Box::pin(said(index, subscribed(&manager, name)?)));
    }
    let mut printing = Printing {
        deadline: later(args.limit.unwrap_or(NEVER)),
        ends: Ends::new(&args.names, args.retry),
        outbox: Outbox::new(&args.print, &args.names, Times::Live),
        signals,
        stats: args.print.stats,
    };
    let end = printing.run(streams, manager.shutdown()).await?;
    Ok(end.map_or(Exit::Done, |end| printing.ends.told(end)))
}

/// Prints recorded streams, whose clock showed `wall` at `start`. Says why it ended; `None` where
/// nobody reads the output any more.
pub(crate) async fn print_recorded(
    print: &Print,
    names: &[String],
    (start, wall): (Instant, SystemTime),
    streams: impl Stream<Item = (usize, Said)> + Unpin,
) -> Result<Option<End>, Failure> {
    let signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let mut printing = Printing {
        deadline: later(NEVER),
        ends: Ends::new(names, Retry::default()),
        outbox: Outbox::new(print, names, Times::Recorded { start, wall }),
        signals,
        stats: print.stats,
    };
    printing.run(streams, ready(())).await
}

/// What is printed, and until when.
struct Printing {
    deadline: Instant,
    ends: Ends,
    outbox: Outbox,
    signals: Signals,
    stats: Option<Duration>,
}

impl Printing {
    /// Prints `streams` to their end, or to another one; then `close`s what they come from. `None`
    /// where nobody reads the output any more.
    async fn run(
        &mut self,
        mut streams: impl Stream<Item = (usize, Said)> + Unpin,
        close: impl Future<Output = ()>,
    ) -> Result<Option<End>, Failure> {
        let mut writer = Writer::start().map_err(|e| Failure::io("cannot start to write", &e))?;
        let end = self.print(&mut streams, &mut writer).await;
        drop(streams);
        if self.stats.is_some() {
            self.outbox.add_total();
        }
        let mut written = Ok(());
        let ending = async {
            written = finish(end, &mut self.outbox, writer).await;
            if end == End::Interrupted && self.stats.is_none() {
                say(summary(&self.outbox)).await;
            }
            close.await;
        };
        // One more signal, and nothing is waited for any longer.
        tokio::select! {
            biased;
            () = self.signals.recv() => {}
            () = ending => {}
        }
        match written {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::io("cannot write the output", &e))
            }
            Err(_) => Ok(None),
            Ok(()) => Ok(Some(end)),
        }
    }

    async fn print(
        &mut self,
        streams: &mut (impl Stream<Item = (usize, Said)> + Unpin),
        writer: &mut Writer,
    ) -> End {
        let Self { deadline, ends, outbox, signals, stats } = self;
        let deadline = *deadline;
        let mut looks = looks(*stats);
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
                next = streams.next(), if outbox.has_room() => match next {
                    Some((stream, said)) => take(stream, said, outbox, ends),
                    None => return End::Streams,
                },
                Ok(permit) = writer.chunks.reserve(), if is_due => permit.send(outbox.take()),
                () = sleep_until(due.unwrap_or(deadline)), if due.is_some() && !is_due => {}
            }
        }
    }
}

/// Status first: that a stream is open should be said before its messages.
pub(crate) fn said(
    index: usize,
    stream: Subscription<Stamped<Message>>,
) -> impl Stream<Item = (usize, Said)> {
    let states = stream.status_changes().map(|status| Some(Said::Status(status)));
    let items = stream.map(|item| match item {
        Ok(stamped) => Some(Said::Message(stamped.received_at, stamped.value)),
        Err(StreamError::Gap(gap)) => Some(Said::Gap(Instant::now(), gap)),
        Err(StreamError::Closed(reason)) => Some(Said::Closed(reason)),
        // Every message is one.
        Err(_) => None,
    });
    let both = select_with_strategy(states, items, |(): &mut ()| PollNext::Left);
    both.filter_map(move |said| ready(said.map(|said| (index, said))))
}

fn take(stream: usize, said: Said, outbox: &mut Outbox, ends: &mut Ends) {
    let now = Instant::now();
    match said {
        Said::Message(at, message) => {
            ends.opened(stream);
            outbox.message(stream, at, message);
        }
        Said::Gap(at, gap) => outbox.notice(stream, at, &Notice::Gap(&gap)),
        Said::Closed(reason) => {
            outbox.notice(stream, now, &Notice::Closed(&reason));
            ends.closed(stream, reason);
        }
        Said::Ended(at, label, words) => {
            outbox.notice(stream, at, &Notice::Ended { label: &label, words: &words });
        }
        // Its item tells of the end, in its place; and a stream that its URL joins is joined at once.
        Said::Status(Status::Closed(_) | Status::Joining) => {}
        Said::Status(status) => {
            if ends.is_news(stream, &status) {
                outbox.notice(stream, now, &Notice::Status(&status));
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
