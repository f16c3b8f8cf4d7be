//! The use cases of bookings over in-memory ports, in virtual time.
//!
//! The modules say what callers and providers have to see. Nothing here knows HTTP or Amazon.

mod afterwards;
mod background;
mod breaker;
mod callbacks;
mod calls;
mod cancel;
mod crashes;
mod create;
mod notifications;
mod operations;
mod replay;
mod slots;
