//! A value whose changes can be awaited.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// A value behind a lock, and a bell that rings with each change.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    bell: watch::Sender<()>,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), bell: watch::Sender::new(()) }
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = self.quietly(change);
        self.bell.send_replace(());
        result
    }

    /// Waits until `take` finds what it wants. What it takes out wakes nobody.
    pub(crate) async fn until<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut bell = self.bell.subscribe();
        loop {
            if let Some(found) = self.quietly(&mut take) {
                return found;
            }
            // The sender is ours, so it cannot be gone.
            let _ = bell.changed().await;
        }
    }

    fn quietly<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
