//! The world as `stateright` explores it, and what it must find.
//!
//! Liveness is checked at rest. `stateright` has `eventually` properties, but does not tell whether one held on
//! another way to a state that it has seen before, and takes no cycle for an end, so that it can miss a
//! counterexample. Here no world comes back to where it was: with every step the clock goes on, the item is
//! written, or less is left to do, which is checked at every step ([`Wrong::InCircles`]). A graph without cycles
//! that was explored to its end has only finite ways, and each ends at rest; what must happen in the end is
//! therefore what must hold at rest, an `always` property.

use std::fmt::Write;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::actions::Action;
use crate::bounds::Bounds;
use crate::rules::{self, Wrong};
use crate::story::{describe, stand};
use crate::world::World;

/// Something that must be possible.
pub(crate) type Reached = (&'static str, fn(&Exploration, &World) -> bool);

/// An exploration: its bounds, and what must be possible within them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exploration {
    pub(crate) bounds: Bounds,
    pub(crate) reaches: &'static [Reached],
}

fn never(world: &World, wrongs: &[Wrong]) -> bool {
    world.wrong.is_none_or(|wrong| !wrongs.contains(&wrong))
}

impl Model for Exploration {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(&self.bounds, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.after(&action, &self.bounds)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("I1: the provider holds one booking at most", |_, world| {
                rules::holds_at_most_one(world)
            }),
            Property::<Self>::always(
                "I1: in the end the provider holds what the booking says",
                |_, world| rules::agrees_with_provider(world) && never(world, &[Wrong::EndTakenForYes]),
            ),
            Property::<Self>::always("I2: in the end nothing is pending", |_, world| {
                rules::is_settled(world) && never(world, &[Wrong::Endless])
            }),
            Property::<Self>::always("I2: without delays an operation ends by its deadline", |_, world| {
                rules::ends_by_its_deadline(world)
                    && never(world, &[Wrong::SentTooLate, Wrong::BeyondTheHold])
            }),
            Property::<Self>::always("without delays nothing is forgotten", |_, world| {
                never(world, &[Wrong::Forgotten])
            }),
            Property::<Self>::always("I3: only legal changes, versions without gaps", |_, world| {
                let wrongs = [Wrong::IllegalStatus, Wrong::BrokenHistory, Wrong::RepeatedNumber];
                never(world, &wrongs)
            }),
            Property::<Self>::always("I4: a transition's events are those of its images", |_, world| {
                never(world, &[Wrong::EventsDiffer])
            }),
            Property::<Self>::always("I6: a late yes ends confirmed or compensated", |_, world| {
                rules::late_yes_is_undone(world) && never(world, &[Wrong::LateYesDropped])
            }),
            Property::<Self>::always("an alarm is for what nobody could undo", |model, world| {
                rules::raises_no_false_alarm(world, model.bounds.habits)
            }),
            Property::<Self>::always("who waits is not told that it is pending", |model, world| {
                rules::is_definite_for_who_waits(world, model.bounds.patience)
            }),
            Property::<Self>::always("a compensation ends by its own last attempt", |_, world| {
                never(world, &[Wrong::ForeignReport])
            }),
            Property::<Self>::always("one attempt at a time within its lease", |_, world| {
                never(world, &[Wrong::SecondLease])
            }),
            Property::<Self>::always("nothing is sent again without a look-up", |_, world| {
                never(world, &[Wrong::BlindRepetition])
            }),
            Property::<Self>::always("a compensation waits for the lease", |_, world| {
                never(world, &[Wrong::CompensationUnderLease])
            }),
            Property::<Self>::always("what was surely not sent is not compensated", |_, world| {
                never(world, &[Wrong::NeedlessCompensation])
            }),
            Property::<Self>::always("no world comes back", |_, world| never(world, &[Wrong::InCircles])),
        ];
        let reaches = self.reaches.iter();
        properties.extend(reaches.map(|(name, is_reached)| Property::<Self>::sometimes(name, *is_reached)));
        properties
    }
}

impl Exploration {
    /// Explores all of it. Panics with the shortest story that was found of each property that does not hold, or
    /// if fewer than `at_least` worlds were there.
    pub(crate) fn run(self, name: &str, at_least: usize) {
        let began = Instant::now();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let checker = self.checker().finish_when(HasDiscoveries::AnyFailures).threads(threads);
        let checker = checker.spawn_bfs().join();
        let found = checker.discoveries();
        let (mut broken, mut unseen) = (String::new(), String::new());
        for property in self.properties() {
            match (found.get(property.name), property.expectation.discovery_is_failure()) {
                (Some(path), true) => {
                    let story = self.story(&path.clone().into_vec());
                    write!(broken, "\n{} does not hold:\n{story}", property.name).unwrap();
                }
                (None, false) => write!(unseen, "\nnever seen: {}", property.name).unwrap(),
                (Some(_), false) | (None, true) => {}
            }
        }
        let (worlds, steps) = (checker.unique_state_count(), checker.state_count());
        let depth = checker.max_depth();
        println!("{name}: {worlds} worlds, {steps} steps, {depth} deep, {:.1?}", began.elapsed());
        // An exploration ends with the first story that breaks something.
        assert!(broken.is_empty(), "{name}: {broken}");
        assert!(unseen.is_empty(), "{name}: {unseen}");
        assert!(checker.is_done(), "{name} was not explored to its end");
        assert!(
            worlds >= at_least,
            "{name} has become smaller: {worlds} worlds, at least {at_least} expected"
        );
    }

    fn story(&self, path: &[(World, Option<Action>)]) -> String {
        let mut story = String::new();
        for (world, action) in path {
            let Some(action) = action else { continue };
            if let Some(after) = world.after(action, &self.bounds) {
                writeln!(story, "  {}", describe(world, action, &after, &self.bounds)).unwrap();
            }
        }
        if let Some((last, _)) = path.last() {
            writeln!(story, "{}", stand(last)).unwrap();
        }
        story
    }
}
