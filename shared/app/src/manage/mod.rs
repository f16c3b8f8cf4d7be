//! What administrators and consumers configure: consumers, providers, keys and webhook endpoints.
//!
//! Each use case takes the body as JSON and returns the answer's body, so that a secret is shown in
//! exactly one place: where it was made. Who may call what is decided before (the function for HTTP);
//! nothing here talks to providers, and to an endpoint only to try it.

mod check;
mod consumers;
mod endpoints;
mod keys;
mod locations;
mod provider_body;
mod providers;

pub use check::TargetRules;
pub use consumers::{consumer, consumers, delete_consumer, put_consumer};
pub use endpoints::{
    AttemptParameters, attempts, create_endpoint, delete_endpoint, endpoint, endpoints, patch_endpoint,
    replay, rotate_secret, test_endpoint,
};
pub use keys::{MAX_KEYS_PER_OWNER, OwnerKind, create_key, keys, revoke_key};
pub use locations::{delete_location, location, locations, put_location};
pub use providers::{delete_provider, provider, providers, put_provider};

use serde_json::{Value, json};

use crate::problem::{FieldError, Problem, ProblemCode};

/// A list's body. Lists are short, so that one page holds all.
fn list(items: impl Iterator<Item = Value>) -> Value {
    json!({"data": items.collect::<Vec<_>>(), "next_cursor": null})
}

fn not_found(what: &str) -> Problem {
    Problem::new(ProblemCode::NotFound, format!("There is no such {what}."))
}

/// A name in the path that nothing can be made under.
fn unusable_name(error: holdfast_domain::IdError) -> Problem {
    let detail = error.to_string();
    Problem::new(ProblemCode::InvalidParameter, format!("The name in the path {detail}."))
        .with_errors(vec![FieldError::new("id", detail)])
}

#[cfg(test)]
mod tests;
