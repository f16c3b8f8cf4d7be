//! Signature Version 4 of calls that differ in their operation and body alone ("Create a signed AWS API request" in the
//! IAM User Guide).
//!
//! `aws-sigv4` composes the canonical request of any request and derives the key anew each time. Here the request's shape
//! is known, and the key is kept for its day; deriving it is that library's. Hashing is that of the library for TLS, which is
//! in the program anyway, and on a processor without instructions for SHA-256 takes three fifths of the time of `sha2`.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_sdk_dynamodb::config::Credentials;
use aws_sigv4::sign::v4::generate_signing_key;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use data_encoding::HEXLOWER;
use http::Uri;

/// The algorithm's name.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How long the date is of a time such as `20260714T090000Z`.
const DATE_LENGTH: usize = 8;

/// Whose requests to a service are signed.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    service: &'static str,
    host: String,
    key: Mutex<Option<DayKey>>,
}

/// The key of a day.
struct DayKey {
    date: String,
    key: hmac::Key,
}

/// What a signed request has besides what was signed.
pub(crate) struct Signed<'a> {
    /// `x-amz-date`
    pub(crate) date_time: String,
    /// `x-amz-security-token`
    pub(crate) security_token: Option<&'a str>,
    /// `authorization`
    pub(crate) authorization: String,
}

/// What is signed of a request besides its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signable<'a> {
    /// `content-type`
    pub(crate) content_type: &'a str,
    /// `x-amz-target`
    pub(crate) target: &'a str,
}

impl Signer {
    /// Signs what is posted to `url`; nothing if that is more than a host.
    pub(crate) fn new(
        credentials: Credentials,
        region: String,
        service: &'static str,
        url: &str,
    ) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let is_default = |port| matches!((url.scheme_str(), port), (Some("http"), 80) | (Some("https"), 443));
        let host = match url.port_u16() {
            Some(port) if !is_default(port) => format!("{}:{port}", url.host()?),
            Some(_) | None => url.host()?.to_owned(),
        };
        let is_plain = url.path() == "/" && url.query().is_none();
        is_plain.then(|| Self { credentials, region, service, host, key: Mutex::new(None) })
    }

    /// Signs a request as of `at`.
    pub(crate) fn sign(&self, request: Signable<'_>, body: &[u8], at: SystemTime) -> Option<Signed<'_>> {
        let seconds = DateTime::from_secs(DateTime::from(at).secs());
        let mut date_time = seconds.fmt(Format::DateTime).ok()?;
        date_time.retain(|character| !matches!(character, '-' | ':'));
        let date = date_time.get(..DATE_LENGTH)?;
        let Signable { content_type, target } = request;
        let security_token = self.credentials.session_token();
        let (token_line, token_name) = match security_token {
            Some(token) => (format!("x-amz-security-token:{token}\n"), "x-amz-security-token;"),
            None => (String::new(), ""),
        };
        let names = format!("content-type;host;x-amz-date;{token_name}x-amz-target");
        let canonical = format!(
            "POST\n/\n\ncontent-type:{content_type}\nhost:{host}\nx-amz-date:{date_time}\n{token_line}\
             x-amz-target:{target}\n\n{names}\n{body_digest}",
            host = self.host,
            body_digest = HEXLOWER.encode(digest(&SHA256, body).as_ref()),
        );
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let canonical_digest = HEXLOWER.encode(digest(&SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("{ALGORITHM}\n{date_time}\n{scope}\n{canonical_digest}");
        let signature = self.signature(date, at, to_sign.as_bytes());
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key_id(),
        );
        Some(Signed { date_time, security_token, authorization })
    }

    fn signature(&self, date: &str, at: SystemTime, to_sign: &[u8]) -> String {
        let mut kept = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let day = match kept.take() {
            Some(day) if day.date == date => day,
            Some(_) | None => {
                let secret = self.credentials.secret_access_key();
                let key = generate_signing_key(secret, at, &self.region, self.service);
                DayKey { date: date.to_owned(), key: hmac::Key::new(HMAC_SHA256, key.as_ref()) }
            }
        };
        let signature = HEXLOWER.encode(hmac::sign(&day.key, to_sign).as_ref());
        *kept = Some(day);
        signature
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign};
    use aws_sigv4::sign::v4;
    use aws_smithy_runtime_api::client::identity::Identity;
    use proptest::prelude::*;

    use super::*;

    /// What the library says, which the SDK signs with: the headers that it adds, but for their order.
    fn by_the_library(
        credentials: &Credentials,
        url: &str,
        request: Signable<'_>,
        body: &[u8],
        at: SystemTime,
    ) -> Vec<(String, String)> {
        let identity = Identity::from(credentials.clone());
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name("dynamodb")
            .time(at)
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let headers = [("content-type", request.content_type), ("x-amz-target", request.target)];
        let signable = SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(body));
        let signed = sign(signable.unwrap(), &SigningParams::V4(params)).unwrap();
        let (headers, _) = signed.into_parts().0.into_parts();
        let mut headers: Vec<_> =
            headers.iter().map(|header| (header.name().to_owned(), header.value().to_owned())).collect();
        headers.sort();
        headers
    }

    fn by_us(signer: &Signer, request: Signable<'_>, body: &[u8], at: SystemTime) -> Vec<(String, String)> {
        let Signed { date_time, security_token, authorization } = signer.sign(request, body, at).unwrap();
        let mut headers =
            vec![("authorization".to_owned(), authorization), ("x-amz-date".to_owned(), date_time)];
        let token = security_token.map(|token| ("x-amz-security-token".to_owned(), token.to_owned()));
        headers.extend(token);
        headers.sort();
        headers
    }

    const URLS: [&str; 5] = [
        "https://dynamodb.eu-central-1.amazonaws.com",
        "https://dynamodb.eu-central-1.amazonaws.com:443/",
        "http://127.0.0.1:4566",
        "http://localhost:80",
        "http://localhost:443",
    ];

    proptest! {
        #[test]
        fn requests_are_signed_as_the_library_signs_them(
            url in proptest::sample::select(&URLS[..]),
            key_id in "[A-Z0-9]{16,20}",
            secret in "[A-Za-z0-9/+]{20,40}",
            token in proptest::option::of("[A-Za-z0-9/+=]{1,300}"),
            operation in "[A-Z][a-z]{2,12}Item",
            body: Vec<u8>,
            times_ms in proptest::collection::vec(0_u64..4_000_000_000_000, 1..5),
        ) {
            let credentials = Credentials::new(key_id, secret, token, None, "test");
            let region = "eu-central-1".to_owned();
            let signer = Signer::new(credentials.clone(), region, "dynamodb", url).unwrap();
            let target = format!("DynamoDB_20120810.{operation}");
            let request = Signable { content_type: "application/x-amz-json-1.0", target: &target };
            for at_ms in times_ms {
                // A day's key serves the day alone, and another second of the same day.
                for at in [at_ms, at_ms + 1_000].map(|at_ms| UNIX_EPOCH + Duration::from_millis(at_ms)) {
                    prop_assert_eq!(
                        by_us(&signer, request, &body, at),
                        by_the_library(&credentials, url, request, &body, at)
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_more_than_a_host_is_for_the_library() {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        for url in ["http://localhost/path", "http://localhost/?query", "localhost", ""] {
            let signer = Signer::new(credentials.clone(), "eu-central-1".to_owned(), "dynamodb", url);
            assert!(signer.is_none(), "{url}");
        }
    }
}
