//! The parts that all requests are made of: a URL that can be called, headers that logs cannot show, and
//! the signature.

use http::{HeaderMap, HeaderValue, Uri};
use secrecy::SecretString;
use url::Url;

use crate::signing::{ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER};
use holdfast_app::signing_secret::SecretError;

/// A request cannot be made from what is configured. It never holds the configured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsendable {
    /// The provider has no URL: it fetches what it is told.
    #[error("there is no URL")]
    NoUrl,
    /// The URL is not an absolute one of `http` or `https`, or has a host that HTTP cannot name.
    #[error("the URL cannot be called")]
    Url,
    /// A header's name or value holds what a header cannot.
    #[error("a configured header is not valid")]
    Header,
    /// The body has no JSON form.
    #[error("the body cannot be written as JSON")]
    Body,
    /// The signing secret cannot be used.
    #[error("the signing secret is not usable: {0}")]
    Secret(#[from] SecretError),
}

/// Reads a URL that may be called. It is read by the rules of the WHATWG, as when it was configured; what is called is
/// what that reader has written.
pub(crate) fn callable(url: &str) -> Result<Uri, Unsendable> {
    let url = Url::parse(url).map_err(|_| Unsendable::Url)?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_http { url.as_str().parse().map_err(|_| Unsendable::Url) } else { Err(Unsendable::Url) }
}

/// A header value that logs cannot show.
pub(crate) fn sensitive(value: &str) -> Result<HeaderValue, Unsendable> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Unsendable::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Signs a message by adding the three headers of Standard Webhooks.
pub(crate) fn sign(
    headers: &mut HeaderMap,
    secret: &SecretString,
    message_id: &str,
    timestamp_unix_s: i64,
    body: &[u8],
) -> Result<(), Unsendable> {
    sign_with_each(headers, &[secret], message_id, timestamp_unix_s, body)
}

/// As [`sign`], with a signature for each secret, in order; a receiver takes the message if any fits.
pub(crate) fn sign_with_each(
    headers: &mut HeaderMap,
    secrets: &[&SecretString],
    message_id: &str,
    timestamp_unix_s: i64,
    body: &[u8],
) -> Result<(), Unsendable> {
    let mut signatures = Vec::with_capacity(secrets.len());
    for secret in secrets {
        signatures.push(SigningKey::parse(secret)?.sign(message_id, timestamp_unix_s, body));
    }
    let signature = signatures.join(" ");
    let message_id = HeaderValue::from_str(message_id).map_err(|_| Unsendable::Header)?;
    headers.insert(ID_HEADER, message_id);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(timestamp_unix_s));
    headers.insert(SIGNATURE_HEADER, sensitive(&signature)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_is_what_the_reader_has_written() {
        for (configured, called) in [
            ("https://Provider.Example/api", "https://provider.example/api"),
            ("https://bücher.example", "https://xn--bcher-kva.example/"),
            ("http://0x7f.1:8080/", "http://127.0.0.1:8080/"),
            ("http://[0:0::1]/", "http://[::1]/"),
            ("https://provider.example/a b/ü", "https://provider.example/a%20b/%C3%BC"),
        ] {
            assert_eq!(callable(configured).unwrap().to_string(), called, "{configured}");
        }
        for refused in ["", "/path", "provider.example", "ftp://provider.example", "https://", "http://a{b/"]
        {
            assert_eq!(callable(refused), Err(Unsendable::Url), "{refused}");
        }
    }
}
