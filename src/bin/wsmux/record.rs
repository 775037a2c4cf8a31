//! `wsmux record`: writes streams into a file.
//!
//! The library's recorder does it; here is what ends it, and what is told meanwhile.

use std::io;
use std::time::Duration;

use futures::stream::{SelectAll, StreamExt as _};
use indicatif::ProgressBar;
use tokio::time::{Instant, interval, sleep_until};
use wsmux::record::{RecordError, Recorded, Recorder, RecorderOptions};
use wsmux::{Message, Status};

use crate::args::Record;
use crate::endpoint::{manager, once_each, subscribed};
use crate::exit::{Exit, Failure};
use crate::progress::{endless, tell};
use crate::signals::Signals;
use crate::tail::ended::Ends;
use crate::tail::escape::escaped;
use crate::tail::{End, say};

/// Ten years: longer than anybody records.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(crate) async fn run(mut args: Record) -> Result<Exit, Failure> {
    once_each(&mut args.names);
    let mut signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let manager = manager(&args.target, args.names.len(), args.retry)?;
    let recorder = recorder(&args).await?;
    let mut recording = Recording {
        bar: endless(),
        deadline: Instant::now() + args.limit.unwrap_or(NEVER).min(NEVER),
        ends: Ends::new(&args.names, args.retry),
        names: args.names.clone(),
        recorder,
        states: SelectAll::new(),
    };
    for (index, name) in args.names.iter().enumerate() {
        let stream = subscribed::<Message>(&manager, name)?;
        recording.states.push(Box::pin(stream.status_changes().map(move |s| (index, s))));
        recording.recorder.record(stream).map_err(|e| failed(&args, &e))?;
    }
    let end = recording.watch(&mut signals).await.map_err(|e| failed(&args, &e))?;
    let Recording { bar, ends, recorder, .. } = recording;
    bar.finish_and_clear();
    let finish = async {
        let recorded = recorder.finish().await;
        manager.shutdown().await;
        recorded
    };
    // One more signal, and nothing is waited for any longer: the file is whole all the same.
    let recorded = tokio::select! {
        biased;
        () = signals.recv() => return Ok(Exit::Done),
        recorded = finish => recorded.map_err(|e| failed(&args, &e))?,
    };
    say(format!("{}: {recorded}\n", escaped(&args.output.display().to_string()))).await;
    Ok(ends.told(end))
}

async fn recorder(args: &Record) -> Result<Recorder, Failure> {
    let options = RecorderOptions::default();
    let recorder = if args.append {
        Recorder::append(&args.output, options).await
    } else {
        Recorder::create(&args.output, options).await
    };
    recorder.map_err(|e| match &e {
        RecordError::Io(io) if io.kind() == io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("--output: {} exists", args.output.display()))
                .hint("`--append` goes on behind what it has")
        }
        RecordError::Unreadable(_) => failed(args, &e),
        _ => Failure::usage(format!("--output: cannot write {}", args.output.display())).cause(&e),
    })
}

fn failed(args: &Record, e: &RecordError) -> Failure {
    Failure::new(Exit::Lost, args.output.display()).cause(e)
}

/// What is going on.
struct Recording {
    bar: ProgressBar,
    deadline: Instant,
    ends: Ends,
    names: Vec<String>,
    recorder: Recorder,
    states: SelectAll<States>,
}

type States = std::pin::Pin<Box<dyn futures::Stream<Item = (usize, Status)> + Send>>;

impl Recording {
    /// Waits until it is to end.
    async fn watch(&mut self, signals: &mut Signals) -> Result<End, RecordError> {
        let mut looks = interval(Duration::from_millis(200));
        let mut has_states = true;
        loop {
            tokio::select! {
                biased;
                () = signals.recv() => return Ok(End::Interrupted),
                () = sleep_until(self.deadline) => return Ok(End::Time),
                next = self.states.next(), if has_states => match next {
                    Some((stream, status)) => self.take(stream, status),
                    None => has_states = false,
                },
                // The states above have told why each of them ended.
                ended = self.recorder.ended(), if !has_states => return ended.map(|()| End::Streams),
                _ = looks.tick() => {
                    self.recorder.check()?;
                    let recorded = self.recorder.so_far();
                    tell(&self.bar, || line(&recorded));
                }
            }
        }
    }

    fn take(&mut self, stream: usize, status: Status) {
        let name = escaped(&self.names[stream]).into_owned();
        match status {
            Status::Closed(reason) => self.ends.closed(stream, reason),
            status if self.ends.is_news(stream, &status) && !self.bar.is_hidden() => {
                self.bar.println(format!("{name}  -- {}", escaped(&status.to_string())));
            }
            _ => {}
        }
    }
}

fn line(recorded: &Recorded) -> String {
    let (messages, gaps, bytes) = (recorded.messages(), recorded.gaps(), recorded.bytes());
    format!("{messages} messages, {gaps} gaps, {}", indicatif::DecimalBytes(bytes))
}
