//! A world as data: who does what, and what goes wrong. Playing the same plan gives the same world, so that a plan
//! can be made smaller until only what matters is left.

use holdfast_app::test_util::{Deed, Fault, Script};
use holdfast_domain::{ConfirmationMode, OperationKind};
use serde_json::{Value, json};

use crate::timers::Mishap;

/// A world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of identifiers, delays, and which worker a timer rings at.
    pub(crate) seed: u64,
    pub(crate) world: World,
    pub(crate) actors: Vec<ActorPlan>,
    pub(crate) troubles: Vec<Trouble>,
    /// For how long things go wrong, in milliseconds; zero where troubles come once each.
    pub(crate) faults_last_ms: u64,
}

/// What holds in a world all the time.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is on or off for itself")]
pub(crate) struct World {
    pub(crate) confirmation: ConfirmationMode,
    /// The provider fetches what it is told.
    pub(crate) pulls: bool,
    pub(crate) exclusive_slots: bool,
    pub(crate) function_skews_ms: Vec<i64>,
    pub(crate) worker_skews_ms: Vec<i64>,
    /// The provider does not remember a cancel for a booking that it does not know. Clocks that differ, and
    /// requests that are sent after a freeze, need one that does.
    pub(crate) forgets_cancels: bool,
    /// The provider refuses every cancel while things go wrong.
    pub(crate) refuses_cancels: bool,
    /// The provider's protocol has no look-up.
    pub(crate) has_no_look_up: bool,
    /// For how long the provider holds what it books; `None`: it confirms at once.
    pub(crate) hold_ms: Option<u64>,
    /// How long calls take at the most, in milliseconds.
    pub(crate) pace_ms: u64,
}

impl World {
    /// One in which clocks agree and nothing takes time.
    pub(crate) fn usual(confirmation: ConfirmationMode) -> Self {
        Self {
            confirmation,
            pulls: false,
            exclusive_slots: false,
            function_skews_ms: vec![0],
            worker_skews_ms: vec![0, 0],
            forgets_cancels: false,
            refuses_cancels: false,
            has_no_look_up: false,
            hold_ms: None,
            pace_ms: 0,
        }
    }

    pub(crate) fn clocks_agree(&self) -> bool {
        self.function_skews_ms.iter().chain(&self.worker_skews_ms).all(|skew_ms| *skew_ms == 0)
    }

    /// The script, for a provider that holds what it books.
    pub(crate) fn adapt(&self, script: Script) -> Script {
        match (self.hold_ms, script.deed) {
            (Some(hold_ms), Deed::Book) => Script { deed: Deed::Reserve { hold_ms }, ..script },
            _ => script,
        }
    }
}

/// One who acts, one step after the other.
#[derive(Clone, Debug)]
pub(crate) struct ActorPlan {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// A step: something is done, and repeated until there is a definite answer.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// How long after the step before, in milliseconds.
    pub(crate) after_ms: u64,
    pub(crate) act: Act,
    /// How often at the most.
    pub(crate) tries: u32,
    /// How long the process lives, in milliseconds.
    pub(crate) life_ms: u64,
    /// For how long a repetition waits for the first request, in seconds.
    pub(crate) prefer_wait_s: Option<u64>,
    /// Which booking function is asked, and whether it is a new process.
    pub(crate) function: usize,
    pub(crate) is_cold: bool,
    /// Whether what goes wrong is counted from here.
    pub(crate) is_subject: bool,
}

impl Step {
    pub(crate) fn new(after_ms: u64, act: Act) -> Self {
        Self {
            after_ms,
            act,
            tries: 1,
            life_ms: 29_000,
            prefer_wait_s: None,
            function: 0,
            is_cold: false,
            is_subject: false,
        }
    }

    /// The same, tried until there is an answer, and what goes wrong is counted from here. Its process outlives
    /// every freeze.
    pub(crate) fn being_subject(self) -> Self {
        Self { tries: 4, life_ms: 120_000, is_subject: true, ..self }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A consumer books under a key.
    Create { key: u64, wish: Wish },
    /// A consumer changes the booking that it made under a key, under a key of the change's own.
    Change { of: u64, kind: OperationKind, key: u64 },
    /// A consumer has the customer's data erased.
    Erase { of: u64 },
    /// The provider withdraws a booking on its own account.
    Withdraw { of: u64 },
    /// Another consumer tries to see and to cancel it.
    Spy { of: u64 },
    /// The provider fetches what it is told.
    Fetch,
}

/// What a create asks for. Under one key it should always be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wish {
    pub(crate) in_background: bool,
    pub(crate) hold: bool,
    /// The day of March.
    pub(crate) day: u32,
}

impl Wish {
    pub(crate) fn new(in_background: bool) -> Self {
        Self { in_background, hold: false, day: 1 }
    }

    pub(crate) fn start(self) -> String {
        format!("2027-03-{:02}T09:00:00Z", self.day)
    }

    /// The body of the create.
    pub(crate) fn body(self) -> Value {
        json!({
            "provider_id": "clinic",
            "slot": {
                "location_id": "main",
                "start": self.start(),
                "end": format!("2027-03-{:02}T09:30:00Z", self.day),
            },
            "customer": {"name": "Ada Lovelace"},
            "async_confirmation": self.in_background,
            "hold": self.hold,
        })
    }
}

/// The body of a change. One kind and key always have the same. Those under even keys go on in the background.
pub(crate) fn change_body(kind: OperationKind, key: u64) -> Value {
    let mut wish = json!({"async_confirmation": key.is_multiple_of(2)});
    match kind {
        OperationKind::Extend => {
            wish["expires_at"] = json!(format!("2027-01-15T08:{:02}:00Z", 20 + 15 * key));
        }
        OperationKind::Reschedule => wish["slot"] = moved_slot(key),
        OperationKind::Book | OperationKind::Confirm | OperationKind::Cancel => {}
    }
    wish
}

/// The slot that a move under this key asks for.
pub(crate) fn moved_slot(key: u64) -> Value {
    let day = 2 + key;
    json!({
        "location_id": "main",
        "start": format!("2027-03-0{day}T10:00:00Z"),
        "end": format!("2027-03-0{day}T11:00:00Z"),
    })
}

/// Something that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// With this call of a port.
    Call { nth: usize, fault: Fault },
    /// With this request, at the provider.
    Request { nth: usize, script: Script },
    /// With this message in the queue of timers.
    Message { nth: usize, mishap: Mishap },
    /// With this record of the stream.
    Record { nth: usize, fate: Fate },
}

/// What may become of a record of the stream besides being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody can read it, and it is parked.
    Unreadable,
    /// It is given up, and what followed from it never happens by itself.
    GivenUp,
}
