//! How far each stream came, and what that means for the program's end.

use std::sync::Arc;

use wsmux::doctor::advice;
use wsmux::transport::TransportError;
use wsmux::{CloseReason, DisconnectReason, Status};

use super::End;
use crate::exit::{Exit, Failure};
use crate::values::Retry;

/// More are not told one by one.
const TOLD: usize = 10;

struct Stream {
    end: Option<CloseReason>,
    last_error: Option<Arc<TransportError>>,
    name: String,
    /// The last status, as it was told.
    told: String,
    was_open: bool,
}

pub(crate) struct Ends {
    retry: Retry,
    streams: Vec<Stream>,
}

impl Ends {
    pub(crate) fn new(names: &[String], retry: Retry) -> Self {
        let stream = |name: &String| Stream {
            end: None,
            last_error: None,
            name: name.clone(),
            told: String::new(),
            was_open: false,
        };
        Self { retry, streams: names.iter().map(stream).collect() }
    }

    pub(crate) fn opened(&mut self, stream: usize) {
        self.streams[stream].was_open = true;
    }

    /// Notes what the stream does, and says whether it is something else than before.
    pub(crate) fn is_news(&mut self, stream: usize, status: &Status) -> bool {
        let stream = &mut self.streams[stream];
        match status {
            Status::Open => stream.was_open = true,
            Status::BackingOff { error, .. } => stream.last_error = Some(Arc::clone(error)),
            _ => {}
        }
        let told = status.to_string();
        std::mem::replace(&mut stream.told, told.clone()) != told
    }

    pub(crate) fn closed(&mut self, stream: usize, reason: CloseReason) {
        // A state that passed unseen: only what was open is lost by a close frame.
        let lost = matches!(
            &reason,
            CloseReason::Fatal(last) | CloseReason::RetriesExhausted { last, .. }
                if matches!(last.reason(), DisconnectReason::Closed { .. } | DisconnectReason::Ended)
        );
        let stream = &mut self.streams[stream];
        stream.was_open |= lost;
        stream.end = Some(reason);
    }

    pub(crate) fn is_all(&self) -> bool {
        self.streams.iter().all(|stream| stream.end.is_some())
    }

    /// Tells what went wrong, and how the program ends.
    pub(crate) fn told(&self, end: End) -> Exit {
        let mut failures: Vec<_> = self.streams.iter().filter_map(|s| self.failure(s)).collect();
        let none_open = !self.streams.iter().any(|stream| stream.was_open);
        if end == End::Time && none_open && failures.is_empty() {
            failures.extend(self.streams.first().map(Stream::not_open));
        }
        let worst = failures.iter().map(Failure::exit).max().unwrap_or(Exit::Done);
        for failure in failures.into_iter().take(TOLD) {
            failure.told();
        }
        match end {
            End::Streams | End::Time => worst,
            End::Count | End::Interrupted | End::Output => Exit::Done,
        }
    }

    fn failure(&self, stream: &Stream) -> Option<Failure> {
        let reason = stream.end.as_ref()?;
        // Not retried as it was asked for, and the server said that it was done.
        let is_over = matches!(
            reason,
            CloseReason::RetriesExhausted { last, .. }
                if self.retry.is_never()
                    && matches!(last.reason(), DisconnectReason::Closed { code: Some(1000), .. })
        );
        (!is_over).then(|| Failure::ended(&stream.name, reason, stream.was_open))
    }
}

impl Stream {
    fn not_open(&self) -> Failure {
        let what = format!("{}: no connection within the time given", self.name);
        match &self.last_error {
            Some(e) => Failure::new(Exit::before_open(e.reason()), what)
                .cause(&**e)
                .hint(advice(e.reason())),
            None => Failure::new(Exit::Unreachable, what)
                .hint("`wsmux doctor` with the same URL and name shows how far it comes"),
        }
    }
}
