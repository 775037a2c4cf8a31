//! Sockets that are sent something only when the server is told to, without a thread for each.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::Connection;
use super::frames::{Frame, spin_until};
use crate::common::clock::monotonic;

/// Time between two looks at what the clients have sent.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Crowd(Mutex<Vec<Connection>>);

impl Crowd {
    pub(super) fn add(&self, connection: Connection) {
        self.lock().push(connection);
    }

    /// Answers the clients, for ever.
    #[expect(clippy::disallowed_methods, reason = "no runtime here to be blocked")]
    pub(super) fn keep(&self) {
        loop {
            self.look();
            thread::sleep(LOOK);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "no runtime here to be blocked")]
    pub(super) fn until(&self, count: usize) {
        while self.lock().len() != count {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn cut(&self) {
        for connection in self.lock().drain(..) {
            let _ = connection.tcp().shutdown(Shutdown::Both);
        }
    }

    pub(super) fn pump(&self, hertz: u64, count: u64) {
        let mut connections = self.lock();
        let mut frame = Frame::new(170);
        let started = monotonic();
        let members = connections.len();
        for position in 0..count {
            let due = started + Duration::from_nanos(position * 1_000_000_000 / hertz);
            frame.set_time(due);
            let turn = usize::try_from(position).unwrap_or_default().wrapping_mul(7919);
            spin_until(due);
            // Who has left gets nothing.
            let _ = connections[turn % members].write_all(frame.as_bytes());
        }
    }

    /// Answers what has come, and forgets who has left.
    fn look(&self) {
        let mut connections = self.lock();
        let mut asked: Vec<_> =
            connections.iter().map(|c| PollFd::new(c.tcp(), PollFlags::IN)).collect();
        if !matches!(poll(&mut asked, Some(&Timespec::default())), Ok(1..)) {
            return;
        }
        let spoke: Vec<_> = asked.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut spoke = spoke.into_iter();
        connections.retain_mut(|connection| {
            !spoke.next().unwrap_or_default() || connection.answer().is_ok()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
