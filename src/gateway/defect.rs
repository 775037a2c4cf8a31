//! Mistakes made on purpose, so that the tests of the gateway can be tested: each has a test that must fail while
//! it is made. In a normal build [`seeded`] is `false` at compile time, and nothing of this is left.

/// A mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Defect {
    /// Whatever `accept` fails by, it is called again at once.
    AcceptSpins,
    /// A token by an algorithm that its key has not is good.
    AlgorithmIsNotCompared,
    /// An answer is read to its end, however far that is.
    #[cfg(feature = "gateway-http")]
    AnswerIsBoundless,
    /// What stands behind a request in chunks is a request.
    ChunksGoOn,
    /// What a token demands of who reads it is passed over.
    CriticalIsPassedOver,
    /// Clients take descriptors while there are any.
    DescriptorsAreNotCounted,
    /// Each user who comes is asked for alone.
    EachIsAskedForAlone,
    /// Where the source of tiers fails, everybody is of the lowest.
    FailureDemotes,
    /// A fetch that fails takes the keys along that were known.
    #[cfg(feature = "gateway-http")]
    FailureForgetsKeys,
    /// Operators are believed without their token.
    GuardSleeps,
    /// Who has ended its direction of the connection is served on.
    HalfIsServed,
    /// What follows the head of a handshake is read as frames, also where it is a body.
    HandshakeHasBody,
    /// Who waits for the keys waits for as long as their server hangs.
    #[cfg(feature = "gateway-http")]
    HangingIsWaitedFor,
    /// Strangers are told the findings.
    HealthTellsAll,
    /// A request may have any number of hosts.
    HostIsNotJudged,
    /// The key of a handshake may be anything.
    KeyIsNotJudged,
    /// What was fetched once is good for ever.
    #[cfg(feature = "gateway-http")]
    KeysStayForEver,
    /// A key that is not known has nothing fetched.
    #[cfg(feature = "gateway-http")]
    NewKeyWaits,
    /// Who is dropped keeps its place.
    PlaceIsKept,
    /// A host is the same whatever its port.
    PortIsNotJudged,
    /// A public key is taken for a secret, where a token says so.
    PublicKeyIsSecret,
    /// A key or a token in the query is as good as in a header.
    QueryIsRead,
    /// Who has signed a token does not matter.
    SignatureIsNotJudged,
    /// Users stay of their tier for as long as the source fails.
    StaleForEver,
    /// An answer counts whatever its status.
    #[cfg(feature = "gateway-http")]
    StatusIsNotJudged,
    /// The store of tickets takes any number.
    StoreIsBoundless,
    /// A ticket that was shown stays good.
    TicketIsKept,
    /// A ticket is good until somebody shows it.
    TicketStaysGood,
    /// Users who are there are not looked up again.
    TierIsKept,
    /// Who was taken along by another's look-up believes that it was asked for.
    TurnIsTrusted,
    /// Anything that is asked is a wish to upgrade.
    UpgradeIsNotJudged,
    /// A user's tickets are bounded as those of all are.
    UserTakesAll,
    /// Any version of the protocol is the one there is.
    VersionIsNotJudged,
}

/// Whether the mistake is made.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn seeded(_: Defect) -> bool {
    false
}

#[cfg(test)]
pub(super) use chosen::{are_found, seeded};

#[cfg(test)]
mod chosen {
    use std::cell::Cell;
    use std::panic::catch_unwind;

    use super::Defect;

    thread_local! {
        // A test has a thread of its own, and its runtime runs on that one.
        static CHOSEN: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    pub(in crate::gateway) fn seeded(defect: Defect) -> bool {
        CHOSEN.get() == Some(defect)
    }

    /// Takes the mistake back, also where `run` has panicked.
    struct Made;

    impl Drop for Made {
        fn drop(&mut self) {
            CHOSEN.set(None);
        }
    }

    /// Makes the mistake for as long as `run` runs.
    fn with<R>(defect: Defect, run: impl FnOnce() -> R) -> R {
        let _made = Made;
        CHOSEN.set(Some(defect));
        run()
    }

    /// Runs tests as they are, each with a mistake that it must fail by.
    pub(in crate::gateway) fn are_found(twins: &[(Defect, fn())]) {
        for (defect, test) in twins {
            let passed = catch_unwind(|| with(*defect, test)).is_ok();
            assert!(!passed, "the test beside it does not find {defect:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_by_a_place_that_is_kept() {
        assert!(!seeded(Defect::PlaceIsKept));
    }

    #[test]
    fn a_mistake_is_made_for_one_test_and_must_be_found() {
        are_found(&[(Defect::PlaceIsKept, fails_by_a_place_that_is_kept)]);
        fails_by_a_place_that_is_kept();
        let missed = std::panic::catch_unwind(|| {
            are_found(&[(Defect::QueryIsRead, fails_by_a_place_that_is_kept)]);
        });
        assert!(missed.is_err());
    }
}
