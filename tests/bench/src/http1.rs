//! Messages of HTTP/1.1 as they are on the wire, so that they can be passed on and sent again unchanged.
//!
//! Only what clients of DynamoDB send and its server answers: a body has a length, and is never chunked.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The largest message that is read, in bytes: what DynamoDB takes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A request or an answer.
#[derive(Clone, Debug)]
pub struct Message {
    /// All of it.
    pub whole: Bytes,
    /// Where the body begins.
    body_at: usize,
}

impl Message {
    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.whole[self.body_at..]
    }

    /// What comes before the body.
    pub fn head(&self) -> &[u8] {
        &self.whole[..self.body_at]
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head(), name)
    }

    /// The same request with another body.
    #[must_use]
    pub fn with_body(&self, body: &[u8]) -> Self {
        let head = String::from_utf8_lossy(self.head());
        let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
        let mut whole: String =
            head.trim_end().lines().filter(|line| !is_length(line)).flat_map(|line| [line, "\r\n"]).collect();
        let length = format!("content-length: {}\r\n\r\n", body.len());
        whole.push_str(&length);
        let body_at = whole.len();
        let mut whole = whole.into_bytes();
        whole.extend_from_slice(body);
        Self { whole: whole.into(), body_at }
    }
}

fn header<'a>(head: &'a [u8], wanted: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

/// The next message, or nothing if the connection ends before it begins. What was read beyond it stays in `buffer`.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Option<Message>> {
    loop {
        if let Some((body_at, end)) = extent(buffer)?
            && buffer.len() >= end
        {
            return Ok(Some(Message { whole: buffer.split_to(end).freeze(), body_at }));
        }
        if buffer.len() > MAX_MESSAGE_BYTES {
            return Err(io::Error::other("the message is too large"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Where a message's body begins and ends, once its head is there.
fn extent(buffer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(head) = buffer.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
        return Ok(None);
    };
    let body_at = head + HEAD_END.len();
    if header(&buffer[..body_at], "transfer-encoding").is_some() {
        return Err(io::Error::other("the body is chunked"));
    }
    let length = match header(&buffer[..body_at], "content-length") {
        Some(text) => text.parse::<usize>().map_err(|_| io::Error::other("the length is no number"))?,
        None => 0,
    };
    Ok(Some((body_at, body_at.saturating_add(length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_read_one_by_one_and_bodies_replaced() {
        let sent = b"POST / HTTP/1.1\r\nX-Amz-Target: a.PutItem\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
        let (mut stream, mut buffer) = (&sent[..], BytesMut::new());
        let first = read_message(&mut stream, &mut buffer).await.unwrap().unwrap();
        assert_eq!(first.body(), b"abc");
        assert_eq!(first.header("x-amz-target"), Some("a.PutItem"));
        let other = first.with_body(b"longer");
        assert_eq!(other.body(), b"longer");
        assert_eq!(other.header("content-length"), Some("6"));
        assert_eq!(other.header("x-amz-target"), Some("a.PutItem"));
        assert_eq!(read_message(&mut stream, &mut buffer).await.unwrap().unwrap().body(), b"");
        assert!(read_message(&mut stream, &mut buffer).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_ends_within_a_message_is_an_error() {
        let (mut stream, mut buffer) =
            (&b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab"[..], BytesMut::new());
        assert!(read_message(&mut stream, &mut buffer).await.is_err());
    }
}
