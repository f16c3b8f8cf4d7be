//! From an item to its booking.

use holdfast_app::stored::{
    CreateRecord, Fingerprint, FrozenResponse, OperationKey, OperationRecord, StoredBooking,
};
use holdfast_domain::{
    AttemptError, Booking, BookingId, BookingRequest, Cancellation, CancellationReason, Change, Compensation,
    CompensationRun, ConfirmationMode, Customer, HistoryEntry, Notification, NotificationKind,
    NotificationRoute, Operation, OperationKind, Overtaken, Patience, Personal, Phase, ProviderId, Refusal,
    RefusalReason, Rejection, Slot, State, Status, Tenant, Timestamp, UnitQuantity, Withdrawal,
};
use serde_dynamo::{AttributeValue, Item};

use super::encode::{
    BY_CONSUMER, BY_PROVIDER, PK_PREFIX, TELLS_BOOKED, TELLS_CANCELLED, TELLS_MOVED, kind_name, mode_name,
};
use super::history::{entry_of, status_of};
use super::item::{
    BookingItem, CompensationItem, ITEM_FORMAT, MoveItem, NotificationItem, OperationItem,
    OperationRecordItem, OvertakenItem, PhaseItem, RefusalItem, RejectionItem, RunItem, SlotItem,
    WithdrawalItem,
};
use super::response::unpack;
use crate::item::{Bytes, PK, from_item};

/// Why an item is not a booking that this version of the code can read. It holds no stored value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A later version of the code wrote it.
    #[error("format {0} is later than {ITEM_FORMAT}")]
    LaterFormat(u32),
    /// An attribute is missing or is not what it should be.
    #[error("attribute {0} is missing or malformed")]
    Attribute(String),
}

pub(super) fn malformed(attribute: &str) -> CodecError {
    CodecError::Attribute(attribute.to_owned())
}

/// An image in the stream that cannot be read, with what can be told of it all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image cannot be read: {error}")]
pub struct UnreadableImage {
    /// The booking, if the key is one.
    pub booking_id: Option<BookingId>,
    /// The version, if the history can be counted.
    pub version: Option<u32>,
    /// What is wrong.
    pub error: CodecError,
}

/// Reads a booking from an image in the table's stream, or from an item.
pub fn stored_from_image(image: Item) -> Result<StoredBooking, UnreadableImage> {
    let booking_id = booking_id_of(&image);
    let version = match image.get("y") {
        Some(AttributeValue::L(entries)) => u32::try_from(entries.len()).ok(),
        _ => None,
    };
    read(image).map_err(|error| UnreadableImage { booking_id, version, error })
}

/// The booking that an item or a key is of.
pub(super) fn booking_id_of(item: &Item) -> Option<BookingId> {
    match item.get(PK) {
        Some(AttributeValue::S(pk)) => BookingId::parse(pk.strip_prefix(PK_PREFIX)?).ok(),
        _ => None,
    }
}

fn read(image: Item) -> Result<StoredBooking, CodecError> {
    // The format is looked at before all else, for a later one may have any other attributes.
    if let Some(AttributeValue::N(format)) = image.get("v") {
        let format = format.parse().map_err(|_| malformed("v"))?;
        if format > ITEM_FORMAT {
            return Err(CodecError::LaterFormat(format));
        }
    }
    let item: BookingItem = from_item(image).map_err(CodecError::Attribute)?;
    let create = create_record(&item)?;
    let operations = item.operation_records.iter().map(operation_record).collect::<Result<_, _>>()?;
    let (exclusive_slots, rev) = (item.exclusive_slots, item.rev);
    Ok(StoredBooking { booking: booking(item)?, create, operations, exclusive_slots, rev })
}

fn create_record(item: &BookingItem) -> Result<Option<CreateRecord>, CodecError> {
    let Some(fingerprint) = &item.fingerprint else {
        return Ok(None);
    };
    let fingerprint = fingerprint.0.as_slice().try_into().map_err(|_| malformed("fp"))?;
    let response = response("rb", item.response_status, item.response_body.as_ref())?;
    Ok(Some(CreateRecord {
        fingerprint: Fingerprint(fingerprint),
        generation: item.generation,
        superseded_by: item.superseded_by,
        response,
    }))
}

fn response(
    attribute: &str,
    status: Option<u16>,
    packed: Option<&Bytes>,
) -> Result<Option<FrozenResponse>, CodecError> {
    match (status, packed) {
        (None, None) => Ok(None),
        (Some(status), Some(packed)) => {
            let body = unpack(&packed.0).ok_or_else(|| malformed(attribute))?;
            Ok(Some(FrozenResponse { status, body }))
        }
        (None, Some(_)) | (Some(_), None) => Err(malformed(attribute)),
    }
}

fn operation_record(item: &OperationRecordItem) -> Result<OperationRecord, CodecError> {
    let fingerprint = item.fingerprint.0.as_slice().try_into().map_err(|_| malformed("or"))?;
    Ok(OperationRecord {
        key: OperationKey(item.key.0.as_slice().try_into().map_err(|_| malformed("or"))?),
        fingerprint: Fingerprint(fingerprint),
        number: item.number,
        at: time("or", item.at)?,
        response: response("or", item.response_status, item.response_body.as_ref())?,
    })
}

fn withdrawal(item: WithdrawalItem) -> Withdrawal {
    Withdrawal { reason: item.reason, note: item.note }
}

fn rejection(item: RejectionItem) -> Rejection {
    let RejectionItem { code, message, provider_code } = item;
    Rejection { code, message, provider_code }
}

fn refusal(item: RefusalItem) -> Result<Refusal, CodecError> {
    let reason = match (item.rejection, attempt_error("rf", item.error)?, item.unresolved) {
        (Some(item), None, false) => RefusalReason::Declined(rejection(item)),
        (None, Some(error), false) => RefusalReason::Failed(error),
        (None, None, true) => RefusalReason::Unresolved,
        (None, None, false) | (Some(_), Some(_), _) | (Some(_), _, true) | (_, Some(_), true) => {
            return Err(malformed("rf"));
        }
    };
    Ok(Refusal { operation: item.operation, reason })
}

pub(super) fn slot(attribute: &str, item: SlotItem) -> Result<Slot, CodecError> {
    Ok(Slot {
        location_id: item.location_id,
        start: time(attribute, item.start)?,
        end: time(attribute, item.end)?,
        resource_id: item.resource_id,
        service_id: item.service_id,
    })
}

fn history(texts: &[String], moves: Vec<MoveItem>) -> Result<Vec<HistoryEntry>, CodecError> {
    let history: Option<Vec<HistoryEntry>> = texts.iter().map(|text| entry_of(text)).collect();
    let mut history = history.filter(|entries| !entries.is_empty()).ok_or_else(|| malformed("y"))?;
    for item in moves {
        let place = usize::try_from(item.version).ok().and_then(|version| version.checked_sub(1));
        let entry = place.and_then(|place| history.get_mut(place)).ok_or_else(|| malformed("mv"))?;
        entry.moved_from = Some(slot("mv", item.from)?);
    }
    Ok(history)
}

fn confirmation(name: Option<&str>) -> Result<ConfirmationMode, CodecError> {
    ConfirmationMode::ALL.into_iter().find(|mode| mode_name(*mode) == name).ok_or_else(|| malformed("cm"))
}

/// `own_slot` is the booking's.
pub(super) fn notification(item: NotificationItem, own_slot: &Slot) -> Result<Notification, CodecError> {
    let kind = match (item.kind.as_str(), item.from) {
        (TELLS_BOOKED, None) => NotificationKind::Booked,
        (TELLS_MOVED, Some(from)) => NotificationKind::Moved { from: slot("nt", from)? },
        (TELLS_CANCELLED, None) => NotificationKind::Cancelled,
        _ => return Err(malformed("nt")),
    };
    Ok(Notification {
        kind,
        slot: item.slot.map_or_else(|| Ok(own_slot.clone()), |item| slot("nt", item))?,
        version: item.version,
        number: item.number,
        begun_at: time("nt", item.begun_at)?,
        attempts: item.attempts,
        skipped: item.skipped,
        last_error: attempt_error("nt", item.last_error)?,
        phase: phase("nt", &item.phase)?,
    })
}

fn booking(item: BookingItem) -> Result<Booking, CodecError> {
    let id = item.pk.strip_prefix(PK_PREFIX).and_then(|id| BookingId::parse(id).ok());
    let history = history(&item.history, item.moves)?;
    let (email, phone) = (item.customer_email, item.customer_phone);
    let (birth_date, language) = (item.customer_birth_date, item.customer_language);
    let customer = item.customer_name.map(|name| Customer { name, email, phone, birth_date, language });
    let units = item.units.into_iter();
    let request = BookingRequest {
        provider_id: ProviderId::parse(&item.provider_id).map_err(|_| malformed("p"))?,
        customer: customer.map(Personal::new),
        reference: item.reference,
        notes: item.notes.map(Personal::new),
        metadata: item.metadata,
        units: units.map(|unit| UnitQuantity { unit_id: unit.unit_id, quantity: unit.quantity }).collect(),
        hold: item.hold,
        availability_id: item.availability_id,
    };
    let slot = Slot {
        location_id: item.location_id,
        start: time("a", item.start)?,
        end: time("e", item.end)?,
        resource_id: item.resource_id,
        service_id: item.service_id,
    };
    let told = item.notifications.into_iter();
    let notifications = told.map(|item| notification(item, &slot)).collect::<Result<_, _>>()?;
    let cancellation = cancellation(item.cancelled_by_system.as_deref(), item.withdrawal);
    Ok(Booking {
        id: id.ok_or_else(|| malformed(PK))?,
        tenant: Tenant::parse(&item.tenant).ok_or_else(|| malformed("t"))?,
        request,
        confirmation: confirmation(item.confirmation.as_deref())?,
        route: if item.is_pulled { NotificationRoute::Pull } else { NotificationRoute::Push },
        slot,
        state: state(&item.status, item.expires_at, item.rejection, cancellation)?,
        provider_reference: item.provider_reference,
        operation: item.operation.map(operation).transpose()?,
        refusal: item.refusal.map(refusal).transpose()?,
        compensation: compensation(item.compensation)?,
        notifications,
        operations_begun: item.operations_begun,
        history,
    })
}

fn time(attribute: &str, unix_ms: i64) -> Result<Timestamp, CodecError> {
    Timestamp::from_unix_ms(unix_ms).map_err(|_| malformed(attribute))
}

fn state(
    letter: &str,
    expires_at: Option<i64>,
    rejection: Option<RejectionItem>,
    cancellation: Option<Cancellation>,
) -> Result<State, CodecError> {
    let mut letters = letter.chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else {
        return Err(malformed("s"));
    };
    Ok(match status_of(letter).ok_or_else(|| malformed("s"))? {
        Status::Pending => State::Pending,
        Status::Reserved => {
            State::Reserved { expires_at: time("x", expires_at.ok_or_else(|| malformed("x"))?)? }
        }
        Status::Confirmed => State::Confirmed,
        Status::Rejected => State::Rejected(self::rejection(rejection.ok_or_else(|| malformed("rj"))?)),
        Status::Cancelled => State::Cancelled(cancellation.ok_or_else(|| malformed("cr"))?),
        Status::Expired => State::Expired,
        Status::Completed => State::Completed,
        Status::NoShow => State::NoShow,
    })
}

fn cancellation(by_system: Option<&str>, words: Option<WithdrawalItem>) -> Option<Cancellation> {
    match (by_system, words) {
        (Some(reason), None) => CancellationReason::parse(reason).map(Cancellation::BySystem),
        (None, Some(item)) if item.by == BY_CONSUMER => Some(Cancellation::ByConsumer(withdrawal(item))),
        (None, Some(item)) if item.by == BY_PROVIDER => Some(Cancellation::ByProvider(withdrawal(item))),
        (None | Some(_), None | Some(_)) => None,
    }
}

fn change(
    kind: &str,
    words: Option<WithdrawalItem>,
    expires_at: Option<i64>,
    wanted: Option<SlotItem>,
) -> Result<Change, CodecError> {
    let kind = OperationKind::ALL.into_iter().find(|known| kind_name(*known) == kind);
    Ok(match kind.ok_or_else(|| malformed("op"))? {
        OperationKind::Book => Change::Book,
        OperationKind::Confirm => Change::Confirm,
        OperationKind::Extend => {
            Change::Extend { expires_at: time("op", expires_at.ok_or_else(|| malformed("op"))?)? }
        }
        OperationKind::Cancel => Change::Cancel(words.map(withdrawal).unwrap_or_default()),
        OperationKind::Reschedule => Change::Reschedule(slot("op", wanted.ok_or_else(|| malformed("op"))?)?),
    })
}

fn overtaken(item: OvertakenItem) -> Result<Overtaken, CodecError> {
    Ok(Overtaken {
        change: change(&item.kind, item.withdrawal, item.expires_at, item.slot)?,
        number: item.number,
        patience: if item.background { Patience::Background } else { Patience::Synchronous },
        attempts: item.attempts,
        unanswered_send_at: time("op", item.unanswered_send_at)?,
    })
}

fn operation(item: OperationItem) -> Result<Operation, CodecError> {
    Ok(Operation {
        change: change(&item.kind, item.withdrawal, item.expires_at, item.slot)?,
        number: item.number,
        patience: if item.background { Patience::Background } else { Patience::Synchronous },
        deadline_at: time("op", item.deadline_at)?,
        attempts: item.attempts,
        last_error: attempt_error("op", item.last_error)?,
        unanswered_send_at: item.unanswered_send_at.map(|at| time("op", at)).transpose()?,
        resolve_until: item.resolve_until.map(|at| time("op", at)).transpose()?,
        overtaken: item.overtaken.map(overtaken).transpose()?,
        phase: phase("op", &item.phase)?,
    })
}

fn attempt_error(attribute: &str, code: Option<String>) -> Result<Option<AttemptError>, CodecError> {
    code.map(|code| AttemptError::parse(&code).ok_or_else(|| malformed(attribute))).transpose()
}

fn phase(attribute: &str, item: &PhaseItem) -> Result<Phase, CodecError> {
    Ok(match item {
        PhaseItem::InFlight(lease_until) => Phase::InFlight { lease_until: time(attribute, *lease_until)? },
        PhaseItem::Waiting(next) => Phase::Waiting { next_attempt_at: time(attribute, *next)? },
    })
}

fn compensation(item: Option<CompensationItem>) -> Result<Compensation, CodecError> {
    Ok(match item {
        None => Compensation::NotNeeded,
        Some(CompensationItem::Underway(run)) => Compensation::Underway(run_of(run)?),
        Some(CompensationItem::Done) => Compensation::Done,
        Some(CompensationItem::Failed) => Compensation::Failed,
    })
}

fn run_of(item: RunItem) -> Result<CompensationRun, CodecError> {
    Ok(CompensationRun {
        number: item.number,
        give_up_at: time("cp", item.give_up_at)?,
        attempts: item.attempts,
        unanswered_send_at: time("cp", item.unanswered_send_at)?,
        last_error: attempt_error("cp", item.last_error)?,
        phase: phase("cp", &item.phase)?,
    })
}
