//! On an open WebSocket: the first message, ping and pong, the closing.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::reach::Examination;
use super::report::{Finding, Outcome, StepKind};
use crate::message::{Message, Text};
use crate::protocol::DisconnectReason;
use crate::transport::{Frame, Frames, Socket as _, TransportError, TungsteniteSocket};

/// What a manager gives a close handshake by default.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const PAYLOAD: Bytes = Bytes::from_static(b"wsmux doctor");

/// A socket, and what it has had.
struct Talk {
    frames: Frames,
    messages: u64,
    pings: u64,
    socket: TungsteniteSocket,
}

impl Examination {
    pub(super) async fn talk(&mut self, socket: TungsteniteSocket) {
        let frames = Frames::with_budget(1, usize::MAX);
        let mut talk = Talk { frames, messages: 0, pings: 0, socket };
        if self.first_message(&mut talk).await && self.heartbeat(&mut talk).await {
            self.teardown(&mut talk).await;
        }
    }

    /// Whether the socket is there still.
    async fn first_message(&mut self, talk: &mut Talk) -> bool {
        let (kind, started) = (StepKind::FirstMessage, Instant::now());
        match by(started, self.options.listen, talk.message()).await {
            Some(Ok(message)) => {
                let binary = matches!(message, Message::Binary(_));
                let finding = Finding::Message { binary, len: message.len() };
                self.took(kind, Outcome::Passed, started, finding);
                true
            }
            Some(Err(e)) => {
                self.failed::<()>(kind, started, e);
                false
            }
            None => {
                let finding = Finding::Quiet { pings: talk.pings };
                self.took(kind, Outcome::Warning, started, finding);
                true
            }
        }
    }

    /// Whether the socket is there still.
    async fn heartbeat(&mut self, talk: &mut Talk) -> bool {
        let (kind, started) = (StepKind::Heartbeat, Instant::now());
        let (messages, pings) = (talk.messages, talk.pings);
        match by(started, self.options.timeout, talk.pong()).await {
            Some(Ok(())) => {
                let finding = Finding::Pong { messages: talk.messages, pings: talk.pings };
                self.took(kind, Outcome::Passed, started, finding);
                true
            }
            Some(Err(e)) => {
                self.failed::<()>(kind, started, e);
                false
            }
            None => {
                let (messages, pings) = (talk.messages - messages, talk.pings - pings);
                // Any frame is a sign of life.
                let dead = messages + pings == 0;
                let outcome = if dead { Outcome::Failed } else { Outcome::Warning };
                self.took(kind, outcome, started, Finding::NoPong { messages, pings });
                !dead
            }
        }
    }

    async fn teardown(&mut self, talk: &mut Talk) {
        let (kind, started) = (StepKind::Teardown, Instant::now());
        let limit = self.options.timeout.min(CLOSE_TIMEOUT);
        let finding = match by(started, limit, talk.close()).await {
            Some(Ok(code)) => {
                let ended = by(started, limit, talk.end()).await.map(|()| started.elapsed());
                Finding::Closed { code, ended }
            }
            Some(Err(e)) => Finding::Unanswered { error: Some(Arc::new(e)) },
            None => Finding::Unanswered { error: None },
        };
        let good = matches!(finding, Finding::Closed { ended: Some(_), .. });
        let outcome = if good { Outcome::Passed } else { Outcome::Warning };
        self.took(kind, outcome, started, finding);
    }
}

/// What `wait` comes to within `limit` of `started`.
async fn by<T>(started: Instant, limit: Duration, wait: impl Future<Output = T>) -> Option<T> {
    match started.checked_add(limit) {
        Some(deadline) => timeout_at(deadline, wait).await.ok(),
        None => Some(wait.await),
    }
}

impl Talk {
    /// The next frame; a close frame is an error.
    async fn frame(&mut self) -> Result<Frame, TransportError> {
        poll_fn(|cx| self.socket.poll_read(cx, &mut self.frames)).await?;
        match self.frames.drain().next() {
            Some(Frame::Close(close)) => {
                let code = close.as_ref().map(|(code, _)| *code);
                let words = close.as_ref().map_or("", |(_, words)| words.as_str());
                Err(TransportError::new(DisconnectReason::closed(code, words)))
            }
            Some(frame) => {
                self.messages += u64::from(matches!(frame, Frame::Data(_)));
                self.pings += u64::from(matches!(frame, Frame::Ping(_)));
                Ok(frame)
            }
            None => Err(TransportError::new(DisconnectReason::Ended)),
        }
    }

    async fn message(&mut self) -> Result<Message, TransportError> {
        loop {
            if let Frame::Data(message) = self.frame().await? {
                return Ok(message);
            }
        }
    }

    async fn send(&mut self, frame: Frame) -> Result<(), TransportError> {
        // What the socket answered by itself goes first.
        poll_fn(|cx| self.socket.poll_flush(cx)).await?;
        self.socket.start_send(frame)?;
        poll_fn(|cx| self.socket.poll_flush(cx)).await
    }

    /// Sends a ping, and waits for its pong.
    async fn pong(&mut self) -> Result<(), TransportError> {
        self.send(Frame::Ping(PAYLOAD)).await?;
        while self.frame().await? != Frame::Pong(PAYLOAD) {}
        Ok(())
    }

    /// Sends a close frame, and waits for the server's: the code of it.
    async fn close(&mut self) -> Result<Option<u16>, TransportError> {
        self.send(Frame::Close(Some((1000, Text::default())))).await?;
        loop {
            match self.frame().await {
                Ok(_) => {}
                Err(e) => match e.reason() {
                    DisconnectReason::Closed { code, .. } => return Ok(*code),
                    _ => return Err(e),
                },
            }
        }
    }

    /// Waits for the end of the connection.
    async fn end(&mut self) {
        while self.frame().await.is_ok() {}
    }
}
