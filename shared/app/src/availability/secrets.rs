//! The secrets of booking keys: made when the first key is shown, and anew each month.

use holdfast_domain::Timestamp;

use super::booking_key::{BOOKING_KEY_SECRET_BYTES, BookingKeySecret};
use crate::ports::{BookingKeySecretStore, Entropy, SettingsReader};
use crate::problem::{Problem, ProblemCode};
use crate::settings_cache::{SettingsCache, configuration_problem};

/// How old a secret gets before another one takes its place, in milliseconds: 30 days. The one before it is
/// kept, so that the keys that it signed stay good for their hours.
const SECRET_LIFE_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// How many secrets are kept.
const KEPT_SECRETS: usize = 2;

/// The secret that keys are signed with now, given those that are known. If it is too old, or there is none,
/// one is made; whoever makes one at the same time makes the same known to all.
pub async fn signing_secret<R>(
    settings: &SettingsCache<R>,
    known: &[BookingKeySecret],
    store: &impl BookingKeySecretStore,
    entropy: &impl Entropy,
    now: Timestamp,
) -> Result<BookingKeySecret, Problem>
where
    R: SettingsReader,
{
    let newest = known.first();
    if let Some(newest) = newest
        && newest.created_at.ms_until(now) < SECRET_LIFE_MS
    {
        return Ok(newest.clone());
    }
    let mut key = [0; BOOKING_KEY_SECRET_BYTES];
    let (left, right) = key.split_at_mut(BOOKING_KEY_SECRET_BYTES / 2);
    left.copy_from_slice(&entropy.bytes16());
    right.copy_from_slice(&entropy.bytes16());
    let seen = newest.map(|newest| newest.id);
    let made = BookingKeySecret { id: seen.map_or(1, |seen| seen.wrapping_add(1)), key, created_at: now };
    let secrets: Vec<BookingKeySecret> =
        [&made].into_iter().chain(known).take(KEPT_SECRETS).cloned().collect();
    let replaced = store.replace_booking_key_secrets(seen, &secrets).await;
    let is_made = replaced.map_err(|error| configuration_problem(&error))?;
    tracing::info!(secret.id = made.id, secret.made = is_made, "Booking keys need a new secret.");
    // Whoever was first decides, and its secret is read back in any case.
    let secrets =
        settings.reload_booking_key_secrets(now).await.map_err(|error| configuration_problem(&error))?;
    secrets.into_iter().next().ok_or_else(|| {
        tracing::error!("There is no secret for booking keys, although one was made.");
        Problem::new(ProblemCode::Internal, "The request could not be completed.")
    })
}
