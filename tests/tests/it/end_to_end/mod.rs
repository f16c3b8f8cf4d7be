//! The product as its users meet it: over HTTP, against the template deployed to the local stack.
//!
//! The tests share one stack ([`stack`]) and nothing else: each has consumers, providers and webhook endpoints
//! of its own ([`world`]), which it makes through the API, so that they run side by side and in any order.
//! They wait by looking again until a deadline. Most of their time is waiting, for more than a minute where the
//! contract says so; `.cargo/config.toml` therefore runs many at a time, as far as the machine keeps up
//! ([`pace`]). What the code looks like inside is not their subject, and they say nothing about speed.

mod afterwards;
mod availability;
mod background;
mod breaker;
mod cancel;
mod cases;
mod compensation;
mod create;
mod endpoint_life;
mod examples;
mod feed;
mod history;
mod idempotency;
mod input;
mod killed;
mod list;
mod lost_answers;
mod lost_writes;
mod marked_data;
mod modes;
mod operations;
mod pace;
mod permissions;
mod processes;
mod protection;
mod protocols;
mod provider;
mod provider_sockets;
mod pull;
mod rates;
mod receiver_sockets;
mod repair;
mod replay;
mod reply;
mod runbook;
mod slots;
mod sockets;
mod stack;
mod tenancy;
mod told;
mod webhooks;
mod world;
mod wrap_up;
