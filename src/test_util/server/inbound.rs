//! What a socket hears from its client, and what it answers by itself.

use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::conn::{Conn, Ending, Reading, Stop};
use super::wire::{Decoder, Encoded};
use crate::message::Text;
use crate::transport::Frame;

/// The reading half.
#[derive(Debug)]
pub(super) struct Inbound {
    decoder: Decoder,
    /// Nothing that follows is looked at: the client is closing, or broke the protocol.
    deaf: bool,
}

impl Inbound {
    pub(super) fn new(early: BytesMut) -> Self {
        Self { decoder: Decoder::new(early), deaf: false }
    }

    /// Reads until the client is gone or the closing is done. May be cancelled and called again.
    pub(super) async fn run(&mut self, io: &mut (impl AsyncRead + Unpin), conn: &Conn) -> Stop {
        loop {
            while !self.deaf {
                let answered = match self.decoder.next() {
                    Ok(Some(frame)) => self.take(frame, conn),
                    Ok(None) => break,
                    Err(_) => self.closing(Some((1002, "not RFC 6455")), conn),
                };
                if let Err(ending) = answered {
                    return Stop::Ending(ending);
                }
            }
            self.decoder.bytes.reserve(4096);
            if !matches!(io.read_buf(&mut self.decoder.bytes).await, Ok(1..)) {
                return Stop::Gone;
            }
            if self.deaf {
                self.decoder.bytes.clear();
            }
        }
    }

    fn take(&mut self, frame: Frame, conn: &Conn) -> Result<(), Ending> {
        conn.deliver(frame.clone());
        match frame {
            Frame::Ping(payload) => {
                // Where the queue is full the client does not read, and would not see it.
                conn.try_write(Encoded::pong(&payload), false);
                Ok(())
            }
            Frame::Close(close) => self
                .closing(close.as_ref().map(|(code, reason)| (*code, Text::as_str(reason))), conn),
            _ => Ok(()),
        }
    }

    /// Answers closing, or ends the socket where this is the answer.
    fn closing(&mut self, close: Option<(u16, &str)>, conn: &Conn) -> Result<(), Ending> {
        self.deaf = true;
        if conn.control.borrow().reading == Reading::HoldsClose {
            return Ok(());
        }
        if conn.close_sent.load(Ordering::Relaxed) {
            return Err(Ending::Fin);
        }
        if conn.try_write(Encoded::close(close), true) { Ok(()) } else { Err(Ending::Fin) }
    }
}
