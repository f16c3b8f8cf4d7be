//! The example of a receiver of webhooks in Rust. Those in other languages are tried by `check-receiver`.

mod check;

#[path = "../../../../docs/receiving-webhooks/receiver.rs"]
#[allow(dead_code, reason = "its main function is for those who run it")]
mod receiver;

#[tokio::test]
async fn the_example_takes_what_is_signed_and_nothing_else() {
    let app = receiver::receiver(check::SECRET).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    check::check(&url).await.unwrap();
}
