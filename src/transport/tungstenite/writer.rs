//! Frames on their way out (RFC 6455 §5), whole and masked.
//!
//! Pongs wait beside what is written, and are written when nothing else is on its way: of many that
//! wait, only the latest (RFC 6455 §5.5.3), so that a server that pings and never reads costs no
//! more than one that does. A few are all sent: there are servers that want each of their pings
//! answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// How many pongs may wait. Autobahn's suite sends ten pings at once, and wants ten answers.
const FEW: usize = 16;

/// A buffer that is empty and larger is given back.
const KEPT: usize = 1 << 10;

#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Frames, as they are sent.
    bytes: Vec<u8>,
    /// How many of them were.
    sent: usize,
    /// Whether the stream may still hold something back.
    unflushed: bool,
    /// The pongs that wait, if any do.
    pongs: Option<Box<Pongs>>,
}

#[derive(Debug, Default)]
struct Pongs {
    /// How many pings they answer.
    answered: usize,
    /// A few, or the latest.
    payloads: Vec<Bytes>,
}

impl Writer {
    /// Whether there is something to be flushed.
    pub(super) fn is_waiting(&self) -> bool {
        self.unflushed || !self.bytes.is_empty() || self.pongs.is_some()
    }

    /// How many bytes wait to be written, pongs aside.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Answers a ping, by and by.
    pub(super) fn pong(&mut self, payload: Bytes) {
        let Pongs { answered, payloads } = &mut **self.pongs.get_or_insert_default();
        *answered += 1;
        if *answered > FEW {
            payloads.clear();
        }
        payloads.push(payload);
    }

    /// Adds a frame. Pongs that wait go before it.
    pub(super) fn push(&mut self, kind: OpCode, payload: Bytes) -> io::Result<()> {
        self.write_pongs()?;
        self.write(kind, payload)
    }

    fn write_pongs(&mut self) -> io::Result<()> {
        for pong in self.pongs.take().map_or_else(Vec::new, |pongs| pongs.payloads) {
            self.write(OpCode::Control(Control::Pong), pong)?;
        }
        Ok(())
    }

    fn write(&mut self, opcode: OpCode, payload: Bytes) -> io::Result<()> {
        // Nobody on the way may foresee the mask (RFC 6455 §5.3): the generator is a secure one.
        let mask = Some(rand::random());
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        let frame = Frame::from_payload(header, payload);
        frame.format(&mut self.bytes).map_err(io::Error::other)
    }

    /// Writes all that waits, and flushes.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(stream, cx))?;
            // TLS has a buffer of its own: pongs must not pile up there either.
            if self.unflushed {
                ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                self.unflushed = false;
            }
            if self.pongs.is_none() {
                return Poll::Ready(Ok(()));
            }
            self.write_pongs()?;
        }
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
            self.unflushed = true;
        }
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        Poll::Ready(Ok(()))
    }
}

/// The opcode of a data frame.
pub(super) fn data(is_text: bool) -> OpCode {
    OpCode::Data(if is_text { Data::Text } else { Data::Binary })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn numbered(n: usize) -> Bytes {
        Bytes::copy_from_slice(&[u8::try_from(n).unwrap(); 3])
    }

    /// The frames in `bytes`, unmasked.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let [first, len, mask @ ..] = bytes {
            let len = usize::from(len - 0x80);
            let (mask, rest) = mask.split_at(4);
            let payload = rest[..len].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
            frames.push((*first, payload));
            bytes = &rest[len..];
        }
        frames
    }

    async fn flushed(mut writer: Writer, room: usize) -> Vec<(u8, Vec<u8>)> {
        let (mut ours, mut theirs) = tokio::io::duplex(room);
        let writing = async {
            poll_fn(|cx| writer.poll_flush(&mut ours, cx)).await.unwrap();
            assert!(!writer.is_waiting() && writer.len() == 0);
            drop(ours);
        };
        let mut sent = Vec::new();
        let (read, ()) = tokio::join!(theirs.read_to_end(&mut sent), writing);
        read.unwrap();
        frames(&sent)
    }

    #[tokio::test]
    async fn a_few_pongs_are_all_sent_and_of_many_the_latest() {
        for (count, expected) in [(FEW, 0..FEW), (FEW + 1, FEW..FEW + 1), (100, 99..100)] {
            let mut writer = Writer::default();
            (0..count).for_each(|n| writer.pong(numbered(n)));
            let expected: Vec<_> = expected.map(|n| (0x8a, numbered(n).to_vec())).collect();
            assert_eq!(flushed(writer, 1 << 20).await, expected, "of {count}");
        }
    }

    #[tokio::test]
    async fn frames_are_whole_and_in_order_however_the_stream_takes_them() {
        for room in 1..20 {
            let mut writer = Writer::default();
            writer.push(data(false), numbered(1)).unwrap();
            writer.pong(numbered(2));
            writer.push(data(true), Bytes::new()).unwrap();
            writer.pong(numbered(3));
            let expected = [(0x82, &[1; 3][..]), (0x8a, &[2; 3]), (0x81, &[]), (0x8a, &[3; 3])];
            let expected: Vec<_> = expected.map(|(first, bytes)| (first, bytes.to_vec())).into();
            assert_eq!(flushed(writer, room).await, expected, "with room for {room}");
        }
    }

    #[tokio::test]
    async fn while_the_peer_reads_nothing_pongs_do_not_pile_up() {
        let (mut ours, mut theirs) = tokio::io::duplex(10);
        let (mut writer, mut cx) = (Writer::default(), Context::from_waker(Waker::noop()));
        for n in 0..100 {
            writer.pong(numbered(n));
            let _ = writer.poll_flush(&mut ours, &mut cx);
        }
        assert!(
            writer.len() + 9 * writer.pongs.as_ref().map_or(0, |pongs| pongs.payloads.len())
                <= 9 * (FEW + 1),
            "{writer:?}"
        );
        writer.push(data(true), numbered(7)).unwrap();
        let writing = async {
            poll_fn(|cx| writer.poll_flush(&mut ours, cx)).await.unwrap();
            drop(ours);
        };
        let mut sent = Vec::new();
        let (read, ()) = tokio::join!(theirs.read_to_end(&mut sent), writing);
        read.unwrap();
        let sent = frames(&sent);
        let last: Vec<_> = sent[sent.len() - 2..].to_vec();
        assert_eq!(last, [(0x8a, vec![99; 3]), (0x81, vec![7; 3])]);
        assert!(sent.len() <= FEW + 3, "{sent:?}");
    }

    #[test]
    fn what_is_large_is_given_back() {
        let (mut writer, mut cx) = (Writer::default(), Context::from_waker(Waker::noop()));
        writer.push(data(false), vec![0; 1 << 20].into()).unwrap();
        assert!(writer.poll_flush(&mut tokio::io::sink(), &mut cx).is_ready());
        assert!(writer.bytes.capacity() <= KEPT);
    }
}
