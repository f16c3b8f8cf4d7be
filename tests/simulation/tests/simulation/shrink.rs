//! Making a failing plan smaller, and telling what happens in it.

use crate::plan::{Act, Plan};
use crate::play::{Failure, run};

/// How many smaller plans are tried at the most.
const MAX_TRIES: usize = 3_000;

/// The smallest plan that is found to fail still, by leaving out troubles, actors and steps, and by making the
/// world simpler.
pub(crate) fn shrink(plan: &Plan) -> Plan {
    let mut smallest = plan.clone();
    let mut tries = 0;
    loop {
        let mut candidates = smaller(&smallest).into_iter();
        let next = candidates.find(|candidate| {
            tries += 1;
            tries <= MAX_TRIES && run(candidate, false).is_err()
        });
        match next {
            Some(next) => smallest = next,
            None => return smallest,
        }
    }
}

/// Plans that are a little smaller, the much smaller ones first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut half = plan.troubles.len() / 2;
    while half > 0 {
        for begin in (0..plan.troubles.len()).step_by(half) {
            let mut fewer = plan.clone();
            fewer.troubles.drain(begin..(begin + half).min(plan.troubles.len()));
            plans.push(fewer);
        }
        half /= 2;
    }
    for place in 0..plan.actors.len() {
        let mut fewer = plan.clone();
        fewer.actors.remove(place);
        plans.push(fewer);
    }
    for (place, actor) in plan.actors.iter().enumerate() {
        for step in 0..actor.steps.len() {
            let mut fewer = plan.clone();
            fewer.actors[place].steps.remove(step);
            plans.push(fewer);
        }
    }
    plans.extend(simpler(plan));
    plans
}

fn simpler(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Plan) -> bool| {
        let mut simpler = plan.clone();
        if change(&mut simpler) {
            plans.push(simpler);
        }
    };
    offer(&|plan| std::mem::take(&mut plan.world.pace_ms) > 0);
    offer(&|plan| std::mem::take(&mut plan.world.exclusive_slots));
    offer(&|plan| std::mem::take(&mut plan.world.refuses_cancels));
    offer(&|plan| std::mem::take(&mut plan.world.forgets_cancels));
    offer(&|plan| {
        let skews = std::mem::replace(&mut plan.world.worker_skews_ms, vec![0]);
        skews != [0]
    });
    offer(&|plan| {
        let skews = std::mem::replace(&mut plan.world.function_skews_ms, vec![0]);
        skews != [0]
    });
    for (place, actor) in plan.actors.iter().enumerate() {
        for (nth, step) in actor.steps.iter().enumerate() {
            if step.tries > 1 && !matches!(step.act, Act::Withdraw { .. }) {
                offer(&|plan| {
                    plan.actors[place].steps[nth].tries = 1;
                    true
                });
            }
        }
    }
    plans
}

/// Everything that somebody needs to know of a plan that fails: what did not hold, the smallest plan that shows
/// it, and what happens in that.
pub(crate) fn report(name: &str, plan: &Plan) -> String {
    let smallest = shrink(plan);
    match run(&smallest, true) {
        Err(Failure { message, lines }) => {
            let lines = lines.join("\n");
            format!("{name} fails: {message}\n\nThe smallest plan: {smallest:#?}\n\nWhat happens:\n{lines}\n")
        }
        Ok(_) => format!("{name}: the provider was asked more often than without the race: {plan:#?}"),
    }
}
