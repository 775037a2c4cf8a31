//! Whether the checks find what they are for: each defect here is one that they must refuse.

use std::fmt::Debug;

use tokio::runtime::Runtime;

use super::footprint::{Drift, Footprint};
use super::session::{self, Fault, Plan};

/// A mistake, made on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    /// A stream that is up brings nothing to its reader.
    HangsUp,
    /// A gap that no break has caused.
    Invents,
    /// A file that stays open.
    LeaksDescriptor,
    /// Some kilobytes for each join.
    LeaksHeap,
    /// Four series for each name.
    LeaksSeries,
    /// A task that does not end.
    LeaksTask,
    /// A message is missing in the accounts.
    Loses,
    /// A lag that is told with a wrong number.
    Miscounts,
    /// A message is there twice.
    Repeats,
}

const TWINS: [(Defect, Fault); 9] = [
    (Defect::LeaksDescriptor, Fault::Descriptors),
    (Defect::LeaksTask, Fault::Tasks),
    (Defect::LeaksHeap, Fault::Heap),
    (Defect::LeaksSeries, Fault::Series),
    (Defect::Loses, Fault::Lost),
    (Defect::Repeats, Fault::Twice),
    (Defect::Invents, Fault::WithoutCause),
    (Defect::Miscounts, Fault::Miscounted),
    (Defect::HangsUp, Fault::Stuck),
];

/// Whether a run without a defect passes, and none with one does.
pub(crate) fn are_refused(client: &Runtime) -> bool {
    let mut before = session::run(client, &Plan::small(None));
    let mut sound = true;
    let sides = TWINS.map(|(defect, fault)| (Some(defect), vec![fault]));
    for (defect, expected) in [(None, Vec::new())].into_iter().chain(sides) {
        let after = session::run(client, &Plan::small(defect));
        let found = session::judge(&before, &after);
        let as_it_should = expected.iter().all(|fault| found.contains(fault))
            && (defect.is_some() || found.is_empty());
        println!("# {}: {}, found {found:?}", name(&defect), word(as_it_should));
        if !as_it_should {
            println!("#   {:?} {:?}", after.counts, Drift::between(&before, &after));
            sound = false;
        }
        // What the twin has leaked is there for good, and the next one's to start from.
        before.left = Footprint::take(client);
    }
    sound
}

fn name(defect: &Option<impl Debug>) -> String {
    defect.as_ref().map_or("a sound run".to_owned(), |defect| format!("{defect:?}"))
}

fn word(as_it_should: bool) -> &'static str {
    if as_it_should { "as it should be" } else { "NOT AS IT SHOULD BE" }
}
