//! Mistakes made on purpose, so that the checks of the engine can be checked.
//!
//! A check that has never failed proves nothing: each one has a broken twin here that it must
//! reject. In a normal build [`seeded`] is `false` at compile time, and nothing of this is left.

/// A mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    /// A socket that has only read looks at no clock, however late it is.
    CalmForgetsClocks,
    /// A socket that has only read does not look whether there is something to send.
    CalmForgetsPost,
    /// A connection that ended by itself leaves its streams to themselves.
    EndIsKept,
    /// A message whose sender has gone goes back to its place when its socket is lost.
    ForsakenIsKept,
    /// A stream that goes over to another socket tells of a gap, known or not.
    GapAtEveryHandover,
    /// A join after a break tells nobody of it.
    GapIsNotSent,
    /// What the next socket brings again is delivered again.
    HandoverRepeats,
    /// All connections of a manager draw the same delays.
    JitterIsShared,
    /// What a reader lagged over takes the notices in it along.
    LagOverwritesNotice,
    /// A lease that is dropped is not given back.
    LeaseIsLeaked,
    /// A seat is given back by the name of its topic, whichever topic has that name now.
    LeaveByName,
    /// Who waits for a shared call and goes away wakes none of the others.
    LeavesCallAlone,
    /// Names stay where they are, however many sockets they take.
    NamesNeverMove,
    /// A manager that was shut down lets readers in.
    OpenAfterShutdown,
    /// The retries count from 0 again because a socket opened.
    OpeningResetsBackoff,
    /// A reader looks for news and asks to be woken in two steps.
    ParkInTwoSteps,
    /// A stream ends without the reason.
    ReasonIsLost,
    /// A message that equals one that was delivered is taken for it.
    RepeatIsDropped,
    /// A reader takes its place and the message that comes before it in two steps.
    ReplayInTwoSteps,
    /// A message is told to be sent as soon as it was handed to its socket.
    SentBeforeWritten,
    /// A set looks whether a member waits for its turn and asks to be woken in two steps.
    ServeInTwoSteps,
    /// A signal that nobody waits for is lost.
    SignalIsLost,
    /// A stream that is joined again while it lingers stays due.
    SitsOnDueTopic,
    /// A connection dials while an older one of its lane is still closing.
    SocketOverlaps,
    /// Nothing is read while something waits to be written.
    StalledWriteStopsReading,
    /// A source that says nothing is taken for one that has nothing to say.
    SilenceIsTrusted,
    /// A sweeper whose runtime has gone counts as one that runs.
    SweeperDiesWithRuntime,
    /// A host lets in whoever asks while there is room, also before those who wait.
    TurnBarges,
    /// A waiter looks whether it is its turn and asks to be woken in two steps.
    TurnInTwoSteps,
    /// A waiter that goes away keeps its place.
    TurnIsKept,
    /// Whoever is first at a host is not told that there is room.
    TurnWakesNobody,
    /// A message that may have left with a socket that broke goes back to its place.
    UnknownIsSentAgain,
    /// A message is looked for and taken back in two steps.
    WithdrawInTwoSteps,
}

/// Whether the mistake is made.
#[cfg(not(any(test, wsmux_shuttle)))]
#[inline(always)]
pub(crate) const fn seeded(_: Defect) -> bool {
    false
}

#[cfg(any(test, wsmux_shuttle))]
pub(crate) use chosen::seeded;
#[cfg(test)]
pub(crate) use chosen::with;

#[cfg(any(test, wsmux_shuttle))]
mod chosen {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        // A test has a thread of its own, and shuttle runs all threads of a test on that one.
        static CHOSEN: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    pub(crate) fn seeded(defect: Defect) -> bool {
        CHOSEN.get() == Some(defect)
    }

    /// Makes the mistake for as long as `run` runs.
    #[cfg(test)]
    pub(crate) fn with<R>(defect: Option<Defect>, run: impl FnOnce() -> R) -> R {
        CHOSEN.set(defect);
        let result = run();
        CHOSEN.set(None);
        result
    }
}
