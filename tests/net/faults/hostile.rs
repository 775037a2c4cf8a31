//! Servers that would take all there is: each is left within bounds of time, memory and work, by a
//! reason of its own, and told why.

use std::time::Duration;

use futures::StreamExt as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, interval};
use wsmux::test_util::{Answer, MockServer, Peer};
use wsmux::transport::{Frame, Tungstenite};
use wsmux::{DisconnectReason, Event, Message};

use crate::{MS, Net, PATH, SECOND, builder, config, direct, end, fatal, message, within};

const POLICY: u16 = 1008;

/// Of this thread, on which both client and server run.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// How a client whose first socket gets this ends it, what it tells the server, and how long it stays
/// away at least.
async fn ended_by(limit: Duration, does: impl AsyncFn(&Peer)) -> (DisconnectReason, u16, Duration) {
    let server = MockServer::start().await.unwrap();
    let transport = Tungstenite::new().assembly_timeout(limit);
    let builder = builder(direct(&server), config()).transport(transport);
    let net = Net::of(server, builder);
    let mut events = net.manager.events();
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    assert!(peer.send("before").await);
    assert_eq!(message(&mut stream).await, "before".into());
    let serving = async {
        // It may well go on when nobody listens any more.
        tokio::join!(does(&peer), async { peer.recv_close().await })
    };
    let reading = async {
        let (mut reason, mut delay) = (None, None);
        while delay.is_none() {
            match events.next().await.unwrap() {
                Event::Disconnected { reason: said, .. } => reason = Some(said),
                Event::Retrying { delay: said, .. } => delay = Some(said),
                _ => {}
            }
        }
        (reason.unwrap(), delay.unwrap())
    };
    let (((), close), (reason, delay)) = within(async { tokio::join!(serving, reading) }).await;
    let (code, _) = close.expect("it is told").expect("with a code");
    drop((stream, events));
    net.leaves_nothing().await;
    (reason, code, delay)
}

#[tokio::test]
async fn a_flood_of_fragments_burns_no_core_and_is_named() {
    for fragment in [&b"\0\0"[..], b"\0\x01x"] {
        let before = cpu();
        let (reason, code, delay) = ended_by(SECOND, async |peer| {
            let chunk = fragment.repeat(32_768);
            let mut goes_on = peer.raw(&b"\x01\0"[..]).await;
            for _ in 0..1000 {
                goes_on = goes_on && peer.raw(chunk.clone()).await;
            }
        })
        .await;
        assert_eq!((reason, code), (DisconnectReason::Flood, POLICY));
        assert!(delay >= 5 * SECOND, "{delay:?}");
        let spent = cpu() - before;
        assert!(spent < SECOND, "{spent:?} of 32 million fragments");
    }
}

#[tokio::test]
async fn a_flood_of_pings_or_pongs_burns_no_core_and_is_named() {
    for pong in [false, true] {
        let before = cpu();
        let (reason, code, delay) = ended_by(SECOND, async |peer| {
            let chunk = if pong { b"\x8a\0".repeat(32_768) } else { b"\x89\x01x".repeat(32_768) };
            let mut goes_on = true;
            for _ in 0..1000 {
                goes_on = goes_on && peer.raw(chunk.clone()).await;
            }
        })
        .await;
        assert_eq!((reason, code), (DisconnectReason::Flood, POLICY), "pongs: {pong}");
        assert!(delay >= 5 * SECOND, "{delay:?}");
        let spent = cpu() - before;
        assert!(spent < SECOND, "{spent:?} of 32 million frames");
    }
}

#[tokio::test]
async fn many_pings_that_come_together_get_one_pong_with_the_latest_payload() {
    const PINGS: u16 = 900;
    let net = Net::start().await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    let pings: Vec<u8> =
        (0..PINGS).flat_map(|n| [&[0x89, 2][..], &n.to_be_bytes()].concat()).collect();
    assert!(peer.raw(pings).await && peer.send("after").await);
    assert_eq!(message(&mut stream).await, "after".into());
    let mut pongs = Vec::new();
    while pongs.last() != Some(&(PINGS - 1)) {
        match within(peer.recv()).await {
            Some(Frame::Pong(payload)) => {
                pongs.push(u16::from_be_bytes(payload[..].try_into().unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(pongs.is_sorted() && pongs.len() <= 50, "one for a batch: {pongs:?}");
    assert_eq!(net.server.dials(), 1);
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn pongs_that_nobody_asked_for_are_ignored() {
    let net = Net::start().await;
    let mut stream = net.subscribe();
    let peer = net.accept().await;
    for n in 0..100 {
        assert!(peer.raw(&b"\x8a\x03odd"[..]).await && peer.send(n.to_string()).await);
        assert_eq!(message(&mut stream).await, n.to_string().into());
    }
    assert_eq!(net.server.dials(), 1);
    drop(stream);
    net.leaves_nothing().await;
}

/// Sends `bytes` in pieces, one every 10 ms.
async fn drip(peer: &Peer, bytes: &[u8], piece: usize) {
    let mut beat = interval(10 * MS);
    for piece in bytes.chunks(piece) {
        beat.tick().await;
        if !peer.raw(piece.to_vec()).await {
            return;
        }
    }
}

#[tokio::test]
async fn a_message_that_drips_for_ever_ends_at_its_deadline_wherever_it_is() {
    let limit = 60 * MS;
    let long = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[0; 1000]].concat();
    let fragments = [&b"\x01\x01x"[..], &b"\x00\x01x".repeat(500)].concat();
    let pinged = [&b"\x01\x01x"[..], &b"\x89\x00\x00\x01x".repeat(500)].concat();
    for (what, bytes, piece) in [
        ("a head", long.clone(), 1),
        ("a payload", long[..20].iter().chain(&[7; 1000]).copied().collect(), 15),
        ("fragments", fragments, 3),
        ("fragments and pings", pinged, 5),
    ] {
        let start = Instant::now();
        let (reason, code, delay) =
            ended_by(limit, async |peer| drip(peer, &bytes, piece).await).await;
        assert_eq!((reason, code), (DisconnectReason::AssemblyTimeout, POLICY), "{what}");
        assert!(start.elapsed() >= limit && delay >= 5 * SECOND, "{what}");
    }
    // And one that stops.
    let (reason, _, _) =
        ended_by(limit, async |peer| assert!(peer.half_message("half").await)).await;
    assert_eq!(reason, DisconnectReason::AssemblyTimeout);
}

#[tokio::test]
async fn messages_that_are_slow_and_come_to_their_end_are_whole() {
    async fn slow(peer: Peer) {
        for _ in 0..5 {
            drip(&peer, b"\x01\x02on\x89\x00\x00\x04e me\x80\x05ssage", 3).await;
        }
    }
    let server = MockServer::builder().route(PATH, slow).start().await.unwrap();
    let transport = Tungstenite::new().assembly_timeout(20 * SECOND);
    let builder = builder(direct(&server), config()).transport(transport);
    let net = Net::of(server, builder);
    let mut stream = net.subscribe();
    for _ in 0..5 {
        assert_eq!(message(&mut stream).await, "one message".into());
    }
    assert_eq!(net.server.dials(), 1);
    drop(stream);
    net.leaves_nothing().await;
}

#[tokio::test]
async fn a_portal_that_answers_with_a_page_is_left_before_the_page() {
    let page = format!("HTTP/1.1 200 OK\r\n\r\n{}", "<p>Log in, canary</p>".repeat(1 << 20));
    let net = Net::start().await;
    net.server.set_answer(PATH, Answer::Raw(page.into()));
    let before = cpu();
    let reason = end(&mut net.manager.subscribe::<Message>("x").unwrap()).await;
    assert_eq!(*fatal(&reason), DisconnectReason::Http { status: 200 });
    assert!(!format!("{reason} {reason:?}").contains("canary"));
    assert!(cpu() - before < SECOND && net.server.dials() == 1);
    net.leaves_nothing().await;
}
