//! A request whose connection fails before it was written.
//!
//! It would wait there until that connection is back, although nothing of it has left and another one
//! could carry it. So it goes to the first that is open and has room. One whose connection has given up
//! altogether waits for that until its deadline, as long as another is open.
//!
//! # Invariants
//!
//! 1. Only what was not written moves: it is taken back, or it stays.
//! 2. It keeps its permit, and has its new place before it gives up the old one. So who waits for a place
//!    waits behind it, and loads are what they are.
//! 3. A connection that opens for the first time is waited for: requests at once are spread over several,
//!    and would all end up on the one that is first.

use std::future::pending;
use std::sync::Arc;

use futures::StreamExt as _;

use super::defect::{Defect, seeded};
use super::lanes::{Berth, Lanes, Place};
use crate::observe::Status;
use crate::stream::StatusStream;

/// Watches the connection of a request.
pub(super) struct Stray {
    /// It failed, or has to wait before it may open, and was not open since.
    is_failing: bool,
    /// `None` once it changes no more.
    own: Option<StatusStream>,
}

impl Stray {
    pub(super) fn of(place: &Place) -> Self {
        Self { is_failing: false, own: Some(place.lease.status_changes()) }
    }

    /// Resolves with a place elsewhere, once the connection of `place` has failed.
    ///
    /// Cancel safe: a place that is not taken is given back.
    pub(super) async fn elsewhere(&mut self, lanes: &Arc<Lanes>, place: &Place) -> Berth {
        if seeded(Defect::StrayStays) {
            return pending().await;
        }
        loop {
            if !self.is_failing {
                self.changed().await;
                continue;
            }
            let mut others = lanes.watch(Some(place));
            let changed = lanes.changed();
            tokio::pin!(changed);
            changed.as_mut().enable(); // Before anybody looks.
            while self.is_failing {
                if let Some(berth) = lanes.berth(Some(place)) {
                    return berth;
                }
                tokio::select! {
                    biased;
                    () = self.changed() => {}
                    () = &mut changed => break,
                    Some(_) = others.next() => {}
                }
            }
        }
    }

    /// Resolves with a place for a request whose own connection has ended, once there is one; with `None`
    /// where no connection is open that could have one.
    ///
    /// Cancel safe: a place that is not taken is given back.
    pub(super) async fn refuge(lanes: &Arc<Lanes>) -> Option<Berth> {
        if seeded(Defect::StrandedEnds) {
            return None;
        }
        loop {
            let mut all = lanes.watch(None);
            let changed = lanes.changed();
            tokio::pin!(changed);
            changed.as_mut().enable(); // Before anybody looks.
            loop {
                if let Some(berth) = lanes.berth(None) {
                    return Some(berth);
                }
                if lanes.stages().0 == 0 {
                    return None;
                }
                tokio::select! {
                    biased;
                    () = &mut changed => break,
                    Some(_) = all.next() => {}
                }
            }
        }
    }

    /// It was written after all, or is about to be: its connection is there.
    pub(super) fn stays(&mut self) {
        self.is_failing = false;
    }

    async fn changed(&mut self) {
        let Some(own) = &mut self.own else { return pending().await };
        match own.next().await {
            Some(
                Status::BackingOff { .. } // Or what an earlier failure has earned; or the host is full.
                | Status::Connecting { attempt: 2.. }
                | Status::Waiting { .. },
            ) => self.is_failing = true,
            Some(Status::Open) => self.is_failing = false,
            Some(_) => {}
            None => self.own = None,
        }
    }
}
