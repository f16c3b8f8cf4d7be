//! Forms and limits that several of the bodies share. Each check adds to the errors at its pointer.

use secrecy::SecretString;
use url::Url;

use crate::parse::FieldErrors;
use crate::signing_secret;
use crate::text::{TextKind, judge_text};

/// The longest name for people, in characters.
const MAX_DISPLAY_NAME_CHARS: usize = 200;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// The longest name of a header, in bytes.
const MAX_HEADER_NAME_BYTES: usize = 128;

/// The longest value of a header, and the longest credential, in bytes.
const MAX_HEADER_VALUE_BYTES: usize = 2_048;

/// Headers that the sender sets itself or that belong to the connection.
const RESERVED_HEADERS: [&str; 18] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];

/// What all headers of Standard Webhooks begin with.
const RESERVED_HEADER_PREFIX: &str = "webhook-";

/// Where Holdfast may be told to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRules {
    /// Whether `http` is allowed beside `https`.
    pub allow_plain_http: bool,
}

/// Which parts a URL may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlKind {
    /// Paths are appended to it: no query.
    Base,
    /// It is called as it is.
    Whole,
}

pub(super) fn display_name(errors: &mut FieldErrors, pointer: &str, name: &str) {
    text(errors, pointer, name, MAX_DISPLAY_NAME_CHARS);
}

/// A line of text that says something.
pub(super) fn text(errors: &mut FieldErrors, pointer: &str, text: &str, most_chars: usize) {
    if let Err(detail) = judge_text(text, TextKind::Line, most_chars) {
        errors.push(pointer, detail);
    }
}

/// The name of a thing.
pub(super) fn name(errors: &mut FieldErrors, pointer: &str, name: &str, most_chars: usize) {
    if let Err(detail) = judge_text(name, TextKind::Name, most_chars) {
        errors.push(pointer, detail);
    }
}

/// As [`name`], for the name of a field: the error says that it is about the name.
pub(super) fn field_name(errors: &mut FieldErrors, pointer: &str, name: &str, most_chars: usize) {
    if let Err(detail) = judge_text(name, TextKind::Name, most_chars) {
        errors.push(pointer, format!("has a name that cannot be taken: it {detail}"));
    }
}

pub(super) fn target_url(
    errors: &mut FieldErrors,
    pointer: &str,
    text: &str,
    kind: UrlKind,
    rules: TargetRules,
) {
    if let Err(detail) = judge_url(text, kind, rules) {
        errors.push(pointer, detail);
    }
}

/// Whether a URL can be a target. Which addresses are reached is checked when connecting, since a name
/// may resolve to another address later.
fn judge_url(text: &str, kind: UrlKind, rules: TargetRules) -> Result<(), String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!("has {} bytes; at most {MAX_URL_BYTES} are allowed", text.len()));
    }
    // Parsers drop or turn these; a URL with them is not the one that was meant.
    if text.chars().any(|character| character.is_whitespace() || character.is_control() || character == '\\')
    {
        return Err("must not have spaces, control characters or backslashes".to_owned());
    }
    let url = Url::parse(text).map_err(|_| "must be an absolute URL".to_owned())?;
    match url.scheme() {
        "https" => {}
        "http" if rules.allow_plain_http => {}
        "http" => return Err("must be an https URL; this deployment does not allow http".to_owned()),
        _ => return Err("must be an https URL".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user name or password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment".to_owned());
    }
    if kind == UrlKind::Base && url.query().is_some() {
        return Err("must not have a query".to_owned());
    }
    Ok(())
}

/// A header's name (RFC 9110, section 5.1) that is free to be set.
pub(super) fn header_name(errors: &mut FieldErrors, pointer: &str, name: &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_HEADER_NAME_BYTES || !name.bytes().all(is_token) {
        errors.push(
            pointer,
            format!("is not the name of a header of up to {MAX_HEADER_NAME_BYTES} characters"),
        );
    } else if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with(RESERVED_HEADER_PREFIX) {
        errors.push(pointer, "is a header that Holdfast sets itself or that belongs to the connection");
    }
}

/// A value that fits into a header: visible ASCII, spaces inside.
pub(super) fn header_value(errors: &mut FieldErrors, pointer: &str, value: &str) {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if value.is_empty()
        || value.len() > MAX_HEADER_VALUE_BYTES
        || value.trim() != value
        || !value.bytes().all(is_allowed)
    {
        let detail = format!(
            "must be 1 to {MAX_HEADER_VALUE_BYTES} visible ASCII characters, with spaces only between others"
        );
        errors.push(pointer, detail);
    }
}

/// A secret as Standard Webhooks writes it.
pub(super) fn secret(errors: &mut FieldErrors, pointer: &str, secret: &SecretString) {
    if let Err(error) = signing_secret::decode(secret) {
        errors.push(pointer, error.to_string());
    }
}

pub(super) fn range(errors: &mut FieldErrors, pointer: &str, value: u64, least: u64, most: u64) {
    if !(least..=most).contains(&value) {
        errors.push(pointer, format!("must be {least} to {most}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTPS_ONLY: TargetRules = TargetRules { allow_plain_http: false };
    const ANY_HTTP: TargetRules = TargetRules { allow_plain_http: true };

    #[test]
    fn targets_are_absolute_https_urls() {
        for fine in ["https://example.com", "https://example.com:8443/a/b?c=d", "https://[2001:db8::1]/x"] {
            assert_eq!(judge_url(fine, UrlKind::Whole, HTTPS_ONLY), Ok(()), "{fine}");
        }
        for odd in [
            "",
            "example.com",
            "/relative",
            "http://example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https://user@example.com",
            "https://user:pass@example.com",
            "https://example.com/#part",
            " https://example.com",
            "https://example.com/a\nb",
            "https:\\\\example.com",
        ] {
            assert!(judge_url(odd, UrlKind::Whole, HTTPS_ONLY).is_err(), "{odd}");
        }
        assert!(judge_url("http://localhost:9999/x", UrlKind::Base, ANY_HTTP).is_ok());
        assert!(judge_url("https://example.com/?a=b", UrlKind::Base, HTTPS_ONLY).is_err());
        let long = |bytes: usize| format!("{:x<bytes$}", "https://example.com/");
        assert!(judge_url(&long(MAX_URL_BYTES), UrlKind::Whole, HTTPS_ONLY).is_ok());
        assert!(judge_url(&long(MAX_URL_BYTES + 1), UrlKind::Whole, HTTPS_ONLY).is_err());
        let plain = judge_url("http://example.com", UrlKind::Whole, HTTPS_ONLY).unwrap_err();
        assert!(plain.contains("this deployment does not allow http"), "{plain}");
    }

    fn is_fine(check: impl Fn(&mut FieldErrors)) -> bool {
        let mut errors = FieldErrors::default();
        check(&mut errors);
        errors.is_empty()
    }

    #[test]
    fn headers_are_tokens_that_are_free() {
        for fine in ["X-Token", "authorization", "x_a.b"] {
            assert!(is_fine(|errors| header_name(errors, "/h", fine)), "{fine}");
        }
        for odd in ["", "a b", "a:b", "é", "Webhook-Signature", "HOST", "Content-Type", "content-length"] {
            assert!(!is_fine(|errors| header_name(errors, "/h", odd)), "{odd}");
        }
        for (bytes, fine) in [(0, true), (1, false), (2, false)] {
            let name = "x".repeat(MAX_HEADER_NAME_BYTES + bytes);
            assert_eq!(is_fine(|errors| header_name(errors, "/h", &name)), fine, "{bytes} too long");
            let value = "x".repeat(MAX_HEADER_VALUE_BYTES + bytes);
            assert_eq!(is_fine(|errors| header_value(errors, "/h", &value)), fine, "{bytes} too long");
        }
        assert!(is_fine(|errors| header_value(errors, "/h", "Bearer abc, def")));
        for odd in ["", " a", "a ", "a\r\nb: c", "é", "a\0"] {
            assert!(!is_fine(|errors| header_value(errors, "/h", odd)), "{odd:?}");
        }
    }

    #[test]
    fn names_for_people_say_something() {
        for fine in ["Klinik Ö.", &"ö".repeat(MAX_DISPLAY_NAME_CHARS)] {
            assert!(is_fine(|errors| display_name(errors, "/name", fine)));
        }
        for odd in ["", "  ", "a\u{7}", "a\u{202e}b", "a\u{2028}b", &"x".repeat(MAX_DISPLAY_NAME_CHARS + 1)] {
            assert!(!is_fine(|errors| display_name(errors, "/name", odd)), "{odd:?}");
        }
    }
}
