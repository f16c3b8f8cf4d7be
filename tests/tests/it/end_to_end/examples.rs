//! The examples of the API's description do what they show.

use holdfast_app::ports::Clock;
use holdfast_lambda::SystemClock;
use reqwest::Method;
use serde_json::{Value, json};

use super::provider::DAY_MS;
use super::reply::Reply;
use super::world::{Consumer, PATIENT_MS, Protocol, Provider, World, merge, text};
use crate::described::description;

/// The day of the examples' slots, and the day before.
const DAY: &str = "2028-03-01";
const DAY_BEFORE: &str = "2028-02-28";

/// An example in place of whose times there are such as can be booked.
fn timely(example: &Value) -> Value {
    let day = |ahead: u64| SystemClock.now().plus_ms(ahead * DAY_MS).to_string()[..DAY.len()].to_owned();
    let text = example.to_string().replace(DAY, &day(20)).replace(DAY_BEFORE, &day(19));
    serde_json::from_str(&text).unwrap()
}

/// Who takes part.
struct Cast<'a> {
    world: &'a World,
    consumer: Consumer<'a>,
    clinic: Provider<'a>,
    clinic_key: String,
    tours: Provider<'a>,
    /// Of a provider that tells by itself what is open.
    practice_key: String,
}

impl Cast<'_> {
    /// A booking at the clinic with these fields, and its id.
    async fn booking(&self, changes: &Value) -> String {
        let reply = self.consumer.create(&self.clinic.body(changes)).await;
        assert!(reply.status < 300, "{reply:?}");
        reply.booking_id().to_owned()
    }

    async fn endpoint(&self) -> String {
        let body = json!({"url": "https://shop.example.com/holdfast"});
        let made = Reply::of(self.consumer.call(Method::POST, "/v1/webhook-endpoints").json(&body)).await;
        assert_eq!(made.status, 201, "{made:?}");
        text(&made.json["id"])
    }

    /// A booking that the clinic has not decided on: the create, or its operation number 2.
    async fn undecided(&self, is_change: bool) -> String {
        let background = json!({"async_confirmation": true, "sync_confirmation_timeout_millisecond": 1_000});
        let undecided = json!({"accept_202": true});
        if !is_change {
            self.clinic.behave(&undecided).await;
            let id = self.booking(&background).await;
            self.clinic.behave(&json!({})).await;
            return id;
        }
        let id = self.booking(&json!({})).await;
        self.clinic.behave(&json!({"accept_202": true, "operations": ["reschedule"]})).await;
        let mut wishes = background;
        merge(&mut wishes, &json!({"slot": self.clinic.slot(3)}));
        let moving = self.consumer.operate(&id, "reschedule", &wishes).await;
        assert_eq!(moving.status, 202, "{moving:?}");
        id
    }

    /// Makes the call of an example.
    async fn call(&self, operation: &str, name: &str, method: Method, path: &str, example: &Value) -> Reply {
        let mut body = timely(example);
        // A busy machine is no silent provider.
        let patient = json!({"sync_confirmation_timeout_millisecond": PATIENT_MS});
        let of_provider = |key: &str, path: &str| self.world.call(method.clone(), path).bearer_auth(key);
        let request = match operation {
            "createBooking" => {
                let provider = if body["provider_id"] == "demo-tours" { &self.tours } else { &self.clinic };
                body["provider_id"] = json!(provider.id);
                merge(&mut body, &patient);
                self.consumer.call(method, path)
            }
            "confirmBooking" | "extendBooking" => {
                merge(&mut body, &patient);
                let id = self.booking(&json!({"hold": true})).await;
                self.consumer.call(method, &path.replace("{id}", &id))
            }
            "cancelBooking" | "rescheduleBooking" => {
                merge(&mut body, &patient);
                let id = self.booking(&json!({})).await;
                self.consumer.call(method, &path.replace("{id}", &id))
            }
            "createWebhookEndpoint" => self.consumer.call(method, path),
            "changeWebhookEndpoint" | "replayDeliveries" => {
                let id = self.endpoint().await;
                self.consumer.call(method, &path.replace("{id}", &id))
            }
            "acknowledgeBooking" => {
                let id = self.undecided(name == "change").await;
                of_provider(&self.clinic_key, &path.replace("{id}", &id))
            }
            "withdrawBooking" | "tellAttendance" => {
                self.clinic.behave(&json!({})).await;
                let id = self.booking(&json!({})).await;
                of_provider(&self.clinic_key, &path.replace("{id}", &id))
            }
            "pushAvailability" => of_provider(&self.practice_key, path),
            "putConsumer" => self.world.admin(method, &path.replace("{id}", "an-example")),
            "putProvider" => self.world.admin(method, &path.replace("{id}", &format!("example-{name}"))),
            "createConsumerKey" => self.world.admin(method, &path.replace("{id}", &self.consumer.id)),
            "createProviderKey" => self.world.admin(method, &path.replace("{id}", &self.clinic.id)),
            "putLocation" => {
                let path = path.replace("{id}", &self.clinic.id).replace("{location_id}", name);
                self.world.admin(method, &path)
            }
            "retryBooking" | "forceCancelBooking" | "emitBookingEventsAgain" => {
                let id = self.booking(&json!({})).await;
                self.world.admin(method, &path.replace("{id}", &id))
            }
            "redriveDeadLetters" => self.world.admin(method, path),
            "emitPeriodAgain" => {
                // A time that is not too long ago, and so short that hardly anything of the others' is told again.
                let now = SystemClock.now();
                merge(&mut body, &json!({"from": now.minus_ms(1_000), "to": now.minus_ms(990)}));
                self.world.admin(method, path)
            }
            other => panic!("nobody makes the call {other}"),
        };
        Reply::of(request.json(&body)).await
    }
}

#[tokio::test]
async fn every_example_of_the_description_is_taken() {
    let world = World::new();
    let (clinic, tours) = (world.provider().await, world.provider_of(Protocol::Octo, &json!({})).await);
    let push = json!({"confirmation": "notify", "availability": "push"});
    let practice = world.provider_of(Protocol::Native, &push).await;
    practice.with_location(&world, "main-street", &json!({})).await;
    let cast = Cast {
        world: &world,
        consumer: world.consumer().await,
        clinic_key: clinic.key().await,
        practice_key: practice.key().await,
        clinic,
        tours,
    };
    let mut taken = 0;
    for (method, path, call) in description().calls() {
        let body = description().resolved(&call["requestBody"]);
        let examples = body["content"]["application/json"]["examples"].as_object();
        for (name, example) in examples.into_iter().flatten() {
            let operation = call["operationId"].as_str().unwrap();
            let method = method.parse().unwrap();
            let reply = cast.call(operation, name, method, &path, &example["value"]).await;
            assert!(reply.status < 300, "{operation}, {name}: {reply:?}");
            taken += 1;
        }
    }
    assert!(taken >= 25, "{taken}");
}
