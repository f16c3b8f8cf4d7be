//! The one gateway to all providers: each is spoken to in its protocol.

use holdfast_app::ports::{
    AttemptReport, AvailabilityCall, AvailabilityFailure, AvailabilityGateway, Clock, CompensationCall,
    CompensationReport, NotificationCall, NotificationReport, ProviderCall, ProviderGateway,
};
use holdfast_app::settings::{Protocol, ProviderSettings};
use holdfast_domain::{Booking, LookUpOutcome, OpenSlot};

use crate::calling::Caller;
use crate::docplanner::Docplanner;
use crate::native::Native;
use crate::octo::Octo;
use crate::open_slots::cannot_be_asked;
use crate::safe_client::SafeClient;

/// Calls providers, each in the protocol that it is configured with.
#[derive(Clone, Debug)]
pub struct ProtocolGateway<C>(Caller<C>);

impl<C: Clock> ProtocolGateway<C> {
    /// A gateway that calls through `client`. `clock` dates signatures and messages, reservations without
    /// an end, and answers that name a time.
    pub fn new(client: SafeClient, clock: C) -> Self {
        Self(Caller::new(client, clock))
    }
}

impl<C: Clock> ProviderGateway for ProtocolGateway<C> {
    async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        match call.provider.protocol {
            Protocol::Holdfast => Box::pin(Native(&self.0).attempt(call)).await,
            Protocol::Docplanner => Box::pin(Docplanner(&self.0).attempt(call)).await,
            Protocol::Octo => Box::pin(Octo(&self.0).attempt(call)).await,
        }
    }

    async fn look_up(&self, provider: &ProviderSettings, booking: &Booking, limit_ms: u64) -> LookUpOutcome {
        match provider.protocol {
            Protocol::Holdfast => Native(&self.0).look_up(provider, booking, limit_ms).await,
            // Its providers cannot be asked.
            Protocol::Docplanner => LookUpOutcome::Unsupported,
            Protocol::Octo => Octo(&self.0).look_up(provider, booking, limit_ms).await,
        }
    }

    async fn compensate(&self, call: CompensationCall<'_>) -> CompensationReport {
        match call.provider.protocol {
            Protocol::Holdfast => Native(&self.0).compensate(call).await,
            Protocol::Docplanner => Docplanner::<C>::compensate(),
            Protocol::Octo => Octo(&self.0).compensate(call).await,
        }
    }

    async fn notify(&self, call: NotificationCall<'_>) -> NotificationReport {
        match call.provider.protocol {
            Protocol::Holdfast => Native(&self.0).notify(call).await,
            Protocol::Docplanner => Docplanner(&self.0).notify(call).await,
            Protocol::Octo => Octo::<C>::notify(),
        }
    }
}

impl<C: Clock> AvailabilityGateway for ProtocolGateway<C> {
    async fn open_slots(&self, call: AvailabilityCall<'_>) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
        if call.provider.pulls() {
            return Err(cannot_be_asked());
        }
        match call.provider.protocol {
            Protocol::Holdfast => Native(&self.0).open_slots(call).await,
            // Its callbacks have no question for it.
            Protocol::Docplanner => Err(cannot_be_asked()),
            Protocol::Octo => Octo(&self.0).open_slots(call).await,
        }
    }
}
