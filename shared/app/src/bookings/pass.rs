//! Who may call a provider now: its circuit breaker and its limits, asked together.

use holdfast_domain::{AttemptError, Timestamp};

use super::limits::{Admission, Ticket};
use super::{Engine, Permit};
use crate::metrics::PROVIDER_SHUT;
use crate::ports::{AttemptReport, BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway};
use crate::settings::ProviderSettings;

/// The leave to make one call. It has to be given back by [`Engine::leave`] or [`Engine::leave_unused`].
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) permit: Permit,
    pub(super) ticket: Ticket,
}

/// No call may be made now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shut {
    /// Why.
    pub(super) error: AttemptError,
    /// When it makes sense to ask again.
    pub(super) until: Timestamp,
}

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Asks for the leave to make a call of `limit_ms` milliseconds at the most, on a state that is fresh.
    pub(super) async fn enter(&self, provider: &ProviderSettings, limit_ms: u64) -> Result<Pass, Shut> {
        let provider_id = &provider.provider_id;
        let state = self.breakers.refresh(provider_id, self.clock.now()).await;
        let permit = self.breakers.permit(provider_id, state, self.clock.now(), limit_ms).await;
        if let Permit::Open { until } = permit {
            PROVIDER_SHUT.record(["circuit_open"], 1);
            return Err(Shut { error: AttemptError::CircuitOpen, until });
        }
        let now = self.clock.now();
        let lease_until = now.plus_ms(limit_ms);
        let store = self.breakers.store();
        match self.limits.admit(store, provider, &self.entropy, now, lease_until).await {
            Admission::Admitted(ticket) => Ok(Pass { permit, ticket }),
            Admission::Refused { until } => {
                self.breakers.release(provider_id, permit).await;
                PROVIDER_SHUT.record(["limit_reached"], 1);
                Err(Shut { error: AttemptError::LimitReached, until })
            }
        }
    }

    /// Takes note of what came of an attempt, and gives its place back. Meant to run beside the write that
    /// settles it.
    pub(super) async fn leave(&self, provider: &ProviderSettings, report: &AttemptReport, pass: Pass) {
        let now = self.clock.now();
        tokio::join!(
            self.breakers.record(&provider.provider_id, report, pass.permit, now),
            self.limits.release(self.breakers.store(), &provider.provider_id, pass.ticket),
        );
    }

    /// The same for a call that is no attempt; `error` is `None` if the provider gave a usable answer.
    pub(super) async fn leave_call(
        &self,
        provider: &ProviderSettings,
        error: Option<AttemptError>,
        pass: Pass,
    ) {
        let now = self.clock.now();
        tokio::join!(
            self.breakers.record_call(&provider.provider_id, error, pass.permit, now),
            self.limits.release(self.breakers.store(), &provider.provider_id, pass.ticket),
        );
    }

    /// Gives back the leave for a call that was not made.
    pub(super) async fn leave_unused(&self, provider: &ProviderSettings, pass: Pass) {
        tokio::join!(
            self.breakers.release(&provider.provider_id, pass.permit),
            self.limits.release(self.breakers.store(), &provider.provider_id, pass.ticket),
        );
    }
}
