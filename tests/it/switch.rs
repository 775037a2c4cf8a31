//! Moving between two sources: nothing is lost, nothing comes twice, and what cannot be known is
//! told.

mod moves;
mod simulated;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::stream::{BoxStream, Stream, StreamExt as _};
use wsmux::compat::Source;
use wsmux::{DisconnectReason, Gap, Message, StreamError};

/// A client in memory: what is sent on it, all its streams get from then on.
#[derive(Clone, Debug, Default)]
struct Client(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What is sent at once on joining, as a replay of the latest message.
    greeting: Option<Yielded>,
    joined: usize,
    streams: Vec<Arc<Mutex<Pipe>>>,
}

type Yielded = Result<Message, StreamError>;

#[derive(Debug, Default)]
struct Pipe {
    dropped: bool,
    ended: bool,
    name: String,
    queue: VecDeque<Yielded>,
    waker: Option<Waker>,
}

struct Incoming(Arc<Mutex<Pipe>>);

impl Client {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// What each of the streams gets.
    fn send(&self, item: impl Into<Message>) {
        let message = item.into();
        self.each(|pipe| pipe.queue.push_back(Ok(message.clone())));
    }

    fn send_all<M: Into<Message>>(&self, items: impl IntoIterator<Item = M>) {
        items.into_iter().for_each(|item| self.send(item));
    }

    fn fail(&self, error: &StreamError) {
        self.each(|pipe| pipe.queue.push_back(Err(error.clone())));
    }

    fn end(&self) {
        self.each(|pipe| pipe.ended = true);
    }

    fn each(&self, change: impl Fn(&mut Pipe)) {
        self.streams();
        let streams = self.inner().streams.clone();
        for pipe in streams {
            let waker = {
                let mut pipe = pipe.lock().unwrap();
                change(&mut pipe);
                pipe.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Streams that are not dropped; forgets the others.
    fn streams(&self) -> usize {
        let streams = &mut self.inner().streams;
        streams.retain(|pipe| !pipe.lock().unwrap().dropped);
        streams.len()
    }

    fn joined(&self) -> usize {
        self.inner().joined
    }
}

impl Source for Client {
    fn subscribe(&self, name: &str) -> BoxStream<'static, Yielded> {
        let mut inner = self.inner();
        inner.joined += 1;
        let queue = inner.greeting.iter().cloned().collect();
        let pipe = Pipe { name: name.to_owned(), queue, ..Pipe::default() };
        let pipe = Arc::new(Mutex::new(pipe));
        inner.streams.push(Arc::clone(&pipe));
        Incoming(pipe).boxed()
    }
}

impl Stream for Incoming {
    type Item = Yielded;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Yielded>> {
        let mut pipe = self.0.lock().unwrap();
        match pipe.queue.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if pipe.ended => Poll::Ready(None),
            None => {
                pipe.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut pipe = self.0.lock().unwrap();
        pipe.dropped = true;
        pipe.queue.clear();
    }
}

/// The break that a switch tells of.
fn is_seam(gap: &Gap) -> bool {
    matches!(gap, Gap::Reconnected { reason: DisconnectReason::Switched, down_for } if down_for.is_zero())
}

fn word(item: Yielded) -> String {
    match item {
        Ok(message) => message.as_text().expect("text").to_owned(),
        Err(StreamError::Gap(gap)) if is_seam(&gap) => "seam".to_owned(),
        Err(StreamError::Gap(_)) => "gap".to_owned(),
        Err(StreamError::Closed(reason)) => reason.label().to_owned(),
        Err(_) => "decode".to_owned(),
    }
}

/// All that there is to read now, in words; `end` stands for `None`.
async fn words(stream: &mut (impl Stream<Item = Yielded> + Unpin)) -> String {
    let mut words = Vec::new();
    poll_fn(|cx| {
        loop {
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(item)) => words.push(word(item)),
                Poll::Ready(None) => {
                    words.push("end".to_owned());
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
    words.join(" ")
}
