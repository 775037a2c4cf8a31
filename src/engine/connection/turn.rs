//! From what is wanted to the right to dial it: the request, and a turn at its host.

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, State, Step};
use crate::engine::limiter::{EXHAUSTED, Permit, Turn, Waiting};
use crate::error::CloseReason;
use crate::observe::Status;
use crate::protocol::Request;
use crate::transport::TransportError;

/// What was found out longer ago is found out anew before it is dialled with.
const AGED: Duration = Duration::from_secs(1);

impl Connection {
    /// What to dial now, and the permit to. After a wait, another name may be wanted, and the token
    /// may have aged: then the request is made anew.
    pub(super) async fn turn(&mut self) -> ControlFlow<Step, (Request, Permit)> {
        let mut held: Option<Permit> = None;
        self.base = self.choose_base();
        self.blames_base = false;
        loop {
            if self.context.members.wanted(Instant::now()).is_empty() {
                held.take().into_iter().for_each(Permit::withdraw); // It may take long.
            }
            let request = match self.next_request().await {
                Continue(request) => request,
                Break(step) => {
                    held.into_iter().for_each(Permit::withdraw);
                    return Break(step);
                }
            };
            let host = request.url().origin();
            match held.take() {
                // A pause that has come meanwhile holds for us too: the handshake has not begun.
                Some(permit)
                    if permit.host() == host && !self.context.tools.limiter.is_paused(&host) =>
                {
                    return Continue((request, permit));
                }
                Some(other) => other.withdraw(),
                None => {}
            }
            let max = self.context.tools.config.limits.handshakes_per_host;
            let asked = Instant::now();
            let mut turn = self.context.tools.limiter.queue(
                host,
                max,
                self.context.tools.transport.is_network(),
            );
            let Some(permit) = self.wait_for(&mut turn).await? else {
                // Who was to go home has nothing to look for anywhere else.
                if std::mem::take(&mut self.goes_home) && self.gives_up_succeeding() {
                    return Break(Break(CloseReason::Unused));
                }
                self.base = self.choose_base();
                continue;
            };
            if asked.elapsed() < AGED {
                return Continue((request, permit));
            }
            held = Some(permit);
        }
    }

    fn choose_base(&self) -> u16 {
        if self.goes_home {
            return self.base;
        }
        self.context.tools.bases.choose(Instant::now())
    }

    /// What is to be dialled, with the names that are wanted and the token that is used now.
    async fn next_request(&mut self) -> ControlFlow<Step, Request> {
        if self.wanted_now().await.is_none() {
            return Break(Break(CloseReason::Unused));
        }
        let attempt = self.backoff.attempt();
        self.announce(Status::Connecting { attempt });
        let asking = self.trust.ask();
        let asked = tokio::select! {
            biased;
            () = self.unwanted() => return Break(Break(CloseReason::Unused)),
            asked = asking => asked,
        };
        match asked {
            Ok(issued) => self.trust.dial_with(issued),
            Err(e) => {
                let step = self.retry(e, None, "cannot connect to").map_continue(State::after);
                return Break(step);
            }
        }
        let Some(names) = self.wanted_now().await else {
            return Break(Break(CloseReason::Unused));
        };
        match self.request(&names, attempt) {
            Ok(request) => Continue(request),
            Err(_) if self.gives_up_succeeding() => Break(Break(CloseReason::Unused)),
            Err(e) => Break(Break(CloseReason::NoRequest(Arc::new(e)))),
        }
    }

    /// Waits for `turn`, and says so. `None` once the base has failed that it is for, and another can be
    /// dialled.
    async fn wait_for(&mut self, turn: &mut Turn) -> ControlFlow<Step, Option<Permit>> {
        let mut is_waiting = false;
        loop {
            let next = tokio::select! {
                biased;
                () = self.unwanted() => return Break(Break(CloseReason::Unused)),
                next = turn.next() => next,
            };
            match next {
                Ok(permit) => {
                    if is_waiting {
                        self.announce(Status::Connecting { attempt: self.backoff.attempt() });
                    }
                    return Continue(Some(permit));
                }
                Err(Waiting { position, until }) => {
                    self.announce(Status::Waiting { position: Some(position), until });
                    is_waiting = true;
                    let (bases, now) = (&self.context.tools.bases, Instant::now());
                    let goes_home = self.goes_home;
                    let elsewhere = goes_home || bases.has_another(self.base, now);
                    if bases.is_passed_over(self.base, now) && elsewhere {
                        return Continue(None);
                    }
                }
            }
        }
    }

    /// A dial failed for want of something that the process has run out of. It reached nobody, and
    /// the next meets the same want: it is no attempt, and nobody dials for a while.
    pub(super) fn exhausted(&mut self, error: TransportError, request: &Request, permit: Permit) {
        permit.withdraw();
        self.context.tools.metrics.exhausted();
        if self.context.tools.limiter.exhausted(self.context.tools.transport.is_network()) {
            tracing::warn!(
                connection = %self.context.link.id, lane = ?self.context.link.lane,
                host = request.url().origin(), reason = error.reason().label(),
                "the process has run out of file descriptors or ports: {}; nobody dials for \
                 {EXHAUSTED:?}. Raise its limits (`ulimit -n`), or open less",
                error.in_full(),
            );
        }
        self.context.members.failed(&Arc::new(error));
    }
}
