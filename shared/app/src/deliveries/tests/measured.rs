//! What is measured of deliveries.

use crate::metrics::{Recorded, Sample, collected};

use super::*;

fn of<'a>(samples: &'a [Sample], name: &str) -> Vec<(Vec<&'a str>, u64)> {
    let of_name = samples.iter().filter(|sample| sample.metric().name == name);
    of_name.map(|sample| (sample.dimensions().map(|(_, value)| value).collect(), sample.value())).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_s_way_is_measured_from_when_it_happened_and_names_its_booking() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer(replies(&status(503), 1));
    let (happened_at, booking) = (world.now().minus_ms(700), BookingId::from_bytes([5; 16]));
    let body = format!(r#"{{"timestamp":"{happened_at}","data":{{"id":"{booking}"}}}}"#);
    world.deliveries.fan_out(&IncomingEvent { body, ..event() }).await.unwrap();
    let (outcomes, Recorded { samples, bookings, .. }) = collected(world.run()).await;
    assert_eq!(outcomes.last().unwrap().1, HintOutcome::Delivered);
    let attempts: Vec<_> = of(&samples, "DeliveryTime").into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(attempts, [["http_5xx"], ["delivered"]]);
    let lags = of(&samples, "DeliveryLag");
    assert_eq!(lags, [(Vec::new(), happened_at.ms_until(world.now()))]);
    assert_eq!(bookings, [booking]);
    assert!(of(&samples, "DeliveriesExhausted").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_counted_once() {
    let world = World::new([endpoint(1)]);
    world.receivers.will_answer(replies(&status(500), 100));
    world.deliveries.fan_out(&event()).await.unwrap();
    let (_, Recorded { samples, .. }) = collected(world.run()).await;
    assert_eq!(of(&samples, "DeliveriesExhausted"), [(Vec::new(), 1)]);
    assert!(of(&samples, "DeliveryLag").is_empty(), "nothing was delivered");
}
