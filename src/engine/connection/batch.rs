//! How many names one call of a session may have.

use crate::name::StreamName;
use crate::protocol::Limits;

/// What a list adds to a name.
const QUOTED: usize = 4;

/// What is left of the names that one call of a session may have.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: usize,
    is_empty: bool,
    names: usize,
}

impl Batch {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            bytes: limits.batch_bytes.unwrap_or(usize::MAX),
            is_empty: true,
            names: limits.batch.unwrap_or(usize::MAX).max(1),
        }
    }

    /// Whether `name` still fits; one does always.
    pub(super) fn take(&mut self, name: &StreamName) -> bool {
        let bytes = name.as_str().len() + QUOTED;
        if self.names == 0 || (bytes > self.bytes && !self.is_empty) {
            return false;
        }
        (self.bytes, self.names) = (self.bytes.saturating_sub(bytes), self.names - 1);
        self.is_empty = false;
        true
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_names_and_in_bytes_and_has_one_name_at_least() {
        let names = ["a", "bb", "ccc"].map(|name| StreamName::try_from(name).unwrap());
        let taken = |names_at_most, bytes| {
            let limits = Limits::default().batch(names_at_most).batch_bytes(bytes);
            let mut batch = Batch::of(&limits);
            names.iter().take_while(|name| batch.take(name)).count()
        };
        assert_eq!([1, 2, 9].map(|most| taken(most, usize::MAX)), [1, 2, 3]);
        assert_eq!([0, 5, 10, 11, 17, 18].map(|bytes| taken(9, bytes)), [1, 1, 1, 2, 2, 3]);
    }
}
