//! What is written as a text is read back: names in the API, in items, in cursors and in the configuration.

use holdfast_domain::{CancellationReason, Cause, ConfirmationMode, Customer, Personal, Status};

#[test]
fn every_name_is_read_back() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
    }
    for reason in CancellationReason::ALL {
        assert_eq!(CancellationReason::parse(reason.as_str()), Some(reason));
    }
    for cause in Cause::ALL {
        assert_eq!(Cause::parse(cause.as_str()), Some(cause));
    }
    for mode in ConfirmationMode::ALL {
        assert_eq!(ConfirmationMode::parse(mode.as_str()), Some(mode));
    }
}

#[test]
fn what_is_no_name_is_not_taken_for_one() {
    for text in ["", "xyzzy", "Confirmed", "confirmed "] {
        assert_eq!(Status::parse(text), None);
        assert_eq!(CancellationReason::parse(text), None);
        assert_eq!(Cause::parse(text), None);
        assert_eq!(ConfirmationMode::parse(text), None);
    }
}

#[test]
fn personal_data_leave_a_placeholder_where_they_are_printed() {
    let ada = Customer { name: "Ada".to_owned(), email: None, phone: None, birth_date: None, language: None };
    assert_eq!(format!("{:?}", Personal::new(ada)), "[personal data]");
}
