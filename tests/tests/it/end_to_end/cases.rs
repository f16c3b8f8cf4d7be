//! Cases of harm: one operation at a provider behind a wire of its own, and an ambush for the process that waits for an
//! answer on it.

use futures_util::future::join_all;
use holdfast_domain::{BookingId, Tenant};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::operations::{assert_made, booked, held, wish};
use super::processes::{Frozen, Process};
use super::reply::Reply;
use super::sockets::{Ending, Fault, Gate, Met, Passing, Planned, Wire};
use super::world::{Consumer, Provider, SETTLED, SHORT_MS, World};

/// Every operation that a provider is asked for.
pub(super) const ALL: [&str; 5] = ["book", "confirm", "extend", "reschedule", "cancel"];

/// How many cases are under way at once, of all tests with cases: each has processes of its own that wait.
const MAX_CASES: usize = 8;
static CASES: Semaphore = Semaphore::const_new(MAX_CASES);

/// What is done to the process that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    Kill,
    Freeze,
}

/// What has happened at the other side by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// It has the request and decides when the harm is done.
    Undecided,
    /// It has decided.
    Decided,
}

pub(super) const MOMENTS: [Moment; 2] = [Moment::Undecided, Moment::Decided];

/// A provider behind a wire of its own.
async fn wired(world: &World) -> (Provider<'_>, Wire) {
    let provider = Provider::named(world).await;
    let simulator = &world.stack.provider_simulator_url;
    let (wire, base_url) = Wire::before_url(&format!("{simulator}/providers/{}", provider.id)).await;
    provider.configure(&json!({"base_url": base_url})).await;
    (provider, wire)
}

/// What the request of an operation contains.
pub(super) fn line_of(provider: &Provider<'_>, operation: &str) -> String {
    match operation {
        "book" => format!("POST /providers/{}/bookings HTTP", provider.id),
        other => format!("/{other} HTTP"),
    }
}

/// The identifier that a booking gets under a key.
fn id_under(consumer: &Consumer<'_>, key: &str) -> String {
    let tenant = Tenant::parse(&format!("test:{}", consumer.id)).unwrap();
    BookingId::derived(&tenant, key, 0).as_str().to_owned()
}

/// A fault that holds the answer to one request until the waiting process was harmed.
pub(super) struct Ambush {
    planned: Planned,
    harm: Harm,
    decides: Gate,
    answers: Gate,
}

impl Ambush {
    pub(super) fn at(wire: &Wire, needles: &[&str], moment: Moment, harm: Harm) -> Self {
        let (decides, answers) = (Gate::new(), Gate::new());
        let passing = match moment {
            Moment::Undecided => Passing::Through(decides.clone()),
            Moment::Decided => Passing::AtOnce,
        };
        let planned = wire.plan(needles, 1, Fault { passing, ending: Ending::Held(answers.clone()) });
        Self { planned, harm, decides, answers }
    }

    /// Waits for the request, does harm to who made it, and lets it be decided and answered.
    pub(super) async fn strike(&mut self) -> Option<Frozen> {
        let met = self.planned.met(1, SETTLED).await;
        let frozen = harm(met[0], self.harm).await;
        self.decides.open();
        self.answers.open();
        frozen
    }
}

async fn harm(met: Met, harm: Harm) -> Option<Frozen> {
    // Another test may have killed it for what else it did; it is as dead then.
    let process = Process::connected(met.client, met.proxy)?;
    match harm {
        Harm::Kill => {
            process.kill().await;
            None
        }
        Harm::Freeze => process.freeze().await,
    }
}

/// One operation at a provider of its own.
pub(super) struct Case<'a> {
    pub(super) consumer: &'a Consumer<'a>,
    pub(super) provider: Provider<'a>,
    pub(super) wire: Wire,
    pub(super) operation: &'static str,
    in_background: bool,
    /// The booking that is changed; the one to be made has none yet.
    id: Option<String>,
    body: Value,
    key: String,
    _turn: SemaphorePermit<'static>,
}

impl<'a> Case<'a> {
    pub(super) async fn of(
        world: &'a World,
        consumer: &'a Consumer<'a>,
        operation: &'static str,
        in_background: bool,
    ) -> Self {
        let turn = CASES.acquire().await.unwrap();
        let (provider, wire) = wired(world).await;
        let limits = json!({
            "sync_confirmation_timeout_millisecond": SHORT_MS, "async_confirmation": in_background
        });
        let id = match operation {
            "book" => None,
            "confirm" | "extend" => Some(held(consumer, &provider).await),
            _ => Some(booked(consumer, &provider).await),
        };
        let body = match operation {
            "book" => provider.body(&limits),
            _ => wish(&provider, operation, &limits),
        };
        let key = format!("k-{}", provider.id);
        Self { consumer, provider, wire, operation, in_background, id, body, key, _turn: turn }
    }

    pub(super) fn request(&self) -> RequestBuilder {
        let request = match &self.id {
            None => self.consumer.creating(&self.body),
            Some(id) => self.consumer.operating(id, self.operation, &self.body),
        };
        request.header("idempotency-key", &self.key)
    }

    pub(super) fn booking_id(&self) -> String {
        self.id.clone().unwrap_or_else(|| id_under(self.consumer, &self.key))
    }

    /// Sets a limit of the request, in milliseconds.
    pub(super) fn limit(&mut self, name: &str, limit_ms: u64) {
        self.body[name] = json!(limit_ms);
    }

    pub(super) fn ambush(&self, moment: Moment, harm: Harm) -> Ambush {
        Ambush::at(&self.wire, &[&line_of(&self.provider, self.operation)], moment, harm)
    }

    /// Waits until all is over, and compares everybody's views. `first` is an answer to the request.
    pub(super) async fn settle(&self, first: &Reply) {
        let (consumer, provider, id) = (self.consumer, &self.provider, self.booking_id());
        let booking = consumer.until_settled(&id, SETTLED).await;
        match (self.operation, self.in_background) {
            ("book", _) if booking["status"] == "cancelled" => {
                assert!(!self.in_background, "{booking}");
                consumer.until_cause(&id, "compensated", SETTLED).await;
            }
            ("book", _) => assert_eq!(booking["status"], "confirmed", "{booking}"),
            (operation, true) => assert_made(operation, &self.body, &booking),
            ("cancel", _) => assert_made("cancel", &self.body, &booking),
            // Whoever did not want to wait is told that nobody knows, and it is found out.
            _ => assert!(matches!(booking["status"].as_str(), Some("reserved" | "confirmed")), "{booking}"),
        }
        provider.assert_agrees(consumer, &[&id]).await;
        let keys = provider.calls(self.operation).await;
        assert!(keys.iter().all(|call| call["idempotency_key"] == keys[0]["idempotency_key"]), "{keys:?}");
        Reply::for_good(self.request(), SETTLED).await.assert_same(first);
    }

    /// Whether nobody waits for a move that the provider never heard of. That none is under way is believed after
    /// minutes only; until then the booking is as it was and may be cancelled.
    pub(super) async fn is_a_move_unheard_of(&self) -> bool {
        let is_unwatched_move = self.operation == "reschedule" && !self.in_background;
        is_unwatched_move && self.provider.calls(self.operation).await.is_empty()
    }

    /// Cancels what a change may still be under way for, and compares everybody's views.
    pub(super) async fn call_off(&self, first: &Reply) {
        let (consumer, provider, id) = (self.consumer, &self.provider, self.booking_id());
        let booked = consumer.booking(&id).await;
        assert_ne!(booked["slot"], self.body["slot"], "it moved by itself: {booked}");
        let cancel = consumer.operating(&id, "cancel", &wish(provider, "cancel", &json!({})));
        let answer = Reply::for_good(cancel.header("idempotency-key", "call-off"), SETTLED).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        let booking = consumer.until_settled(&id, SETTLED).await;
        assert_eq!(
            (&booking["status"], &booking["slot"]),
            (&json!("cancelled"), &booked["slot"]),
            "{booking}"
        );
        provider.assert_agrees(consumer, &[&id]).await;
        Reply::for_good(self.request(), SETTLED).await.assert_same(first);
    }
}

pub(super) async fn all_cases<'a>(
    world: &'a World,
    consumer: &'a Consumer<'a>,
    operations: &[&'static str],
    run: impl AsyncFn(Case<'a>, Moment),
) {
    let mut cases = Vec::new();
    for operation in operations {
        cases.extend([(*operation, false, Moment::Undecided), (*operation, true, Moment::Decided)]);
        if *operation == "book" {
            cases.extend([(*operation, false, Moment::Decided), (*operation, true, Moment::Undecided)]);
        }
    }
    join_all(cases.into_iter().map(async |(operation, in_background, moment)| {
        run(Case::of(world, consumer, operation, in_background).await, moment).await;
    }))
    .await;
}
