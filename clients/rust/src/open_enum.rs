//! Sets of words that may grow: what is not known is kept as it is.

/// Makes an enum of words, with a variant for every other word. It is read from and written as a string.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        ///
        /// Others may follow; they are [`Other`](Self::Other).
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$about])* $variant,)+
            /// A word that this version of the client does not know.
            Other(String),
        }

        impl $name {
            /// Every word that this version of the client knows.
            pub const KNOWN: &'static [&'static str] = &[$($word,)+];

            /// The word itself.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                Self::from(word.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use crate::Status;

    #[test]
    fn a_word_that_is_not_known_is_kept() {
        for (word, status) in [
            ("confirmed", Status::Confirmed),
            ("no_show", Status::NoShow),
            ("teleported", Status::Other("teleported".to_owned())),
        ] {
            let read: Status = serde_json::from_value(word.into()).unwrap();
            assert_eq!(read, status);
            assert_eq!(serde_json::to_value(read).unwrap(), word);
        }
    }
}
