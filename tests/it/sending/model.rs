//! Random programs that send and think better of it, over sockets that stall, take a part, and break:
//! what each sender was told is held against what the servers got.

use std::collections::BTreeSet;
use std::task::Poll;

use proptest::prelude::*;
use tokio::time::Instant;
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{Message, RetryPolicy, SendError, WsManager};

use super::{Sending, poll};
use crate::lines::heard;
use crate::{MS, SECOND, config, manager_of, settle};

#[derive(Clone, Debug)]
enum Act {
    Accept,
    /// Drops one of those that still wait.
    Drop(prop::sample::Index),
    Lose,
    Send,
    Stall(bool),
    Take(usize),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Accept),
        3 => any::<prop::sample::Index>().prop_map(Act::Drop),
        1 => Just(Act::Lose),
        8 => Just(Act::Send),
        3 => any::<bool>().prop_map(Act::Stall),
        2 => (1..4_usize).prop_map(Act::Take),
        4 => prop_oneof![Just(1), Just(1_000), Just(4_000), Just(11_000)].prop_map(Act::Wait),
    ]
}

/// What became of a message, as far as its sender knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The future was dropped; whether the message was written by then.
    Dropped {
        written: bool,
    },
    Told(Result<(), SendError>),
    Waits,
}

/// What the server's end of one socket saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    received: Vec<usize>,
    /// What the client gave to the socket, received or not.
    written: BTreeSet<usize>,
}

/// What is wrong, if anything. Messages are numbered in the order they were sent.
fn judge(fates: &[Fate], sockets: &[Seen]) -> Result<(), String> {
    for (n, seen) in sockets.iter().enumerate() {
        if !seen.received.is_sorted_by(|a, b| a < b) {
            return Err(format!("socket {n} has {:?} out of order or twice", seen.received));
        }
    }
    for (id, fate) in fates.iter().enumerate() {
        let received = sockets.iter().filter(|seen| seen.received.contains(&id)).count();
        let written = sockets.iter().filter(|seen| seen.written.contains(&id)).count();
        let is_true = match fate {
            Fate::Told(Ok(())) => received == 1 && written == 1,
            Fate::Told(Err(SendError::Unknown)) => received <= 1 && written == 1,
            Fate::Told(Err(_)) | Fate::Dropped { written: false } => written == 0,
            Fate::Dropped { written: true } => written == 1,
            Fate::Waits => false,
        };
        if !is_true {
            return Err(format!("{id} is {fate:?}, written {written} times, received {received}"));
        }
    }
    Ok(())
}

struct World<'a> {
    fates: Vec<Fate>,
    manager: &'a WsManager,
    peer: Option<Peer>,
    sending: Vec<(usize, Instant, Sending<'a>)>,
    server: MemoryServer,
    sockets: Vec<Seen>,
}

impl World<'_> {
    fn send(&mut self) {
        let id = self.fates.len();
        self.fates.push(Fate::Waits);
        let sending = Box::pin(self.manager.send("x", id.to_string()));
        self.sending.push((id, Instant::now(), sending));
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Accept if self.server.has_dial() => {
                self.lose();
                self.peer = Some(self.server.accept().await);
                self.sockets.push(Seen::default());
            }
            Act::Accept => {}
            Act::Drop(_) if self.sending.is_empty() => {}
            Act::Drop(which) => {
                let (id, ..) = self.sending.remove(which.index(self.sending.len()));
                self.look();
                let written = self.sockets.iter().any(|seen| seen.written.contains(&id));
                self.fates[id] = Fate::Dropped { written };
            }
            Act::Lose => self.lose(),
            Act::Send => self.send(),
            Act::Stall(stalled) => self.peer.iter().for_each(|peer| peer.stall(*stalled)),
            Act::Take(frames) => {
                let _ = self.peer.as_ref().map(|peer| peer.take(*frames));
            }
            Act::Wait(millis) => tokio::time::sleep(*millis as u32 * MS).await,
        }
        self.look();
        self.poll();
    }

    /// Notes what the present socket has been given and has received.
    fn look(&mut self) {
        let (Some(peer), Some(seen)) = (&mut self.peer, self.sockets.last_mut()) else { return };
        let id = |text: &str| text.parse::<usize>().unwrap();
        let said = heard(peer).into_iter().filter(|said| said != "(close)");
        let received: Vec<_> = said.map(|text| id(&text)).collect();
        let untaken = peer.untaken().into_iter().filter_map(|frame| match frame {
            Frame::Data(message) => Some(id(message.as_text().unwrap())),
            _ => None,
        });
        seen.written.extend(received.iter().copied().chain(untaken));
        seen.received.extend(received);
    }

    fn lose(&mut self) {
        self.look();
        self.peer = None;
    }

    fn poll(&mut self) {
        let fates = &mut self.fates;
        self.sending.retain_mut(|(id, since, sending)| match poll(sending) {
            Poll::Ready(outcome) => {
                fates[*id] = Fate::Told(outcome);
                false
            }
            Poll::Pending => {
                assert!(since.elapsed() <= 15 * SECOND + 12 * SECOND, "{id} waits too long");
                true
            }
        });
    }
}

async fn run(acts: &[Act]) -> Result<(), String> {
    let retry = RetryPolicy { max_delay: SECOND, ..RetryPolicy::forever() };
    let config = config().retry(retry).send_queue(4);
    let (manager, server) =
        manager_of(wsmux::protocol::Direct::new("ws://test/{name}").unwrap(), config);
    let _stream = manager.subscribe::<Message>("x").unwrap();
    let mut world = World {
        fates: Vec::new(),
        manager: &manager,
        peer: None,
        sending: Vec::new(),
        server,
        sockets: Vec::new(),
    };
    for act in acts {
        world.act(act).await;
    }
    for _ in 0..4 {
        world.act(&Act::Wait(4_000)).await; // The ttl, and the write timeout.
    }
    settle().await;
    world.act(&Act::Lose).await;
    world.act(&Act::Wait(1)).await;
    judge(&world.fates, &world.sockets)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_sender_is_told_the_truth(acts in prop::collection::vec(act(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        if let Err(fault) = runtime.block_on(run(&acts)) {
            prop_assert!(false, "{fault}");
        }
    }
}

#[test]
fn what_is_not_the_truth_is_noticed() {
    let seen = |received: &[usize], written: &[usize]| Seen {
        received: received.to_vec(),
        written: written.iter().copied().collect(),
    };
    let (sent, unknown) = (Fate::Told(Ok(())), Fate::Told(Err(SendError::Unknown)));
    let not_sent = Fate::Told(Err(SendError::Expired));
    let sockets = [seen(&[0], &[0, 1]), Seen::default()];
    assert_eq!(judge(&[sent, unknown, not_sent], &sockets), Ok(()));
    for third in [Fate::Waits, sent, unknown, Fate::Dropped { written: true }] {
        assert!(judge(&[sent, unknown, third], &sockets).is_err(), "{third:?}");
    }
    for (what, first, second) in [
        ("an unknown one is sent again", seen(&[0], &[0, 1]), seen(&[1], &[1])),
        ("an expired one is written", seen(&[0], &[0, 1, 2]), Seen::default()),
        ("one that was sent is not received", seen(&[], &[0, 1]), Seen::default()),
        ("one is received twice", seen(&[0, 0], &[0, 1]), Seen::default()),
        ("two are out of order", seen(&[1, 0], &[0, 1]), Seen::default()),
    ] {
        assert!(judge(&[sent, unknown, not_sent], &[first, second]).is_err(), "{what}");
    }
    let taken_back = [sent, unknown, Fate::Dropped { written: false }];
    assert!(judge(&taken_back, &[seen(&[0, 2], &[0, 1, 2])]).is_err());
}
