//! A version of a booking as a short text: the status's letter, the cause's letter, the time in
//! milliseconds and, if there were any, a dot and the number of attempts: `Pc1795000000000.1`.
//!
//! The letters are part of the stored format. They never change their meaning; new names get new ones.

use holdfast_domain::{Cause, HistoryEntry, Status, Timestamp};

/// The letter of a status.
pub(super) fn status_letter(status: Status) -> char {
    match status {
        Status::Pending => 'P',
        Status::Reserved => 'R',
        Status::Confirmed => 'C',
        Status::Rejected => 'X',
        Status::Cancelled => 'L',
        Status::Expired => 'E',
        Status::Completed => 'D',
        Status::NoShow => 'N',
    }
}

/// The status of a letter.
pub(super) fn status_of(letter: char) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status_letter(*status) == letter)
}

fn cause_letter(cause: Cause) -> char {
    match cause {
        Cause::Created => 'c',
        Cause::ProviderAcknowledged => 'a',
        Cause::ProviderDeclined => 'd',
        Cause::ProviderEnded => 'e',
        Cause::GivenUp => 'g',
        Cause::HoldExpired => 'h',
        Cause::LateAcknowledgement => 'l',
        Cause::Compensated => 'k',
        Cause::CompensationFailed => 'f',
        Cause::OperationBegun => 'b',
        Cause::OperationDeclined => 'n',
        Cause::WithdrawnByConsumer => 'w',
        Cause::WithdrawnByProvider => 'p',
        Cause::AttendanceTold => 't',
        Cause::CustomerErased => 'x',
        Cause::Accepted => 'y',
        Cause::Rescheduled => 'm',
        Cause::OperationGivenUp => 'o',
        Cause::OperationUnresolved => 'u',
        Cause::NotificationFailed => 'q',
        Cause::CancelledByOperator => 'r',
        Cause::RetriedByOperator => 'i',
    }
}

fn cause_of(letter: char) -> Option<Cause> {
    Cause::ALL.into_iter().find(|cause| cause_letter(*cause) == letter)
}

/// Writes a version, without the slot that it moved the booking from.
pub(super) fn entry_text(entry: &HistoryEntry) -> String {
    let (status, cause) = (status_letter(entry.status), cause_letter(entry.cause));
    let at = entry.at.as_unix_ms();
    match entry.attempts {
        0 => format!("{status}{cause}{at}"),
        attempts => format!("{status}{cause}{at}.{attempts}"),
    }
}

/// Reads a version; `None` if this is not one that this version of the code knows.
pub(super) fn entry_of(text: &str) -> Option<HistoryEntry> {
    let mut letters = text.chars();
    let status = status_of(letters.next()?)?;
    let cause = cause_of(letters.next()?)?;
    let rest = letters.as_str();
    let (at, attempts) = match rest.split_once('.') {
        Some((at, attempts)) => (at, attempts.parse().ok()?),
        None => (rest, 0),
    };
    let at = Timestamp::from_unix_ms(at.parse().ok()?).ok()?;
    Some(HistoryEntry::new(status, at, cause, attempts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_survives_its_text() {
        let at = Timestamp::from_unix_ms(1_795_000_000_123).unwrap();
        for status in Status::ALL {
            for cause in Cause::ALL {
                for attempts in [0, 1, 200] {
                    let entry = HistoryEntry::new(status, at, cause, attempts);
                    assert_eq!(entry_of(&entry_text(&entry)), Some(entry));
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_version_is_not_read() {
        for text in ["", "P", "Pc", "Pcx", "Zc1", "Pz1", "Pc1.", "Pc-1", "Pc1.x"] {
            assert_eq!(entry_of(text), None, "{text}");
        }
    }
}
