//! What a provider that is told of bookings, rather than asked, has to hear: one message after the other.

use crate::{AttemptError, Phase, Slot, Timestamp};

/// When a booking counts as confirmed. It is frozen in the booking, whatever is configured later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfirmationMode {
    /// When the provider acknowledges it.
    #[default]
    Confirm,
    /// At once; the provider is told.
    Notify,
    /// When the provider lets it through, which books nothing; then it is told.
    RealTime,
}

impl ConfirmationMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Confirm, Self::Notify, Self::RealTime];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Notify => "notify",
            Self::RealTime => "real_time",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    /// Whether the provider is told by notifications, and holds nothing by the attempts of an operation.
    pub fn tells(self) -> bool {
        match self {
            Self::Confirm => false,
            Self::Notify | Self::RealTime => true,
        }
    }
}

/// For how long a provider may leave a notification unfetched, in milliseconds: 72 h. Nor is one sent for
/// longer, whatever the schedule says and however many workers are lost.
pub const FETCH_LIMIT_MS: u64 = 72 * 60 * 60 * 1000;

/// How notifications reach a provider. It is frozen in the booking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NotificationRoute {
    /// Holdfast sends them.
    #[default]
    Push,
    /// The provider fetches them.
    Pull,
}

/// What a provider is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NotificationKind {
    /// There is a booking.
    Booked,
    /// It has moved.
    Moved {
        /// From this slot.
        from: Slot,
    },
    /// It is withdrawn.
    Cancelled,
}

/// One message to a provider. It holds no customer: its body is made from the booking when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// What it says.
    pub kind: NotificationKind,
    /// The booking's slot since the version that it tells of.
    pub slot: Slot,
    /// The version that it tells of.
    pub version: u32,
    /// Its number among the booking's operations, part of the provider's idempotency key.
    pub number: u32,
    /// When it was first due. Its schedule counts from here.
    pub begun_at: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Attempts of the schedule that were not made, because the provider was known to be down.
    pub skipped: u32,
    /// Why the last attempt failed.
    pub last_error: Option<AttemptError>,
    /// What goes on with it now.
    pub phase: Phase,
}

impl Notification {
    /// When it is given up if the provider was not told before.
    pub fn ends_at(&self) -> Timestamp {
        self.begun_at.plus_ms(FETCH_LIMIT_MS)
    }
}

impl NotificationRoute {
    /// Where a notification stands that is first due at `now`: to be sent at once, or waiting to be fetched
    /// until it is given up.
    pub(crate) fn first_phase(self, now: Timestamp) -> Phase {
        match self {
            Self::Push => Phase::Waiting { next_attempt_at: now },
            Self::Pull => Phase::Waiting { next_attempt_at: now.plus_ms(FETCH_LIMIT_MS) },
        }
    }
}
