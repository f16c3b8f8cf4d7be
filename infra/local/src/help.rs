//! The help texts of the simulator and the inbox, with the address at which they were asked for, so that the
//! commands in them can be pasted. Does not know what they say.

use axum::http::HeaderMap;
use axum::http::header::HOST;

/// Stands in the texts for the host and port of whoever shows them.
const THIS_HOST: &str = "<this host>";

/// `text` with the host that the caller named. Without one, it stays as it is.
pub(crate) fn at_host(text: &str, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(THIS_HOST);
    text.replace(THIS_HOST, host)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn commands_name_the_host_that_was_asked() {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("127.0.0.1:3001"))]);
        assert_eq!(at_host("curl <this host>/x", &headers), "curl 127.0.0.1:3001/x");
        assert_eq!(at_host("curl <this host>/x", &HeaderMap::new()), "curl <this host>/x");
    }
}
