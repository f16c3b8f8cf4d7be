//! A wrapper that keeps personal data out of logs by construction.

use std::fmt;

/// Personal data of a customer. It cannot be printed or serialised by accident: `Debug` shows a
/// placeholder, and there is no `Display` and no `Serialize`. Reading it takes an explicit
/// [`Personal::expose`].
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
