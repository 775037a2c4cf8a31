//! Writing to a server that takes its time, or nothing at all.

use wsmux::protocol::{Cx, Dial, DialError, Direct, Lane, Protocol, Request, Session, To, Verdict};
use wsmux::test_util::MockServer;
use wsmux::{Config, DisconnectReason, InvalidName, Message, StreamName};

use crate::{HOUR, MS, Net, builder, config, direct, gap, message, within};

/// Answers each message with `count` messages of `len` bytes.
struct Chatty {
    count: usize,
    direct: Direct,
    len: usize,
}

struct Answers {
    answer: Message,
    count: usize,
}

impl Protocol for Chatty {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.direct.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        self.direct.request(dial)
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Answers { answer: vec![0; self.len].into(), count: self.count })
    }
}

impl Session for Answers {
    fn join(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        cx.data(To::All, message.clone());
        (0..self.count).for_each(|_| cx.push(self.answer.clone()));
    }
}

async fn chatty(config: Config, count: usize, len: usize) -> Net {
    let server = MockServer::start().await.unwrap();
    let chatty = Chatty { count, direct: direct(&server), len };
    let manager = builder(chatty, config);
    Net::of(server, manager)
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_left_after_the_write_timeout() {
    for (count, len) in [(1024, 64 << 10), (64, 1 << 20), (8, 15 << 20)] {
        let net = chatty(config().write_timeout(100 * MS), count, len).await;
        let mut stream = net.subscribe();
        let peer = net.accept().await;
        peer.stall();
        assert!(peer.send("go").await);
        assert_eq!(message(&mut stream).await, "go".into());
        net.accept().await;
        assert_eq!(gap(&mut stream).await, DisconnectReason::WriteTimeout, "{count} of {len}");
        peer.fin();
        drop(stream);
        net.leaves_nothing().await;
    }
}

#[tokio::test]
async fn reading_goes_on_beside_a_write_that_is_stuck_and_leaving_waits_for_neither() {
    let net = chatty(config().write_timeout(HOUR).close_timeout(HOUR), 64, 1 << 20).await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    peer.stall();
    for n in 0..100 {
        assert!(peer.send(n.to_string()).await);
        assert_eq!(message(&mut stream).await, n.to_string().into());
    }
    drop(stream);
    peer.fin();
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_server_that_reads_gets_all_however_much_it_is() {
    for (count, len) in [(512, 64 << 10), (32, 1 << 20), (1, 15 << 20)] {
        let net = chatty(config(), count, len).await;
        let mut stream = net.subscribe();
        let peer = net.accept().await;
        assert!(peer.send("go").await);
        for _ in 0..count {
            let answer = within(peer.recv_message()).await.expect("all of it");
            assert_eq!(answer.len(), len);
        }
        assert_eq!(message(&mut stream).await, "go".into());
        drop(stream);
        net.leaves_nothing().await;
    }
}

/// Gives up at the first message, and says so with this verdict.
struct Quitter(Direct, Verdict);

struct Quits(Verdict);

impl Protocol for Quitter {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.0.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        self.0.request(dial)
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Quits(self.1))
    }
}

impl Session for Quits {
    fn join(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, _: &Message, cx: &mut Cx<'_>) {
        cx.failed(self.0, "enough");
    }
}

#[tokio::test]
async fn a_protocol_that_gives_a_socket_up_closes_it_in_good_form() {
    for verdict in [Verdict::RetryAfter(HOUR), Verdict::NewToken, Verdict::Fatal] {
        let server = MockServer::start().await.unwrap();
        let manager = builder(Quitter(direct(&server), verdict), config());
        let net = Net::of(server, manager);
        let stream = net.subscribe();
        let peer = net.accept().await;
        assert!(peer.send("go").await);
        assert_eq!(within(peer.recv_close()).await, Some(Some((1000, "".into()))), "{verdict:?}");
        drop(stream);
        net.leaves_nothing().await;
    }
}
