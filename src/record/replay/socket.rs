//! The socket of a replay: nothing moves on it but heartbeats.

use std::task::{Context, Poll, Waker};

use crate::transport::{Frame, Frames, Socket, TransportError};

/// The socket of a [`Replay`](super::Replay). What comes, comes from the session; a ping is answered.
#[derive(Debug, Default)]
pub struct ReplaySocket {
    answers: Vec<Frame>,
    waker: Option<Waker>,
}

impl Socket for ReplaySocket {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut Frames,
    ) -> Poll<Result<(), TransportError>> {
        if self.answers.is_empty() {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.answers.drain(..).for_each(|frame| frames.push(frame));
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), TransportError> {
        if let Frame::Ping(payload) = frame {
            self.answers.push(Frame::Pong(payload));
            self.waker.take().into_iter().for_each(Waker::wake);
        }
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }
}
