//! Mistakes made on purpose, so that the checks of the pool can be checked: each has a check that must
//! reject it, in `tests/wings/`. In a normal build [`seeded`] is `false` at compile time.

/// A mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    /// All of a batch is in flight at once.
    BatchIsOneGroup,
    /// A request goes on for as long as its server likes.
    DeadlineIsForgotten,
    /// A request that failed is none of those that a batch says failed.
    FailureIsNotCounted,
    /// Who asks what is being asked asks again.
    #[cfg(feature = "cache")]
    FlightsAreAlone,
    /// The first connection gets all requests.
    LoadIsIgnored,
    /// What is kept is as young as it was.
    #[cfg(feature = "cache")]
    OldIsGiven,
    /// A request that was lost and then not written counts as one that was never written.
    LossIsForgotten,
    /// A request that has moved counts where it was.
    MoveIsNotCounted,
    /// A request that may be made again is not.
    NothingIsResent,
    /// In the order of the requests is in the order of the replies.
    OrderIsLost,
    /// A request that has ended keeps its place.
    PlaceIsKept,
    /// The server's own refusal is covered by what it said before.
    #[cfg(feature = "cache")]
    RefusalIsCovered,
    /// What the server refused is asked again.
    RefusedIsResent,
    /// What is kept is better than none however old it is.
    #[cfg(feature = "cache")]
    StaleForEver,
    /// A request ends with its connection, whichever others are open.
    StrandedEnds,
    /// A request waits for its own connection, whichever others are open.
    StrayStays,
    /// A request that may be made once is made again.
    UnknownIsResent,
    /// A request whose connection has it is made elsewhere as well.
    WrittenMoves,
    /// What is kept weighs nothing.
    #[cfg(feature = "cache")]
    WeightIsIgnored,
}

/// Whether the mistake is made.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn seeded(_: Defect) -> bool {
    false
}

#[cfg(test)]
pub(super) use chosen::seeded;
#[cfg(test)]
pub(crate) use chosen::with;

#[cfg(test)]
mod chosen {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        // A test has a thread of its own, and its runtime runs on that one.
        static CHOSEN: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    pub(crate) fn seeded(defect: Defect) -> bool {
        CHOSEN.get() == Some(defect)
    }

    /// Makes the mistake for as long as `run` runs.
    pub(crate) fn with<R>(defect: Option<Defect>, run: impl FnOnce() -> R) -> R {
        CHOSEN.set(defect);
        let result = run();
        CHOSEN.set(None);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_made_while_it_is_asked_for_and_no_other() {
        assert!(!seeded(Defect::PlaceIsKept));
        with(Some(Defect::PlaceIsKept), || {
            assert!(seeded(Defect::PlaceIsKept) && !seeded(Defect::OrderIsLost));
        });
        assert!(!seeded(Defect::PlaceIsKept));
    }
}
