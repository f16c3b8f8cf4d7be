//! Deliveries in virtual time, over ports in memory.

mod at_least_once;
mod health;
mod lanes;
mod measured;
mod replays;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_domain::{ConsumerId, Mode};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::ports::{OutgoingEvent, PostOutcome, WebhookPost};
use crate::test_util::{
    Fault, Faults, MemoryBus, MemoryDeliveries, MemoryDeliveryStore, MemorySettings, SeededEntropy, TestClock,
};

const BODY: &str = "{\"id\":  \"evt\",\"n\":1.0}";

/// After so long a function is stopped, in milliseconds.
const FUNCTION_LIMIT_MS: u64 = 60_000;

/// After so long a message comes again that nobody was done with, in milliseconds.
const VISIBILITY_MS: u64 = 360_000;

/// Random numbers.
#[derive(Clone)]
enum Dice {
    /// Always this one.
    Drawn(u64),
    Seeded(SeededEntropy),
}

impl Entropy for Dice {
    fn bytes16(&self) -> [u8; 16] {
        match self {
            Self::Drawn(number) => u128::from(*number).rotate_left(64).to_be_bytes(),
            Self::Seeded(entropy) => entropy.bytes16(),
        }
    }
}

/// The middle of the jitter: delays are exactly the schedule's.
const MIDDLE: Dice = Dice::Drawn(JITTER_PERMILLE);

enum Reply {
    At(PostOutcome),
    After(Duration, PostOutcome),
    /// It never comes.
    Never,
}

/// Endpoints that answer as told, and 200 when nothing more is told.
#[derive(Clone, Default)]
struct Receivers {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    posts: Arc<Mutex<Vec<(String, String, String)>>>,
    /// The secrets that each post was signed with.
    secrets: Arc<Mutex<Vec<Vec<String>>>>,
    /// Which of them answers so, and how often still.
    failing: Arc<Mutex<Option<(String, u16, usize)>>>,
    /// Which of them never answers.
    hung: Arc<Mutex<Option<String>>>,
}

impl Receivers {
    fn will_answer(&self, replies: impl IntoIterator<Item = Reply>) {
        self.replies.lock().unwrap().extend(replies);
    }

    fn posts(&self) -> Vec<(String, String, String)> {
        self.posts.lock().unwrap().clone()
    }
}

impl WebhookSender for Receivers {
    async fn post(&self, post: WebhookPost<'_>) -> PostOutcome {
        let received = (post.url.to_owned(), post.message_id.to_owned(), post.body.to_owned());
        self.posts.lock().unwrap().push(received);
        let secrets = post.secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect();
        self.secrets.lock().unwrap().push(secrets);
        if let Some((url, code, left)) = &mut *self.failing.lock().unwrap()
            && url == post.url
            && *left > 0
        {
            *left -= 1;
            return status(*code);
        }
        let is_hung = self.hung.lock().unwrap().as_deref() == Some(post.url);
        if is_hung {
            std::future::pending::<()>().await;
        }
        let reply = self.replies.lock().unwrap().pop_front();
        match reply {
            None => status(200),
            Some(Reply::At(outcome)) => outcome,
            Some(Reply::After(wait, outcome)) => {
                sleep(wait).await;
                outcome
            }
            Some(Reply::Never) => std::future::pending().await,
        }
    }
}

type TestDeliveries =
    Deliveries<MemorySettings, MemoryDeliveryStore, MemoryDeliveries, Receivers, MemoryBus, TestClock, Dice>;

struct World {
    deliveries: TestDeliveries,
    receivers: Receivers,
    faults: Faults,
    begun: Instant,
}

impl World {
    fn new(endpoints: impl IntoIterator<Item = WebhookEndpoint>) -> Self {
        let (faults, receivers) = (Faults::new(), Receivers::default());
        let settings = MemorySettings::with_faults(faults.clone());
        for endpoint in endpoints {
            settings.add_endpoint(endpoint);
        }
        let deliveries = Deliveries {
            endpoints: settings,
            store: MemoryDeliveryStore::with_faults(faults.clone()),
            queue: MemoryDeliveries::with_faults(faults.clone()),
            sender: receivers.clone(),
            bus: MemoryBus::with_faults(faults.clone()),
            clock: TestClock::starting_at(Timestamp::EPOCH.plus_ms(1_000_000)),
            entropy: MIDDLE,
        };
        Self { deliveries, receivers, faults, begun: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        self.deliveries.clock.now()
    }

    fn item(&self) -> Delivery {
        self.deliveries.store.items().remove(0)
    }

    async fn endpoint(&self, number: u8) -> WebhookEndpoint {
        self.deliveries.endpoints.endpoint(&tenant(), &endpoint(number).id).await.unwrap().unwrap()
    }

    /// The events that were published so far.
    fn published(&self) -> Vec<OutgoingEvent> {
        self.deliveries.bus.events()
    }

    async fn fan_out(&self) {
        self.deliveries.fan_out(&event()).await.unwrap();
    }

    /// Takes the only hint that can be received now.
    fn hint(&self) -> (DeliveryHint, Lane) {
        let [(hint, lane)] = self.hints().try_into().unwrap();
        (hint, lane)
    }

    fn hints(&self) -> Vec<(DeliveryHint, Lane)> {
        let queue = &self.deliveries.queue;
        let of =
            |lane| queue.receive(lane == Lane::Slow, self.now()).into_iter().map(move |hint| (hint, lane));
        of(Lane::Quick).chain(of(Lane::Slow)).collect()
    }

    /// Receives hints until there are none, as the queues would have it: what fails comes again. Returns
    /// when each attempt or end was, in seconds since the beginning, and what it came to.
    async fn run(&self) -> Vec<(u64, HintOutcome)> {
        let (mut outcomes, mut invisible) = (Vec::new(), Vec::<(Timestamp, DeliveryHint, Lane)>::new());
        loop {
            let visible_at = invisible.iter().map(|(at, _, _)| *at).min();
            let Some(next_at) = visible_at.into_iter().chain(self.deliveries.queue.next_at()).min() else {
                return outcomes;
            };
            sleep(Duration::from_millis(self.now().ms_until(next_at))).await;
            let now = self.now();
            for replay in self.deliveries.queue.receive_replays(now) {
                self.deliveries.replay(&replay).await.unwrap();
            }
            let mut received = self.hints();
            let visible = invisible.extract_if(.., |(at, _, _)| *at <= now);
            received.extend(visible.map(|(_, hint, lane)| (hint, lane)));
            for (hint, lane) in received {
                let limit = Duration::from_millis(FUNCTION_LIMIT_MS);
                match timeout(limit, self.deliveries.deliver(&hint, lane)).await {
                    Ok(Ok(HintOutcome::PassedOn)) => {}
                    Ok(Ok(outcome)) => outcomes.push((self.begun.elapsed().as_secs(), outcome)),
                    Ok(Err(_)) | Err(_) => invisible.push((now.plus_ms(VISIBILITY_MS), hint, lane)),
                }
            }
        }
    }

    /// Takes the event in as its queue would have it.
    async fn fan_out_until_done(&self) {
        let limit = Duration::from_millis(FUNCTION_LIMIT_MS);
        while !matches!(timeout(limit, self.deliveries.fan_out(&event())).await, Ok(Ok(_))) {
            sleep(Duration::from_millis(VISIBILITY_MS)).await;
        }
    }
}

fn status(status: u16) -> PostOutcome {
    PostOutcome::Answered { status, retry_after_ms: None, body: String::new() }
}

fn replies(outcome: &PostOutcome, count: usize) -> impl Iterator<Item = Reply> {
    std::iter::repeat_n(outcome.clone(), count).map(Reply::At)
}

fn tenant() -> Tenant {
    Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Live }
}

fn event() -> IncomingEvent {
    IncomingEvent {
        tenant: tenant(),
        id: EventId::from_bytes([9; 16]),
        event_type: "booking.confirmed".to_owned(),
        about_booking: None,
        about_endpoint: None,
        body: BODY.to_owned(),
    }
}

fn other_event() -> IncomingEvent {
    IncomingEvent { id: EventId::from_bytes([8; 16]), ..event() }
}

fn endpoint(number: u8) -> WebhookEndpoint {
    let id = WebhookEndpointId::from_bytes([number; 16]);
    let url = format!("https://{number}.example");
    WebhookEndpoint::new(id, tenant(), url, "whsec_".into(), Timestamp::EPOCH)
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_to_every_endpoint_that_wants_it_with_its_very_bytes() {
    let mut unwilling = endpoint(2);
    unwilling.event_types = vec!["booking.cancelled".to_owned()];
    let mut willing = endpoint(3);
    willing.event_types = vec!["booking.confirmed".to_owned()];
    let mut disabled = endpoint(4);
    disabled.enabled = false;
    let mut foreign = endpoint(5);
    foreign.tenant.mode = Mode::Test;
    let world = World::new([endpoint(1), unwilling, willing, disabled, foreign]);
    assert_eq!(world.deliveries.fan_out(&event()).await, Ok(2));
    assert_eq!(world.run().await, [(0, HintOutcome::Delivered), (0, HintOutcome::Delivered)]);
    let mut posts = world.receivers.posts();
    posts.sort();
    let post = |url: &str| (url.to_owned(), event().id.to_string(), BODY.to_owned());
    assert_eq!(posts, [post("https://1.example"), post("https://3.example")]);
}

#[tokio::test(start_paused = true)]
async fn failures_follow_the_schedule_until_it_is_used_up() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer(replies(&status(500), 8));
    world.fan_out().await;
    let outcomes = world.run().await;
    let times: Vec<u64> = outcomes.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 99_305]);
    assert_eq!(outcomes.last().unwrap().1, HintOutcome::Exhausted);
    let item = world.item();
    assert_eq!((item.attempts, item.last_error.as_deref()), (8, Some("http_500")));
    assert!(matches!(item.state, DeliveryState::Exhausted { .. }));
}

#[tokio::test(start_paused = true)]
async fn every_answer_but_2xx_is_a_failure() {
    for outcome in [
        status(199),
        status(301),
        status(404),
        status(500),
        PostOutcome::ConnectionFailed,
        PostOutcome::TargetRefused,
    ] {
        let world = World::new([endpoint(1)]);
        world.receivers.will_answer(replies(&outcome, 1));
        world.fan_out().await;
        assert_eq!(world.run().await, [(0, HintOutcome::Failed), (5, HintOutcome::Delivered)], "{outcome:?}");
        assert_eq!(world.item().last_error, None);
    }
}

#[tokio::test(start_paused = true)]
async fn only_429_and_503_put_the_next_attempt_off() {
    for (status, retry_after_ms, next_at) in
        [(429, 60_000, 60), (503, 60_000, 60), (503, 1_000, 5), (500, 60_000, 5)]
    {
        let world = World::new([endpoint(1)]);
        let body = String::new();
        let busy = PostOutcome::Answered { status, retry_after_ms: Some(retry_after_ms), body };
        world.receivers.will_answer(replies(&busy, 1));
        world.fan_out().await;
        assert_eq!(world.run().await.last(), Some(&(next_at, HintOutcome::Delivered)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_410_disables_the_endpoint_and_ends_its_other_deliveries() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer(replies(&status(410), 1));
    world.fan_out().await;
    world.deliveries.fan_out(&other_event()).await.unwrap();
    assert_eq!(world.run().await, [(0, HintOutcome::Exhausted), (0, HintOutcome::Exhausted)]);
    assert_eq!(world.receivers.posts().len(), 1);
    assert!(!world.endpoint(1).await.enabled);
    assert_eq!(world.deliveries.fan_out(&event()).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn duplicates_do_nothing() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer([Reply::After(Duration::from_secs(2), status(200))]);
    world.fan_out().await;
    world.fan_out().await;
    let hints = world.hints();
    let [(first, _), (second, _)] = hints.as_slice() else { panic!("one hint for each arrival") };
    let (first, second) = tokio::join!(
        world.deliveries.deliver(first, Lane::Quick),
        world.deliveries.deliver(second, Lane::Quick)
    );
    // The loser finds the winner at work and comes back when the lease is over.
    let outcomes = [first.unwrap(), second.unwrap()];
    assert!(outcomes.contains(&HintOutcome::Delivered) && outcomes.contains(&HintOutcome::PassedOn));
    assert_eq!(world.run().await, [(25, HintOutcome::Nothing)]);
    world.fan_out().await;
    assert_eq!(world.run().await, []);
    assert_eq!(world.receivers.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_worker_is_replaced_when_its_lease_is_over() {
    let mut once = endpoint(1);
    once.retry_schedule_seconds = vec![0];
    let world = World::new([once]);
    world.fan_out().await;
    let (hint, lane) = world.hint();
    for lost in 1..=2 {
        world.receivers.will_answer([Reply::Never]);
        let worker = timeout(Duration::from_millis(100), world.deliveries.deliver(&hint, lane));
        assert!(worker.await.is_err());
        assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::PassedOn));
        assert_eq!(world.item().attempts, lost);
        sleep(Duration::from_millis(POST_LIMIT_MS + LEASE_GRACE_MS)).await;
    }
    // The second took the place of the first; there is no third.
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::Exhausted));
    assert_eq!(world.item().last_error.as_deref(), Some("worker_lost"));
    assert_eq!(world.receivers.posts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_past_its_lease_posts_nothing() {
    let world = World::new([endpoint(1)]);
    world.fan_out().await;
    let (hint, lane) = world.hint();
    // The claim is written at once, and its answer comes when the lease is long over.
    world.faults.next("deliveries.replace", Fault::DelayAfter(POST_LIMIT_MS + LEASE_GRACE_MS + 1));
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::PassedOn));
    assert_eq!(world.receivers.posts().len(), 0);
    assert_eq!(world.run().await, [(25, HintOutcome::Delivered)]);
}

#[tokio::test(start_paused = true)]
async fn success_is_written_down_although_another_worker_took_over() {
    let world = World::new([endpoint(1)]);
    world.fan_out().await;
    let (hint, lane) = world.hint();
    let seen = world.item();
    let claimed =
        Delivery { attempts: 1, ..next(&seen, DeliveryState::InFlight { lease_until: world.now() }) };
    world.deliveries.store.replace(1, &claimed).await.unwrap();
    // The second worker fails and waits; the first, thawed, reports its success.
    world.receivers.will_answer(replies(&status(500), 1));
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::Failed));
    let recorded = world.deliveries.record_delivered(claimed, world.now()).await;
    assert_eq!(recorded, Ok(HintOutcome::Delivered));
    assert!(matches!(world.item().state, DeliveryState::Delivered { .. }));
    assert_eq!(world.run().await, [(300, HintOutcome::Nothing)]);
    assert_eq!(world.receivers.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_nothing_and_what_is_malformed_an_error() {
    let world = World::new([endpoint(1)]);
    world.fan_out().await;
    let (mut hint, lane) = world.hint();
    world.deliveries.endpoints.delete_endpoint(&tenant(), &endpoint(1).id).await.unwrap();
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::Exhausted));
    hint.event_id = EventId::from_bytes([1; 16]).to_string();
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Ok(HintOutcome::Nothing));
    hint.tenant = "nobody".to_owned();
    assert_eq!(world.deliveries.deliver(&hint, lane).await, Err(DeliveryError::Malformed));
}

#[tokio::test(start_paused = true)]
async fn delays_stay_within_a_fifth_of_the_schedule() {
    let delay = |drawn: u64| {
        let mut deliveries = World::new([]).deliveries;
        deliveries.entropy = Dice::Drawn(drawn);
        deliveries.delay_before_ms(&endpoint(1), 2)
    };
    assert_eq!(delay(0), Some(240_000));
    assert_eq!(delay(400), Some(360_000));
    assert_eq!(delay(401), Some(240_000));
}

#[tokio::test(start_paused = true)]
async fn the_futures_may_move_between_threads() {
    fn sendable<T: Send>(future: T) -> T {
        future
    }
    let world = World::new([endpoint(1)]);
    assert_eq!(sendable(world.deliveries.fan_out(&event())).await, Ok(1));
    let (hint, lane) = world.hint();
    assert_eq!(sendable(world.deliveries.deliver(&hint, lane)).await, Ok(HintOutcome::Delivered));
}

#[test]
fn an_endpoint_is_slow_until_its_time_is_over() {
    let at = |ms| Timestamp::EPOCH.plus_ms(ms);
    let speed = crate::webhook::Speed { slow_until: Some(at(10)), hung_until: None };
    let slow = WebhookEndpoint { speed, ..endpoint(1) };
    assert_eq!([9, 10, 11].map(|ms| Lane::of(&slow, at(ms))), [Lane::Slow, Lane::Quick, Lane::Quick]);
    assert_eq!(Lane::of(&endpoint(1), at(0)), Lane::Quick);
}

#[test]
fn who_takes_nothing_is_told_apart_from_who_is_gone() {
    assert_eq!(refusal(Some(&endpoint(1))), "endpoint_disabled");
    assert_eq!(refusal(None), "endpoint_gone");
}
