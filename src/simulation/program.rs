//! What one run does: settings, and steps that follow each other in time.
//!
//! A seed decides all of it. Steps name what they are about by numbers of their own, and do nothing
//! where that is not there: so any subset of a program's steps is a program too.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::config::{Config, FirstRetry, Heartbeat, RetryPolicy};

/// The names there are. In the protocol that shares sockets, the first letter is the lane.
pub(super) const NAMES: [&str; 6] = ["a0", "a1", "a2", "a3", "b0", "b1"];

/// How the names travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wire {
    /// One socket per name, by [`Direct`](crate::protocol::Direct).
    Direct,
    /// Names of a lane on one socket, asked for and confirmed.
    Shared,
}

#[allow(clippy::struct_excessive_bools, reason = "each can be so whatever the others are")]
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) config: Config,
    /// Whether the server sends before it confirms.
    pub(super) eager: bool,
    /// How long a frame is on its way.
    pub(super) latency: Duration,
    /// Each name's messages come so far apart.
    pub(super) periods: [Duration; NAMES.len()],
    /// Whether messages are values that come again, and do not tell which they are.
    pub(super) quotes: bool,
    /// Whether sockets are replaced while they work.
    pub(super) rotates: bool,
    pub(super) seed: u64,
    /// Whether the program sends messages of its own.
    pub(super) sends: bool,
    pub(super) sizes: (usize, usize),
    pub(super) steps: Vec<Step>,
    /// How long it takes to get a token, where dials need one.
    pub(super) tokens: Option<Duration>,
    pub(super) wire: Wire,
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) after: Duration,
    pub(super) op: Op,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    // What the program that uses the client does.
    Drop { reader: usize },
    Lease { lease: usize, name: usize },
    NewRuntime,
    Release { lease: usize },
    RenewTokens,
    Rotate { name: usize },
    Send { name: usize, count: usize, form: Form },
    Shutdown,
    Subscribe { reader: usize, name: usize, pace: Pace },
    Sweep { idle: Duration },
    TakeBack { name: usize },
    // What the server and the network do.
    Burst { name: usize, count: usize },
    Confirm { name: usize, how: Confirm },
    Dials { answer: Answer, count: usize },
    EndName { name: usize },
    Lose { name: Option<usize>, how: Loss },
    Ping { name: usize },
    Reject { name: usize },
    Silence { name: usize },
    Slow { name: usize, latency: Duration },
    Stall { name: usize, lasting: Duration },
}

/// What a message of the program's own is to the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Plain,
    /// The protocol that shares sockets has no way to say it.
    Unspeakable,
}

/// How a reader reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Whatever is there, at once.
    Eager,
    /// Whatever is there, every so often.
    Gulp(Duration),
    /// One item every so often.
    Sip(Duration),
    /// Nothing, until the faults are over.
    Stuck,
}

/// How the server answers a join.
#[derive(Clone, Copy, Debug)]
pub(super) enum Confirm {
    Late(Duration),
    Never,
    Twice,
}

/// How the server answers a dial.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Accept(Duration),
    /// Accepts, and loses the socket at once.
    Flap(Loss),
    Hang,
    Http(u16, Option<u64>),
    Refuse,
}

/// How a socket ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    Close(u16),
    Fin,
    Reset,
    TooLarge,
    Violation,
}

/// More readers than any other step has.
const READERS: usize = 1000;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

impl Program {
    pub(super) fn of(seed: u64) -> Self {
        let mut chance = Chance(SmallRng::seed_from_u64(seed));
        let wire = if chance.once_in(2) { Wire::Direct } else { Wire::Shared };
        let config = chance.config();
        let busy = chance.once_in(3);
        let periods = std::array::from_fn(|_| {
            MS * if busy { chance.between(3, 60) } else { chance.between(50, 1500) }
        });
        let largest = *chance.of(&[12, 40, 200]);
        let steps = chance.between(8, 50);
        let mut next = Numbers::default();
        let program = Self {
            config,
            eager: chance.once_in(3),
            latency: MS * *chance.of(&[0, 1, 5, 40]),
            periods,
            quotes: false,
            rotates: false,
            seed,
            sends: false,
            sizes: (10, largest),
            steps: (0..steps).map(|_| chance.step(&mut next)).collect(),
            tokens: None,
            wire,
        };
        // Chances of its own: the programs without rotations stay what they were.
        let mut chance = Chance(SmallRng::seed_from_u64(seed.rotate_left(32) ^ seed));
        let is_direct = program.wire == Wire::Direct;
        let program = if chance.once_in(3) {
            chance.rotations(program)
        } else if is_direct && chance.once_in(4) {
            chance.silences(program)
        } else {
            program
        };
        // And of their own again, so that the programs that neither send nor renew stay the same.
        let mut chance = Chance(SmallRng::seed_from_u64(seed.rotate_left(16) ^ !seed));
        let sends = chance.once_in(3);
        let program = if sends { chance.sends(program) } else { program };
        let renews = program.rotates && chance.once_in(3);
        if renews { chance.renewals(program) } else { program }
    }

    /// The steps of these numbers alone.
    pub(super) fn only(&self, steps: &[usize]) -> Self {
        // A step left out leaves its time behind, so that those that stay keep their moments.
        let mut kept = Vec::new();
        let mut late = Duration::ZERO;
        for (number, step) in self.steps.iter().enumerate() {
            late += step.after;
            if steps.contains(&number) {
                kept.push(Step { after: std::mem::take(&mut late), op: step.op.clone() });
            }
        }
        Self { steps: kept, ..self.clone() }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { buffer, buffer_bytes, linger, heartbeat, retry, .. } = &self.config;
        writeln!(
            f,
            "{:?}, frames take {:?}, buffer {buffer} and {buffer_bytes} bytes, linger {linger:?}",
            self.wire, self.latency,
        )?;
        writeln!(f, "{heartbeat:?}, {retry:?}")?;
        if self.rotates {
            let (age, timeout) = (self.config.max_age, self.config.handover_timeout);
            let quotes = if self.quotes { "quotes, " } else { "" };
            writeln!(f, "{quotes}max_age {age:?}, handover_timeout {timeout:?}")?;
        }
        if let Some(delay) = self.tokens {
            writeln!(f, "tokens take {delay:?}")?;
        }
        if self.sends {
            let (most, ttl) = (self.config.send_queue, self.config.send_ttl);
            writeln!(f, "send_queue {most}, send_ttl {ttl:?}")?;
        }
        for Step { after, op } in &self.steps {
            writeln!(f, "  +{after:?} {op:?}")?;
        }
        Ok(())
    }
}

/// The numbers that readers and leases were given.
#[derive(Default)]
struct Numbers {
    leases: usize,
    readers: usize,
}

struct Chance(SmallRng);

impl Chance {
    fn once_in(&mut self, n: u32) -> bool {
        self.0.random_range(0..n) == 0
    }

    fn between(&mut self, low: u32, high: u32) -> u32 {
        self.0.random_range(low..=high)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.random_range(0..all.len())]
    }

    fn number(&mut self, below: usize) -> usize {
        self.0.random_range(0..below.max(1))
    }

    fn config(&mut self) -> Config {
        let retry = RetryPolicy {
            base_delay: MS * *self.of(&[100, 400, 1000]),
            first: FirstRetry::Jittered,
            max_attempts: *self.of(&[None, None, Some(0), Some(2), Some(4), Some(10)]),
            max_delay: SECOND * *self.of(&[1, 2, 8]),
            min_delay: MS * *self.of(&[20, 100]),
            reset_after: SECOND * *self.of(&[1, 10]),
        };
        let interval = SECOND * *self.of(&[1, 5, 20]);
        let timeout = MS * *self.of(&[500, 3000]);
        Config::default()
            .buffer(*self.of(&[1, 2, 4, 16, 64, 1024]))
            .buffer_bytes(*self.of(&[30, 100, 400, 4096, 1 << 20]))
            .close_timeout(MS * *self.of(&[200, 2000]))
            .connect_timeout(SECOND * *self.of(&[1, 5]))
            .data_timeout(*self.of(&[None, None, None, Some(SECOND * 4)]))
            .heartbeat(Heartbeat { interval, timeout })
            .join_timeout(SECOND * *self.of(&[1, 5]))
            .linger(MS * *self.of(&[0, 0, 200, 3000]))
            .retry(retry)
            .write_timeout(SECOND * *self.of(&[1, 5]))
    }

    fn step(&mut self, next: &mut Numbers) -> Step {
        let after = match self.number(10) {
            0..3 => Duration::ZERO,
            3..6 => MS * self.between(1, 50),
            6..9 => MS * self.between(50, 3000),
            _ => SECOND * self.between(3, 20),
        };
        let op = if self.once_in(2) { self.call(next) } else { self.fault() };
        Step { after, op }
    }

    fn call(&mut self, next: &mut Numbers) -> Op {
        let name = self.number(NAMES.len());
        match self.number(40) {
            0..20 => {
                next.readers += 1;
                Op::Subscribe { reader: next.readers - 1, name, pace: self.pace() }
            }
            20..28 => Op::Drop { reader: self.number(next.readers) },
            28..32 => {
                next.leases += 1;
                Op::Lease { lease: next.leases - 1, name }
            }
            32..36 => Op::Release { lease: self.number(next.leases) },
            36 => Op::Sweep { idle: MS * self.between(0, 300) },
            37 if self.once_in(4) => Op::Shutdown,
            38 if self.once_in(2) => Op::NewRuntime,
            _ => Op::Drop { reader: self.number(next.readers) },
        }
    }

    /// Has sockets replaced here and there.
    fn rotations(&mut self, mut program: Program) -> Program {
        program.rotates = true;
        program.quotes = program.wire == Wire::Direct && self.once_in(2);
        if program.quotes {
            // Where messages come all the time, this says nothing; see `silences`.
            program.steps.retain(|step| !matches!(step.op, Op::Silence { .. }));
        }
        let config = &mut program.config;
        config.handover_timeout = SECOND * *self.of(&[3, 10]);
        config.max_age = *self.of(&[None, None, Some(SECOND * 2), Some(SECOND * 60)]);
        if !self.once_in(3) {
            config.buffer = config.buffer.max(256);
            config.buffer_bytes = config.buffer_bytes.max(1 << 16);
        }
        for _ in 0..self.between(2, 10) {
            let name = self.number(NAMES.len());
            let at = self.number(program.steps.len() + 1);
            let after = MS * *self.of(&[0, 40, 500, 4000]);
            program.steps.insert(at, Step { after, op: Op::Rotate { name } });
            if self.once_in(2) {
                let op = Op::Slow { name, latency: MS * self.between(0, 900) };
                program.steps.insert(at, Step { after: Duration::ZERO, op });
            }
        }
        program
    }

    /// Has sockets that are to be left die unnoticed, on feeds that say nothing for longer than a
    /// handover takes: what such a socket hides must be told of.
    fn silences(&mut self, mut program: Program) -> Program {
        (program.rotates, program.quotes) = (true, true);
        program.config.handover_timeout = SECOND * 3;
        program.config.buffer = program.config.buffer.max(256);
        program.config.buffer_bytes = program.config.buffer_bytes.max(1 << 16);
        program.periods = std::array::from_fn(|_| MS * self.between(3200, 9000));
        let name = self.number(NAMES.len());
        let op = Op::Subscribe { reader: READERS, name, pace: Pace::Eager };
        for _ in 0..self.between(2, 6) {
            let at = self.number(program.steps.len() + 1);
            let after = MS * self.between(0, 9000);
            program.steps.insert(at, Step { after, op: Op::Rotate { name } });
            let after = MS * self.between(0, 9000);
            program.steps.insert(at, Step { after, op: Op::Silence { name } });
        }
        program.steps.insert(0, Step { after: Duration::ZERO, op });
        program
    }

    /// Has messages of the program's own sent, mostly on names that somebody reads, and now and then
    /// on a socket that takes nothing or is about to break.
    fn sends(&mut self, mut program: Program) -> Program {
        program.sends = true;
        program.config.send_queue = *self.of(&[1, 4, 256]);
        program.config.send_ttl = MS * *self.of(&[200, 5000, 30_000]);
        for _ in 0..self.between(3, 16) {
            let at = self.number(program.steps.len() + 1);
            let name = self.name_in(&program.steps[..at]);
            let (count, form) = (self.between(1, 6) as usize, self.form());
            let mut ops = vec![Op::Send { name, count, form }];
            match self.number(8) {
                0 => ops.insert(0, Op::Stall { name, lasting: MS * self.between(100, 8000) }),
                1 => ops.push(Op::Lose { name: Some(name), how: self.loss() }),
                2 => ops.push(Op::TakeBack { name }),
                3 => ops.push(Op::Send { name, count: 100, form }),
                _ => {}
            }
            let after = MS * *self.of(&[0, 0, 1, 100]);
            let ops = ops.into_iter().map(|op| Step { after, op });
            program.steps.splice(at..at, ops);
        }
        program
    }

    fn form(&mut self) -> Form {
        if self.once_in(10) { Form::Unspeakable } else { Form::Plain }
    }

    /// A name that some step before wanted, if there is one, or any.
    fn name_in(&mut self, before: &[Step]) -> usize {
        let wanted = before.iter().filter_map(|step| match step.op {
            Op::Lease { name, .. } | Op::Subscribe { name, .. } => Some(name),
            _ => None,
        });
        let wanted: Vec<_> = wanted.collect();
        let any = self.number(NAMES.len());
        if wanted.is_empty() || self.once_in(10) { any } else { *self.of(&wanted) }
    }

    /// Has all sockets move to fresh credentials, those of the protocol or tokens of a provider.
    fn renewals(&mut self, mut program: Program) -> Program {
        program.tokens = *self.of(&[None, Some(Duration::ZERO), Some(MS * 300)]);
        program.config.plain_text_credentials = true;
        for _ in 0..self.between(1, 4) {
            let at = self.number(program.steps.len() + 1);
            let after = MS * *self.of(&[0, 40, 500, 4000]);
            program.steps.insert(at, Step { after, op: Op::RenewTokens });
        }
        program
    }

    fn pace(&mut self) -> Pace {
        match self.number(8) {
            0..4 => Pace::Eager,
            4 => Pace::Gulp(MS * self.between(20, 2000)),
            5..7 => Pace::Sip(MS * self.between(1, 500)),
            _ => Pace::Stuck,
        }
    }

    fn fault(&mut self) -> Op {
        let name = self.number(NAMES.len());
        match self.number(24) {
            0..4 => Op::Lose { name: Some(name), how: self.loss() },
            4..6 => Op::Lose { name: None, how: self.loss() },
            6..10 => Op::Dials { answer: self.answer(), count: self.between(1, 4) as usize },
            10..12 => Op::Silence { name },
            12..14 => Op::Stall { name, lasting: MS * self.between(100, 8000) },
            14..17 => Op::Burst { name, count: self.between(2, 150) as usize },
            17 => Op::Ping { name },
            18 => Op::Slow { name, latency: MS * self.between(0, 900) },
            19..21 => Op::Confirm { name, how: self.confirm() },
            21..23 => Op::EndName { name },
            _ => Op::Reject { name },
        }
    }

    fn confirm(&mut self) -> Confirm {
        match self.number(3) {
            0 => Confirm::Late(MS * self.between(10, 7000)),
            1 => Confirm::Never,
            _ => Confirm::Twice,
        }
    }

    fn answer(&mut self) -> Answer {
        match self.number(10) {
            0..2 => Answer::Refuse,
            2 => Answer::Hang,
            3..5 => Answer::Accept(MS * self.between(10, 6000)),
            5 => Answer::Http(503, *self.of(&[None, Some(1), Some(12)])),
            6 => Answer::Http(*self.of(&[429, 418]), *self.of(&[None, Some(2), Some(9)])),
            7 => Answer::Http(*self.of(&[401, 403, 404, 200, 500]), None),
            _ => Answer::Flap(self.loss()),
        }
    }

    fn loss(&mut self) -> Loss {
        const CODES: [u16; 11] = [1000, 1001, 1002, 1008, 1011, 1012, 1013, 3000, 4000, 4403, 4999];
        match self.number(10) {
            0..3 => Loss::Fin,
            3..6 => Loss::Reset,
            6..9 => Loss::Close(*self.of(&CODES)),
            _ => *self.of(&[Loss::TooLarge, Loss::Violation]),
        }
    }
}
