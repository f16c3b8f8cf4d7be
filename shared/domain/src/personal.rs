//! A wrapper that keeps personal data out of logs by construction.

use std::fmt;

/// Personal data of a customer. It cannot be printed or serialised by accident: `Debug` shows a
/// placeholder, and there is no `Display` and no `Serialize`. Reading it takes an explicit
/// [`Personal::expose`].
///
/// ```compile_fail,E0277
/// let name = holdfast_domain::Personal::new("Ada Lovelace".to_owned());
/// println!("{name}");
/// ```
///
/// ```compile_fail,E0277
/// let name = holdfast_domain::Personal::new("Ada Lovelace".to_owned());
/// let written = serde_json::to_string(&name);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    /// Wraps personal data.
    pub fn new(data: T) -> Self {
        Self(data)
    }

    /// The data itself, for the provider's request body, the store's codec and the consumer's own read.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[personal data]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Customer;

    fn ada() -> Customer {
        Customer {
            name: "Ada Lovelace".to_owned(),
            email: Some("ada@example.com".to_owned()),
            phone: Some("+44 20 7946 0000".to_owned()),
            birth_date: Some("1815-12-10".to_owned()),
            language: Some("en".to_owned()),
        }
    }

    #[test]
    fn nothing_personal_is_shown() {
        assert_eq!(format!("{:?}", Personal::new(ada())), "[personal data]");
        assert_eq!(
            format!("{:#?}", Some(Personal::new("notes".to_owned()))),
            "Some(\n    [personal data],\n)"
        );
        // Nor of what was exposed.
        assert_eq!(format!("{:?}", Personal::new(ada()).expose()), "[personal data]");
    }
}
