//! Accepting a booking at once, at a provider that is only told of it: one write, answer included.

use holdfast_domain::{Booking, NotificationRoute};

use super::answer::{Asked, RequestName};
use super::attempt::answer_from;
use super::create::{Start, create_record};
use super::{CreateCall, Created, Engine, slot_unavailable_problem};
use crate::availability::SlotWord;
use crate::ports::{BookingStore, BreakerStore, Clock, Entropy, LimitStore, ProviderGateway};
use crate::problem::Problem;
use crate::settings::ProviderSettings;
use crate::stored::StoredBooking;

impl<S, G, B, C, E> Engine<S, G, B, C, E>
where
    S: BookingStore,
    G: ProviderGateway,
    B: BreakerStore + LimitStore,
    C: Clock,
    E: Entropy,
{
    /// Creates a booking that is confirmed as it is made.
    pub(super) async fn accept(
        &self,
        call: &CreateCall<'_>,
        provider: &ProviderSettings,
    ) -> Result<Created, Problem> {
        if call.slot_word == SlotWord::Gone {
            return self.replay_or(call, slot_unavailable_problem()).await;
        }
        let start = self.claim(call, |generation| self.accepted(call, provider, generation)).await;
        match start? {
            Start::Used(seen) => self.replay(call, *seen).await,
            Start::Fresh(seen) => {
                let name = RequestName { path: call.path, request_id: call.request_id };
                let answer = answer_from(&seen.booking, Asked::Create, name, self.clock.now())?;
                tracing::info!(
                    booking.id = %seen.booking.id,
                    provider.id = %provider.provider_id,
                    http.status = answer.status,
                    "A booking is accepted; its provider will be told."
                );
                Ok(Created { booking_id: seen.booking.id, answer, replayed: false })
            }
        }
    }

    fn accepted(
        &self,
        call: &CreateCall<'_>,
        provider: &ProviderSettings,
        generation: u32,
    ) -> Result<StoredBooking, Problem> {
        let route = if provider.pulls() { NotificationRoute::Pull } else { NotificationRoute::Push };
        let booking = Booking::accepted(
            self.new_id(call, generation),
            call.tenant.clone(),
            call.create.request.clone(),
            call.create.slot.clone(),
            route,
            call.received_at,
        );
        let stored = StoredBooking {
            booking,
            create: create_record(call, generation),
            operations: Vec::new(),
            exclusive_slots: provider.exclusive_slots,
            rev: 1,
        };
        let name = RequestName { path: call.path, request_id: call.request_id };
        let answer = answer_from(&stored.booking, Asked::Create, name, self.clock.now())?;
        Ok(stored.freezing(Asked::Create, &answer))
    }
}
