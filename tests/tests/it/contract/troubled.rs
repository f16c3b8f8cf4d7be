//! The ports in memory fail as the adapters do: the same calls, with the same trouble, have the same results and
//! leave the same behind.
//!
//! Each scenario is a list of calls of one port. It runs on the port in memory, under its plan of faults, and on
//! the adapter, behind a proxy that swallows requests or loses answers. After every call both are read, so that
//! what a simulation over the ports in memory shows is what the tables would have shown.

use holdfast_app::test_util::{
    Fault, Faults, MemoryAvailability, MemoryBookingStore, MemoryDeliveryStore, MemoryFeed, MemoryMailbox,
    MemorySettings,
};
use holdfast_aws::{AwsHooks, DynamoAvailability, DynamoDb, DynamoDeliveryStore, DynamoFeed, DynamoMailbox};

use super::embedded::{AVAILABILITY_TABLE, DELIVERY_TABLE, Embedded, bookings_through, clients_of, entropy};
use super::lossy_proxy::{Trouble, troubled_proxy};
use super::scenarios::{
    Bookings, Breakers, Configuration, Deliveries, Endpoints, Feeds, Limits, Mailboxes, Openings, Scenario,
    Slots, UNAVAILABLE, settings,
};

/// A scenario on the port in memory and on the adapter.
struct Pair<M, D> {
    memory: M,
    plan: Faults,
    dynamodb: D,
    trouble: Trouble,
    _database: Embedded,
}

/// The machine was so busy that a call of the adapter ran into its time limit: nothing was seen.
struct Disturbed;

/// How often what was disturbed is begun anew.
const MAX_TRIES: usize = 10;

fn undisturbed(told: String) -> Result<String, Disturbed> {
    if told.contains("navailable") { Err(Disturbed) } else { Ok(told) }
}

impl<M: Scenario, D: Scenario> Pair<M, D> {
    /// The state after the calls before `place`.
    async fn before(
        place: usize,
        memory: impl Fn(Faults) -> M,
        dynamodb: impl Fn(DynamoDb) -> D,
    ) -> Result<Self, Disturbed> {
        let database = Embedded::start().await;
        let (address, trouble) = troubled_proxy(database.address).await;
        let client = clients_of(address, &AwsHooks::default()).dynamodb;
        let plan = Faults::new();
        let pair = Self {
            memory: memory(plan.clone()),
            plan,
            dynamodb: dynamodb(client),
            trouble,
            _database: database,
        };
        for earlier in 0..place {
            pair.memory.call(earlier).await;
            undisturbed(pair.dynamodb.call(earlier).await)?;
        }
        Ok(pair)
    }

    async fn assert_same_view(&self, when: &str) -> Result<(), Disturbed> {
        assert_eq!(self.memory.view().await, undisturbed(self.dynamodb.view().await)?, "{when}");
        Ok(())
    }

    /// A call without trouble.
    async fn assert_same_call(&self, place: usize, when: &str) -> Result<String, Disturbed> {
        self.trouble.set(Trouble::NONE);
        let (memory, dynamodb) =
            (self.memory.call(place).await, undisturbed(self.dynamodb.call(place).await)?);
        assert_eq!(memory, dynamodb, "call {place}, {when}");
        Ok(memory)
    }

    /// A call that fails before it is done, or after, and the same once more.
    async fn fails(&self, place: usize, fault: Fault) -> Result<(), Disturbed> {
        let is_in_parts = M::IN_PARTS.contains(&place);
        self.plan.on_call(self.plan.calls().len() + 1, fault);
        self.trouble.set(if fault == Fault::FailBefore { Trouble::SWALLOW } else { Trouble::LOSE });
        let (memory, dynamodb) = (self.memory.call(place).await, self.dynamodb.call(place).await);
        self.trouble.set(Trouble::NONE);
        assert_eq!(memory, UNAVAILABLE, "call {place}, {fault:?}");
        let when = format!("call {place}, {fault:?}");
        if !is_in_parts {
            self.assert_same_view(&format!("after {when}")).await?;
        }
        if fault == Fault::FailAfter && is_in_parts && place_adds_up::<M>(place) {
            return Ok(());
        }
        let again = self.assert_same_call(place, &format!("again after {when}")).await?;
        // What did nothing has nothing of which the answer could be lost.
        assert!(
            dynamodb == UNAVAILABLE || fault == Fault::FailAfter && dynamodb == again,
            "{when}: {dynamodb}"
        );
        self.assert_same_view(&format!("again after {when}")).await
    }

    /// A call of which the first answer is lost. The SDK repeats it, and its caller sees no difference.
    async fn loses_an_answer(&self, place: usize) -> Result<(), Disturbed> {
        self.trouble.set(Trouble::LOSE_ONE);
        let (memory, dynamodb) = (self.memory.call(place).await, self.dynamodb.call(place).await);
        self.trouble.set(Trouble::NONE);
        let dynamodb = undisturbed(dynamodb)?;
        if let Some((_, allowed)) = M::UNRECOGNISED.iter().find(|(unrecognised, _)| *unrecognised == place) {
            assert_eq!(dynamodb, *allowed, "call {place}, whose first answer was lost");
            return Ok(());
        }
        assert_eq!(memory, dynamodb, "call {place}, whose first answer was lost");
        self.assert_same_view(&format!("after call {place}, whose first answer was lost")).await
    }
}

/// Whether a call that is made twice has another effect than one that is made once.
fn place_adds_up<S: Scenario>(place: usize) -> bool {
    S::UNRECOGNISED.iter().any(|(unrecognised, _)| *unrecognised == place)
}

/// Goes through all calls, one after the other; where the two may be apart, it begins anew.
async fn each_call<M: Scenario, D: Scenario>(
    before: impl AsyncFn(usize) -> Result<Pair<M, D>, Disturbed>,
    check: impl AsyncFn(&Pair<M, D>, usize) -> Result<(), Disturbed>,
) {
    let mut kept = None;
    let (mut place, mut tries) = (0, 0);
    while place < M::CALLS {
        assert!(tries < MAX_TRIES, "the machine is too busy");
        let pair = match kept.take() {
            Some(pair) => Ok(pair),
            None => before(place).await,
        };
        let checked = match &pair {
            Ok(pair) => check(pair, place).await,
            Err(Disturbed) => Err(Disturbed),
        };
        if checked.is_err() {
            tries += 1;
            continue;
        }
        let is_apart = M::IN_PARTS.contains(&place) || place_adds_up::<M>(place);
        kept = pair.ok().filter(|_| !is_apart);
        place += 1;
    }
}

macro_rules! scenarios {
    ($($name:ident: $memory:expr, $dynamodb:expr;)+) => {
        $(mod $name {
            use super::*;

            async fn before(place: usize) -> Result<Pair<impl Scenario, impl Scenario>, Disturbed> {
                Pair::before(place, $memory, $dynamodb).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_same_calls_have_the_same_results() {
                each_call(before, async |pair, place| {
                    pair.assert_same_call(place, "without trouble").await?;
                    pair.assert_same_view(&format!("after call {place}, without trouble")).await
                })
                .await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_fails_before_it_is_done_is_not_done() {
                each_call(before, async |pair, place| pair.fails(place, Fault::FailBefore).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_fails_after_it_is_done_is_done() {
                each_call(before, async |pair, place| pair.fails(place, Fault::FailAfter).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_write_recognises_itself() {
                each_call(before, async |pair, place| pair.loses_an_answer(place).await).await;
            }
        })+
    };
}

scenarios! {
    bookings: |plan| Bookings(MemoryBookingStore::with_faults(plan)), |client| Bookings(bookings_through(&client));
    slots: |plan| Slots(MemoryBookingStore::with_faults(plan)), |client| Slots(bookings_through(&client));
    breakers: |plan| Breakers(MemorySettings::with_faults(plan)), |client| Breakers(settings(client));
    limits: |plan| Limits(MemorySettings::with_faults(plan)), |client| Limits(settings(client));
    configuration:
        |plan| Configuration(MemorySettings::with_faults(plan)), |client| Configuration(settings(client));
    endpoints: |plan| Endpoints(MemorySettings::with_faults(plan)), |client| Endpoints(settings(client));
    deliveries:
        |plan| Deliveries(MemoryDeliveryStore::with_faults(plan)),
        |client| Deliveries(DynamoDeliveryStore::new(client, DELIVERY_TABLE, entropy()));
    feeds:
        |plan| Feeds(MemoryFeed::with_faults(plan)),
        |client| Feeds(DynamoFeed::new(client, DELIVERY_TABLE, entropy()));
    mailboxes:
        |plan| Mailboxes(MemoryMailbox::with_faults(plan)),
        |client| Mailboxes(DynamoMailbox::new(client, DELIVERY_TABLE, entropy()));
    openings:
        |plan| Openings(MemoryAvailability::with_faults(plan)),
        |client| Openings(DynamoAvailability::new(client, AVAILABILITY_TABLE));
}
