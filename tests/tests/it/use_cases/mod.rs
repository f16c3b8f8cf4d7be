//! The use cases of bookings over in-memory ports, in virtual time.
//!
//! [`bench`] holds the ports together and plays the parts of stream, queue and timers; the other modules
//! say what callers and providers have to see. Nothing here knows HTTP or Amazon.

mod afterwards;
mod background;
mod bench;
mod breaker;
mod callbacks;
mod calls;
mod cancel;
mod crashes;
mod create;
mod notifications;
mod operations;
mod replay;
mod simulation;
mod slots;
mod timers;
