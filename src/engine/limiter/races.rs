//! The races of a host's queue, explored by shuttle on the limiter's own code. The clock is played:
//! it moves when whoever is first has nothing else to wait for, as its timer would have it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;
use tokio::time::Instant;

use super::{Limiter, Permit, Turn, Waiting};
use crate::config::DialRate;
use crate::engine::defect::Defect::{TurnBarges, TurnInTwoSteps, TurnIsKept, TurnWakesNobody};
use crate::engine::races::explore_with_twins;

/// A host, and who was let in to it.
#[derive(Clone)]
struct Stage {
    /// How far the clock has been moved.
    clock: Arc<Mutex<Instant>>,
    in_flight: Arc<AtomicUsize>,
    let_in: Arc<Mutex<Vec<usize>>>,
    limiter: Limiter,
    max: usize,
}

impl Stage {
    fn new(rate: DialRate, max: usize) -> Self {
        Self {
            clock: Arc::new(Mutex::new(Instant::now())),
            in_flight: Arc::default(),
            let_in: Arc::default(),
            limiter: Limiter::with_rate(rate),
            max,
        }
    }

    fn queue(&self) -> Turn {
        self.limiter.queue("host".into(), self.max, false)
    }

    fn wait(&self, turn: &mut Turn) -> Permit {
        block_on(poll_fn(|cx| {
            let now = Instant::now().max(*self.clock.lock().unwrap());
            match turn.ask(cx, now) {
                Ok(permit) => Poll::Ready(permit),
                Err(Waiting { position, until }) => {
                    if let Some(until) = until.filter(|_| position == 1) {
                        *self.clock.lock().unwrap() = now.max(until);
                        cx.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
            }
        }))
    }

    /// Waits for `turn`, that of number `n`, and makes its handshake.
    fn dial(&self, n: usize, mut turn: Turn) {
        let permit = self.wait(&mut turn);
        self.let_in.lock().unwrap().push(n);
        assert!(self.in_flight.fetch_add(1, SeqCst) < self.max, "more than are allowed");
        drop(turn);
        thread::yield_now();
        self.in_flight.fetch_sub(1, SeqCst);
        drop(permit);
    }

    /// Numbers from 0 take their places in order, and each has a thread; those that leave, leave.
    fn play(&self, count: usize, leaves: impl Fn(usize) -> bool) -> Vec<usize> {
        let turns: Vec<_> = (0..count).map(|_| self.queue()).collect();
        let threads: Vec<_> = (0..)
            .zip(turns)
            .map(|(n, turn)| {
                let (stage, leaves) = (self.clone(), leaves(n));
                thread::spawn(move || if leaves { drop(turn) } else { stage.dial(n, turn) })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut self.let_in.lock().unwrap())
    }
}

#[test]
fn who_asked_first_goes_first_and_nobody_is_forgotten() {
    explore_with_twins(&[TurnBarges, TurnInTwoSteps, TurnWakesNobody], || {
        let stage = Stage::new(DialRate::UNLIMITED, 1);
        assert_eq!(stage.play(3, |_| false), [0, 1, 2]);
    });
}

#[test]
fn who_leaves_makes_room_for_who_is_behind() {
    explore_with_twins(&[TurnIsKept, TurnInTwoSteps, TurnWakesNobody], || {
        let stage = Stage::new(DialRate::UNLIMITED, 1);
        assert_eq!(stage.play(4, |n| n % 2 == 0), [1, 3]);
    });
}

#[test]
fn a_window_that_is_used_up_lets_the_rest_in_later_and_in_order() {
    explore_with_twins(&[TurnBarges, TurnIsKept, TurnWakesNobody], || {
        let stage = Stage::new(DialRate::new(1, Duration::from_secs(600)), 2);
        assert_eq!(stage.play(4, |n| n == 1), [0, 2, 3]);
    });
}

#[test]
fn those_that_have_room_side_by_side_are_all_let_in() {
    explore_with_twins(&[TurnIsKept, TurnInTwoSteps], || {
        let stage = Stage::new(DialRate::UNLIMITED, 2);
        let mut let_in = stage.play(5, |n| n == 2);
        let_in.sort_unstable();
        assert_eq!(let_in, [0, 1, 3, 4]);
    });
}
