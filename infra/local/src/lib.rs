//! The local stack: everything of Holdfast on one machine, as it is deployed.
//!
//! The program `cargo local` ([`stack`]) runs the deployment on an AWS emulator; beside it stand a scriptable
//! provider ([`simulator`]) and a receiver of webhooks ([`inbox`]). Tests start the program and find their
//! way by [`stack_file`]. Nothing here is part of a deployment on AWS.

mod clock;
mod help;
pub mod inbox;
mod signature;
pub mod simulator;
pub mod stack;
pub mod stack_file;
