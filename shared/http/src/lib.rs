//! HTTP/1.1 to the outside: one kind of connection, one pool and one body for providers, receivers and Amazon, so that
//! their code is in a program once.
//!
//! A request is sent as it is and once: no redirect is followed, no proxy is taken from the environment, nothing is
//! unpacked. Whom a name may lead to is for a [`Resolver`] to say, and how long an exchange may take for who makes it.

mod client;
mod connecting;
mod once_body;

pub use client::{ClientLimits, HttpClient, SendError, causes};
pub use connecting::{BoxError, Resolver, Resolving, system_names};
pub use once_body::{OnceBody, Receipt, TakenBack};

/// The body of an answer, as it arrives.
pub use hyper::body::Incoming;
