//! Content codings: who takes gzip, and gzip.

use std::io::{Error, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Which codings a caller takes (RFC 9110, section 12.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codings {
    /// It says nothing, so that any will do.
    Any,
    /// It takes gzip.
    Gzip,
    /// It does not take gzip.
    Plain,
}

impl Codings {
    /// Reads an `Accept-Encoding` header.
    pub fn of(accept_encoding: Option<&str>) -> Self {
        match accept_encoding {
            None => Self::Any,
            Some(accepted) if takes_gzip(accepted) => Self::Gzip,
            Some(_) => Self::Plain,
        }
    }
}

fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let is_refused = parts.any(|weight| {
            let weight = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.trim_matches(['0', '.']).is_empty())
        });
        is_gzip && !is_refused
    })
}

/// Compresses a body, fast rather than small.
pub fn gzip(body: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for taken in ["gzip", "br, GZIP", "gzip;q=0.5", "deflate, gzip;q=1.0", "*"] {
            assert_eq!(Codings::of(Some(taken)), Codings::Gzip, "{taken}");
        }
        for refused in ["", "br", "gzip;q=0", "gzip;q=0.000", "x-gzip", "identity", "*;q=0"] {
            assert_eq!(Codings::of(Some(refused)), Codings::Plain, "{refused}");
        }
        assert_eq!(Codings::of(None), Codings::Any);
    }
}
