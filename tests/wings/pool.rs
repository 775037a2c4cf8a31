//! Requests that come and go while connections fail: what each may take, and how often each is asked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{Either, join_all, select};
use tokio::time::{self, Instant};
use wsmux::test_util::{Mock, Out, Service, SocketId};
use wsmux::{Message, Reply, RequestError};

use super::{Dice, Found, MS, SECOND, built, check, finds};
use crate::requests::defect::Defect;
use crate::requests::{Call, PoolConfig, RequestPool};

const CONNECTIONS: usize = 3;
const IN_FLIGHT: usize = 2;
/// Idempotent requests are made so often at most.
const MADE: usize = 3;
/// Longer than anything takes for which nobody has to wait.
const SOON: Duration = Duration::from_millis(100);

/// What the server does about a request.
#[derive(Clone, Copy, Debug)]
enum Does {
    Answers(u64),
    /// The socket, when it hears of it first.
    Breaks,
    Fails,
    Never,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    at: u64,
    deadline: u64,
    does: Does,
    idempotent: bool,
    /// Its future is dropped after that.
    leaves: Option<u64>,
}

struct Program {
    asks: Vec<Ask>,
    /// When how many dials are refused.
    refusals: Vec<(u64, usize)>,
}

impl Program {
    fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut at = 0;
        let asks = (0..60).map(|_| {
            at += dice.of(&[0, 0, 0, 20, 200, 1500]);
            let answers = Does::Answers(dice.of(&[0, 10, 300, 900]));
            let does =
                dice.of(&[answers, answers, answers, Does::Breaks, Does::Fails, Does::Never]);
            Ask {
                at,
                deadline: dice.of(&[400, 3000, 8000]),
                does,
                idempotent: dice.below(2) == 0,
                leaves: dice.of(&[None, None, None, Some(0), Some(250)]),
            }
        });
        let asks: Vec<_> = asks.collect();
        let count = if seed % 2 == 0 { 0 } else { 8 };
        let mut refusals: Vec<_> =
            (0..count).map(|_| (dice.below(at + 1), dice.of(&[1, 2, 3]))).collect();
        refusals.sort_unstable();
        Self { asks, refusals }
    }
}

/// The server's books.
struct Clerk {
    asks: Vec<Ask>,
    /// What is wrong.
    found: Option<String>,
    heard: Vec<usize>,
    /// What each open socket owes, and until when.
    owes: BTreeMap<SocketId, Vec<(u64, Instant)>>,
    refused: BTreeSet<usize>,
}

impl Clerk {
    fn has_room(&mut self, now: Instant) -> bool {
        self.owes.values_mut().for_each(|owed| owed.retain(|(_, until)| *until > now));
        self.owes.values().any(|owed| owed.len() < IN_FLIGHT)
    }

    fn find(&mut self, what: impl Into<String>) {
        self.found.get_or_insert(what.into());
    }
}

impl Service for Clerk {
    fn open(&mut self, socket: SocketId, _: &wsmux::test_util::Handshake, _: &mut Out) {
        self.owes.insert(socket, Vec::new());
    }

    fn gone(&mut self, socket: SocketId) {
        self.owes.remove(&socket);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let text = message.as_text().unwrap_or_default();
        // What comes on a socket that was dropped is not heard.
        let Some(owed) = self.owes.get_mut(&socket) else { return };
        if let Some(id) = text.strip_prefix('~') {
            return owed.retain(|(other, _)| other.to_string() != id);
        }
        let (id, body) = text.strip_prefix('?').and_then(|rest| rest.split_once(' ')).unwrap();
        let (id, number): (u64, usize) = (id.parse().unwrap(), body.parse().unwrap());
        let now = out.now();
        owed.retain(|(_, until)| *until > now);
        let until = match self.asks[number].does {
            Does::Answers(after) => now + ms(after),
            Does::Never => now + 3600 * SECOND,
            Does::Breaks | Does::Fails => now,
        };
        owed.push((id, until));
        if owed.len() > IN_FLIGHT {
            self.find(format!("a connection has more than {IN_FLIGHT} requests in flight"));
        }
        if self.refused.contains(&number) {
            self.find(format!("{number} is asked again, although the server has refused it"));
        }
        let is_first = self.heard[number] == 0;
        self.heard[number] += 1;
        match self.asks[number].does {
            Does::Breaks if is_first => {
                self.owes.remove(&socket);
                out.drop_socket(socket);
            }
            Does::Never => {}
            Does::Fails => {
                self.refused.insert(number);
                out.send(socket, format!("-{id} no"));
            }
            Does::Answers(_) | Does::Breaks => {
                out.send_after(until - now, socket, format!("={id} {number}"));
            }
        }
    }
}

/// What its program knows of a request.
#[derive(Clone, Default)]
struct Seen {
    began: Option<Instant>,
    ended: Option<Instant>,
}

/// Asks as the program says, and looks all the while.
async fn run(program: Program) -> Found {
    let Program { asks, refusals } = program;
    let heard = vec![0; asks.len()];
    let (found, owes, refused) = (None, BTreeMap::new(), BTreeSet::new());
    let clerk = Clerk { asks: asks.clone(), found, heard, owes, refused };
    let (mock, transport) = Mock::in_memory(clerk);
    let config = PoolConfig::default().connections(CONNECTIONS).in_flight(IN_FLIGHT);
    let pool = built(transport, config).build().map_err(|e| e.to_string())?;
    let seen = RefCell::new(vec![Seen::default(); asks.len()]);
    let is_up = refusals.is_empty();
    let (pool, mock) = (&pool, &mock);
    let asked = (0..asks.len()).map(async |number| {
        let (outcome, took) = ask(pool, asks[number], number, &seen).await;
        let heard = mock.tell(|clerk, _| clerk.heard[number]);
        judge(asks[number], number, outcome, took, heard, is_up)
    });
    let asked = join_all(asked);
    let refusing = async {
        let start = Instant::now();
        for (at, count) in refusals {
            time::sleep_until(start + ms(at)).await;
            mock.refuse_next(vec![503; count]);
        }
        std::future::pending::<()>().await;
    };
    let watched = async { select(Box::pin(refusing), Box::pin(watch(mock, &seen))).await };
    match select(Box::pin(asked), Box::pin(watched)).await {
        Either::Left((outcomes, _)) => outcomes.into_iter().collect::<Found>()?,
        Either::Right((Either::Right((found, _)), _)) => return Err(found),
        Either::Right((Either::Left(..), _)) => unreachable!("it never ends"),
    }
    time::sleep(SECOND).await;
    let stats = pool.stats();
    if (stats.in_flight, stats.waiting) != (0, 0) {
        return Err(format!("places are taken that nobody has: {stats:?}"));
    }
    mock.tell(|clerk, _| clerk.found.take()).map_or(Ok(()), Err)
}

/// How a request ended, unless it was dropped, and what it took.
type Ended = (Option<Result<Reply, RequestError>>, Duration);

async fn ask(pool: &RequestPool, ask: Ask, number: usize, seen: &RefCell<Vec<Seen>>) -> Ended {
    time::sleep(ms(ask.at)).await;
    let call = Call::new(number.to_string()).deadline(ms(ask.deadline));
    let call = if ask.idempotent { call.idempotent() } else { call };
    let began = Instant::now();
    seen.borrow_mut()[number].began = Some(began);
    let request = pool.request(call);
    let outcome = match ask.leaves {
        Some(after) => time::timeout(ms(after), request).await.ok(),
        None => Some(request.await),
    };
    seen.borrow_mut()[number].ended = Some(Instant::now());
    (outcome, began.elapsed())
}

/// Whether a request could end so, that the server was asked so often; `is_up`: no dial fails.
fn judge(
    ask: Ask,
    number: usize,
    outcome: Option<Result<Reply, RequestError>>,
    took: Duration,
    heard: usize,
    is_up: bool,
) -> Found {
    if took > ms(ask.deadline) + 2 * MS {
        return Err(format!("{number} has taken {took:?}: {ask:?}"));
    }
    if heard > if ask.idempotent { MADE } else { 1 } {
        return Err(format!("{number} is asked {heard} times: {ask:?}"));
    }
    let own = number.to_string();
    match outcome {
        Some(Ok(reply)) if reply.message().and_then(|m| m.as_text()) != Some(&*own) => {
            Err(format!("{number} has another's reply: {reply:?}"))
        }
        Some(Err(e)) if e.is_unsent() && heard > 0 => {
            Err(format!("{number} was written and is said not to be: {e}"))
        }
        Some(Err(RequestError::Unknown))
            if ask.idempotent && is_up && heard < MADE && took < ms(ask.deadline) =>
        {
            Err(format!("{number} could be asked again, and was not: {heard} times"))
        }
        _ => Ok(()),
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Resolves if a request waits although a connection has room for it.
async fn watch(mock: &Mock<Clerk>, seen: &RefCell<Vec<Seen>>) -> String {
    let mut full_at = Instant::now();
    loop {
        time::sleep(10 * MS).await;
        let now = Instant::now();
        if !mock.tell(|clerk, _| clerk.has_room(now)) {
            full_at = now;
        }
        for (number, seen) in seen.borrow().iter().enumerate() {
            let Seen { began: Some(began), ended: None } = seen else { continue };
            let is_heard = mock.tell(|clerk, _| clerk.heard[number] > 0);
            if !is_heard && now - *began.max(&full_at) > SOON {
                return format!("{number} waits, and there is room for it");
            }
        }
    }
}

fn all(defect: Option<Defect>) -> Found {
    (0..40).try_for_each(|seed| {
        let found = check(defect, async || run(Program::of(seed)).await);
        found.map_err(|found| format!("{found}, in program {seed}"))
    })
}

#[test]
fn requests_keep_their_bounds_and_each_mistake_is_found() {
    finds(
        &[
            Defect::DeadlineIsForgotten,
            Defect::LoadIsIgnored,
            Defect::LossIsForgotten,
            Defect::MoveIsNotCounted,
            Defect::NothingIsResent,
            Defect::PlaceIsKept,
            Defect::RefusedIsResent,
            Defect::StrayStays,
            Defect::UnknownIsResent,
        ],
        all,
    );
}

/// One request holds the connection that is open, and that of the other one gives up: it is answered once the
/// first is.
async fn strand() -> Found {
    let asks = [0, 20_000, 0].map(|answers| Ask {
        at: 0,
        deadline: 40_000,
        does: Does::Answers(answers),
        idempotent: false,
        leaves: None,
    });
    let clerk = Clerk {
        asks: asks.to_vec(),
        found: None,
        heard: vec![0; asks.len()],
        owes: BTreeMap::new(),
        refused: BTreeSet::new(),
    };
    let (mock, transport) = Mock::in_memory(clerk);
    let config = PoolConfig::default().connections(2).in_flight(1);
    let pool = built(transport, config).build().map_err(|e| e.to_string())?;
    let asked = |number: usize| pool.request(Call::new(number.to_string()).deadline(40 * SECOND));
    asked(0).await.map_err(|e| e.to_string())?;
    mock.refuse_next(vec![503; 1000]);
    let (first, second) = futures::future::join(asked(1), asked(2)).await;
    first.and(second).map(drop).map_err(|e| format!("there was time, and a place: {e}"))
}

#[test]
fn who_loses_its_connection_waits_for_a_place_on_another() {
    finds(&[Defect::StrandedEnds], |defect| check(defect, strand));
}
