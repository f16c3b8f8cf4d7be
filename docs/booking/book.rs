//! Books a slot, whatever happens to the connection, and waits until it is settled. `holdfast-client` does what the
//! programs beside this one spell out.
//!
//! ```sh
//! HOLDFAST_API=http://127.0.0.1:3000 HOLDFAST_KEY=hf_test_consumer_... \
//!     cargo run --package holdfast-client --example book -- \
//!     order-1001 demo-clinic main-street 2028-03-01T09:00:00Z 2028-03-01T09:30:00Z
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that is read as an example"
)]

use std::env::var;

use holdfast_client::{
    ApiKey, Client, CreateBooking, Customer, Error, IdempotencyKey, Limits, PollSchedule, SlotRequest,
};

async fn book(client: &Client, key: &IdempotencyKey, wish: &CreateBooking) -> Result<(), Error> {
    let booking = client.create_booking(key, wish).await?;
    println!("{} is {}", booking.id, booking.status);
    // While it is pending: reads that answer as soon as the booking changes, and later one now and then.
    let booking = client.wait_until_settled(&booking.id, &PollSchedule::default()).await?;
    println!("{} is {}", booking.id, booking.status);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new(&var("HOLDFAST_API")?, &ApiKey::new(var("HOLDFAST_KEY")?)?)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [order, provider, location, start, end] = &arguments[..] else {
        return Err("wanted: an order, a provider, a location, a start and an end".into());
    };
    let mut customer = Customer::new("Ada Lovelace");
    customer.email = Some("ada@example.com".to_owned());
    let slot = SlotRequest::new(location, start.parse()?, end.parse()?);
    let mut wish = CreateBooking::new(provider, slot, customer);
    wish.reference = Some(order.clone());
    wish.limits = Limits::in_background();
    // The key is something that is stored with the order, and so the same after a crash. It is not made up here.
    let key = IdempotencyKey::new(order)?;
    if let Err(error) = book(&client, &key, &wish).await {
        if error.may_have_acted() {
            eprintln!("Run this again with the same order: it books nothing twice.");
        }
        return Err(error.into());
    }
    Ok(())
}
