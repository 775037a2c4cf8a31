//! The task that reads what one client sends: frames, and what they say.
//!
//! It holds no buffer while nothing comes, and what has come of a message for a bounded time. What is to be said in
//! answer goes to the client's shard, by a queue that is bounded, so a client that says more than is taken waits. It
//! ends with the connection, and has the shard forget the client however it ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::control::{Arrival, Ask, ClientId, Control, End, Form, Passage, ShardHandle};
use super::doors::Doors;
use super::frame::{self, Decoder, Incoming, Violation};
use super::io::Input;
use super::visitor::Visitor;
use super::words::{self, Id, Word};
use crate::name::StreamName;

/// What there is to know of a client whose connection is open.
pub(super) struct Client {
    pub(super) close_timeout: Duration,
    pub(super) doors: Arc<dyn Doors>,
    pub(super) max_message: usize,
    pub(super) message_timeout: Duration,
    pub(super) shard: ShardHandle,
}

/// Has the shard forget a client.
struct Place {
    id: ClientId,
    shard: ShardHandle,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.shard.passages.send(Passage::Goes(self.id));
    }
}

/// What a client is told last.
struct Last {
    code: Option<u16>,
    reason: &'static str,
}

impl From<Violation> for Last {
    fn from(violation: Violation) -> Self {
        Self { code: Some(violation.code), reason: violation.why }
    }
}

/// The reading side of a client that a shard knows.
pub(super) struct Reader {
    /// Since when a message has begun that is not whole yet.
    begun: Option<Instant>,
    close_timeout: Duration,
    control: Arc<Control>,
    decoder: Decoder,
    doors: Arc<dyn Doors>,
    form: Form,
    message_timeout: Duration,
    place: Place,
    visitor: Visitor,
}

impl Reader {
    /// Has a shard take a client in; `None` where the shard has gone.
    pub(super) async fn enter(client: Client, arrival: Arrival) -> Option<Self> {
        let Client { close_timeout, doors, max_message, message_timeout, shard } = client;
        let (control, form) = (Arc::clone(&arrival.control), arrival.form);
        let visitor = arrival.visitor.clone();
        let (answer, id) = oneshot::channel();
        shard.passages.send(Passage::Comes(arrival, answer)).ok()?;
        let place = Place { id: id.await.ok()?, shard };
        let decoder = Decoder::new(max_message);
        Some(Self {
            begun: None,
            close_timeout,
            control,
            decoder,
            doors,
            form,
            message_timeout,
            place,
            visitor,
        })
    }

    /// Reads the only name of a raw relay.
    pub(super) async fn relay(&self, name: StreamName) {
        self.ask(Ask::Subscribe(Id::default(), vec![name])).await;
    }

    /// Takes what came behind the handshake.
    pub(super) fn take_early(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    /// Reads until the connection has ended.
    ///
    /// There is one of these for each client, so it is kept small: what it has is used where it stands,
    /// and what is rarely done is in a box.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` keeps twice what it is given")]
    pub(super) fn run(mut self, mut input: Input) -> impl Future<Output = ()> + Send {
        async move {
            if let Some(last) = self.serve(&mut input).await {
                Box::pin(self.ask(Ask::Close(last.code, last.reason))).await;
            }
            // The client has a while to say goodbye, and what it says else is not heard.
            let _ = timeout(self.close_timeout, self.see_off(&mut input)).await;
        }
    }

    /// Serves the client while the connection is open. Returns what to tell it last, if anything.
    async fn serve(&mut self, input: &mut Input) -> Option<Last> {
        loop {
            match self.take_words().await {
                Ok(()) => {}
                Err(last) => return Some(last),
            }
            let (expires_at, due_at) = (self.visitor.expires_at(), self.due_at());
            tokio::select! {
                biased;
                () = self.control.ending() => {
                    if self.control.end() != End::Open {
                        return None;
                    }
                }
                () = until(earlier(expires_at, due_at)) => {
                    if self.visitor.is_expired() {
                        return Some(Last { code: Some(4401), reason: "expired" });
                    }
                    if due_at.is_some_and(|at| at <= Instant::now()) {
                        return Some(Last { code: Some(1008), reason: "too slow" });
                    }
                }
                read = take(input, &mut self.decoder) => {
                    if !read {
                        return None;
                    }
                    self.control.hear();
                }
            }
        }
    }

    /// Reads on until the other side is done, or the shard has cut the client off.
    async fn see_off(&mut self, input: &mut Input) {
        while self.control.end() != End::Cut {
            tokio::select! {
                () = self.control.ending() => {}
                read = poll_fn(|cx| input.poll_read(cx, |_| {})) => {
                    if matches!(read, Ok(0) | Err(_)) {
                        return;
                    }
                }
            }
        }
    }

    /// Acts upon all that has come as a whole.
    async fn take_words(&mut self) -> Result<(), Last> {
        while let Some(incoming) = self.decoder.next()? {
            // A control frame amid a message is not its end.
            if !self.decoder.is_in_message() {
                self.begun = None;
            }
            match incoming {
                Incoming::Close(code) => return Err(Last { code, reason: "" }),
                Incoming::Pong => {}
                said => {
                    self.may_say()?;
                    Box::pin(self.answer(said)).await;
                }
            }
        }
        if self.decoder.is_in_frame() || self.decoder.is_in_message() {
            self.begun.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Until when what has begun has to be whole.
    fn due_at(&self) -> Option<Instant> {
        self.begun.and_then(|begun| begun.checked_add(self.message_timeout))
    }

    async fn answer(&self, said: Incoming) {
        match (said, self.form) {
            (Incoming::Ping(payload), _) => {
                self.ask(Ask::Say(frame::frame(frame::PONG, &payload))).await;
            }
            #[cfg(feature = "test-util")]
            (Incoming::Text(text), Form::Echo) => self.echo(frame::TEXT, text.as_bytes()).await,
            #[cfg(feature = "test-util")]
            (Incoming::Binary(bytes), Form::Echo) => self.echo(frame::BINARY, &bytes).await,
            (Incoming::Text(text), Form::Words) => self.hear(&text).await,
            (Incoming::Binary(_), Form::Words) => self.not_understood().await,
            (_, Form::Raw) | (Incoming::Close(_) | Incoming::Pong, _) => {}
        }
    }

    fn may_say(&self) -> Result<(), Last> {
        if self.visitor.standing().may_say() {
            Ok(())
        } else {
            Err(Last { code: Some(1008), reason: "too many messages" })
        }
    }

    async fn hear(&self, text: &str) {
        match Word::read(text) {
            None => self.not_understood().await,
            Some(Word::Ping { id }) => self.ask(Ask::Say(words::pong(&id))).await,
            Some(Word::Auth { id, token }) => {
                let answer = match self.doors.renew(&self.visitor, &token).await {
                    Ok(()) => words::ack(&id, []),
                    Err(why) => words::error(&id, why.code(), None, &why.to_string()),
                };
                self.ask(Ask::Say(answer)).await;
            }
            Some(Word::Subscribe { id, names }) => {
                let mut valid = Vec::with_capacity(names.len());
                for name in names {
                    match StreamName::try_from(&*name) {
                        Ok(name) => valid.push(name),
                        Err(_) => self.no_name(&id).await,
                    }
                }
                self.ask(Ask::Subscribe(id, valid)).await;
            }
            Some(Word::Unsubscribe { id, names }) => {
                let names = names.iter().filter_map(|name| StreamName::try_from(&**name).ok());
                self.ask(Ask::Unsubscribe(id, names.collect())).await;
            }
        }
    }

    #[cfg(feature = "test-util")]
    async fn echo(&self, opcode: u8, payload: &[u8]) {
        self.ask(Ask::Say(frame::frame(opcode, payload))).await;
    }

    async fn no_name(&self, id: &Id) {
        let text = "a name has 1 to 4096 bytes, and no control characters";
        self.ask(Ask::Say(words::error(id, "invalid_name", None, text))).await;
    }

    async fn not_understood(&self) {
        let text = "not understood: say one JSON object per text message, as documented";
        self.ask(Ask::Say(words::error(&Id::default(), "bad_frame", None, text))).await;
    }

    /// Where the shard has gone, the connection has, too.
    async fn ask(&self, ask: Ask) {
        let _ = self.place.shard.asks.send((self.place.id, ask)).await;
    }
}

/// Takes what came; `false` at the end of it.
async fn take(input: &mut Input, decoder: &mut Decoder) -> bool {
    let read = poll_fn(|cx| input.poll_read(cx, |bytes| decoder.feed(bytes))).await;
    matches!(read, Ok(1..))
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::gateway::doors::Open;

    /// What a task for each client costs is most of what an idle client costs.
    #[tokio::test]
    async fn the_task_of_a_client_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (asks, _asked) = mpsc::channel(1);
        let (passages, _passed) = mpsc::unbounded_channel();
        let shard = ShardHandle { asks, passages };
        let reader = Reader {
            begun: None,
            close_timeout: Duration::ZERO,
            control: Arc::default(),
            decoder: Decoder::new(1),
            doors: Arc::new(Open),
            form: Form::Words,
            message_timeout: Duration::ZERO,
            place: Place { id: ClientId { key: 0, number: 0 }, shard },
            visitor: Visitor::new("ann", ()),
        };
        let task = reader.run(Input::Tcp(socket.into_split().0));
        assert!(size_of_val(&task) <= 640, "{} bytes", size_of_val(&task));
    }
}
