//! HTTP requests as API Gateway brings them (HTTP API, payload version 2.0), and the answers.
//!
//! [`run`] routes each request to a handler, turns whatever comes of it into an answer, and logs one line.
//! A handler sees no type of Lambda's. Nothing here verifies keys.

mod body;
mod coding;
mod gateway;
mod json;
mod limited;
mod request;
mod response;
mod router;
mod serve;

pub(crate) use gateway::deadline;

pub use body::{MAX_BODY_BYTES, json_body, json_body_up_to};
pub use coding::{Codings, gzip};
pub use limited::limited;
pub use request::Request;
pub use response::Response;
pub use router::{RouteError, Routed, Router};
pub use serve::{run, serve};
