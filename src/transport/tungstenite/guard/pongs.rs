//! Pongs on their way out: of many that wait, only the latest is sent (RFC 6455 §5.5.3).
//!
//! tungstenite queues one for each ping. Here each is taken out of what it writes, and waits beside;
//! where more than a few would wait, in the place of all before, unless a part of these has left. A
//! few are all sent: there are servers that want each of their pings answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::heads::{Head, Heads};

/// How many pongs may wait. Autobahn's suite sends ten pings at once, and wants ten answers.
const FEW: usize = 16;

const PONG: u8 = 0x0a;

#[derive(Debug, Default)]
pub(super) struct Pongs {
    /// How many came to wait since some have left.
    count: usize,
    /// Where what was written ends.
    heads: Heads,
    /// Whether a pong was written that may not be flushed.
    is_buffered: bool,
    /// Pongs, of which a part has left. As whole frames, as all here.
    leaving: Vec<u8>,
    /// How much of them.
    left: usize,
    /// The pongs that wait: a few, or the latest.
    waiting: Vec<u8>,
}

impl Pongs {
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.leaving.is_empty()
    }

    /// Takes a pong out of `bytes`, or writes what comes before the next one.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.heads.is_between() {
            if let Some(len) = pong_of(bytes) {
                self.count += 1;
                if self.count > FEW {
                    self.waiting.clear();
                }
                self.waiting.extend_from_slice(&bytes[..len]);
                return Poll::Ready(Ok(len));
            }
            // The rest of one that has begun; and a pong is not to wait for what may be long.
            ready!(self.poll_send(stream, cx))?;
        }
        let others = self.before_next_pong(bytes);
        let written = ready!(Pin::new(stream).poll_write(cx, &bytes[..others]))?;
        pass(&mut self.heads, &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    /// Writes what waits. Between frames only.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.are_waiting() && self.heads.is_between() {
            if self.leaving.is_empty() {
                if self.is_buffered {
                    // TLS has a buffer of its own: the one before has to be out of it.
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    self.is_buffered = false;
                }
                (self.leaving, self.left) = (std::mem::take(&mut self.waiting), 0);
            }
            let rest = &self.leaving[self.left..];
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.left += written;
                    self.count = 0;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    if self.left == 0 {
                        // Nothing of them has left: a later one may still take their place.
                        self.waiting = std::mem::take(&mut self.leaving);
                    }
                    return Poll::Pending;
                }
            }
            if self.left == self.leaving.len() {
                self.leaving.clear();
                self.is_buffered = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How much of `bytes` comes before the next pong in it.
    fn before_next_pong(&self, bytes: &[u8]) -> usize {
        let (mut heads, mut at) = (self.heads.clone(), 0);
        while at < bytes.len() {
            let (passed, Some(head)) = heads.next(&bytes[at..]) else { break };
            let begins = (at + passed).saturating_sub(head.len);
            if begins > 0 && pong_of(&bytes[begins..]).is_some() {
                return begins;
            }
            at += passed;
        }
        bytes.len()
    }
}

fn pass(heads: &mut Heads, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        at += heads.next(&bytes[at..]).0;
    }
}

/// The length of the pong that `bytes` begin with, if they do and all of it is there.
fn pong_of(bytes: &[u8]) -> Option<usize> {
    let head = Head::of(bytes).filter(|head| head.opcode() == PONG)?;
    let len = head.len + usize::try_from(head.payload).ok()?;
    (len <= bytes.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A client's frame with a mask of zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    fn pong(payload: &[u8]) -> Vec<u8> {
        frame(0x8a, payload)
    }

    /// Writes all of `bytes`, as far as the stream takes it; how many are left.
    fn write(pongs: &mut Pongs, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut rest = bytes;
        while !rest.is_empty() {
            match pongs.poll_write(stream, &mut cx, rest) {
                Poll::Ready(written) => rest = &rest[written.unwrap()..],
                Poll::Pending => break,
            }
        }
        rest.len()
    }

    #[tokio::test]
    async fn a_few_pongs_are_all_sent_and_of_many_the_latest() {
        for (count, expected) in [(FEW, 0..FEW), (FEW + 1, FEW..FEW + 1), (100, 99..100)] {
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
            let mut pongs = Pongs::default();
            let numbered = |n: usize| pong(&[u8::try_from(n).unwrap()]);
            let all: Vec<u8> = (0..count).flat_map(numbered).collect();
            assert_eq!(write(&mut pongs, &mut ours, &all), 0);
            poll_fn(|cx| pongs.poll_send(&mut ours, cx)).await.unwrap();
            drop(ours);
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).await.unwrap();
            assert_eq!(sent, expected.flat_map(numbered).collect::<Vec<_>>(), "of {count}");
        }
    }

    #[tokio::test]
    async fn no_other_frame_is_touched() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut pongs = Pongs::default();
        // A payload that looks like a pong is none.
        let (data, more) = (frame(0x82, &pong(b"data")), frame(0x81, b"more"));
        let all = [
            pong(b"1"),
            pong(b"2"),
            data.clone(),
            pong(b"3"),
            more.clone(),
            pong(b"4"),
            pong(b"5"),
        ];
        assert_eq!(write(&mut pongs, &mut ours, &all.concat()), 0);
        assert!(pongs.are_waiting());
        poll_fn(|cx| pongs.poll_send(&mut ours, cx)).await.unwrap();
        drop(ours);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, all.concat());
    }

    #[tokio::test]
    async fn while_the_peer_reads_nothing_pongs_do_not_pile_up() {
        let (mut ours, mut theirs) = tokio::io::duplex(10);
        let mut pongs = Pongs::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for n in 0..100_u8 {
            assert_eq!(write(&mut pongs, &mut ours, &pong(&[n; 3])), 0);
            let _ = pongs.poll_send(&mut ours, &mut cx);
        }
        assert!(pongs.leaving.len() + pongs.waiting.len() <= 2 * 9, "{pongs:?}");
        let data = frame(0x81, b"data");
        assert_eq!(write(&mut pongs, &mut ours, &data), data.len(), "it waits for its turn");
        let reading = async {
            let mut sent = vec![0; 3 * 9 + data.len()];
            theirs.read_exact(&mut sent).await.unwrap();
            sent
        };
        let writing = async {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let written = poll_fn(|cx| pongs.poll_write(&mut ours, cx, rest)).await.unwrap();
                rest = &rest[written..];
            }
        };
        let (sent, ()) = tokio::join!(reading, writing);
        assert_eq!(sent, [pong(&[0; 3]), pong(&[1; 3]), pong(&[99; 3]), data].concat());
    }

    #[tokio::test]
    async fn frames_are_whole_however_the_stream_takes_them() {
        for room in 1..20 {
            let (mut ours, mut theirs) = tokio::io::duplex(room);
            let frames = [frame(0x82, &[7; 30]), pong(b"x"), frame(0x81, b""), pong(b"y")].concat();
            let writing = async {
                let mut pongs = Pongs::default();
                let mut rest = &frames[..];
                while !rest.is_empty() {
                    let write = poll_fn(|cx| pongs.poll_write(&mut ours, cx, rest));
                    rest = &rest[write.await.unwrap()..];
                }
                poll_fn(|cx| pongs.poll_send(&mut ours, cx)).await.unwrap();
                drop(ours);
            };
            let mut sent = Vec::new();
            let (read, ()) = tokio::join!(theirs.read_to_end(&mut sent), writing);
            read.unwrap();
            assert_eq!(sent, frames, "with room for {room}");
        }
    }
}
