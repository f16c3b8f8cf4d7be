//! A request body that proves whether a request was sent.
//!
//! An outcome is "not sent" only if no byte of the request was written, and a time limit that passes while
//! connecting must be told from one that passes a moment later. Nothing outside the connection knows
//! which it was, and asking it would race with it. So the body itself decides: it is handed over at most
//! once, or taken back at most once, and never both.
//!
//! This rests on HTTP/1: its connection asks for the body after it has put the head into its buffer and
//! before it writes any of that buffer, and it drops the buffer if the body fails. With HTTP/2 the head
//! travels first, and this proof would not hold.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const HANDED_OVER: u8 = 1;
const TAKEN_BACK: u8 = 2;

/// The body was taken back before the connection asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request was withdrawn before it was sent")]
pub struct TakenBack;

/// The body. It cannot be copied, so that nobody can send the request a second time.
#[derive(Debug)]
pub struct OnceBody {
    bytes: Option<Bytes>,
    state: Arc<AtomicU8>,
}

/// The sender's side of an [`OnceBody`].
#[derive(Debug)]
pub struct Receipt(Arc<AtomicU8>);

impl OnceBody {
    /// A body and its receipt. An empty body is never asked for, and so counts as handed over.
    pub fn new(bytes: Bytes) -> (Self, Receipt) {
        let state = Arc::new(AtomicU8::new(if bytes.is_empty() { HANDED_OVER } else { WAITING }));
        let bytes = (!bytes.is_empty()).then_some(bytes);
        (Self { bytes, state: Arc::clone(&state) }, Receipt(state))
    }
}

impl Receipt {
    /// Takes the body back. Returns whether that succeeded, which proves that no byte of the request was
    /// or will be written.
    pub fn take_back(self) -> bool {
        swap(&self.0, TAKEN_BACK)
    }
}

fn swap(state: &AtomicU8, to: u8) -> bool {
    state.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl Body for OnceBody {
    type Data = Bytes;
    type Error = TakenBack;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TakenBack>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        let handed_over = swap(&self.state, HANDED_OVER);
        Poll::Ready(Some(if handed_over { Ok(Frame::data(bytes)) } else { Err(TakenBack) }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.bytes.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(body: &mut OnceBody) -> Option<Result<Bytes, TakenBack>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())),
            Poll::Pending => panic!("a body that is in memory never waits"),
        }
    }

    #[test]
    fn what_was_handed_over_cannot_be_taken_back() {
        let (mut body, receipt) = OnceBody::new(Bytes::from_static(b"{}"));
        assert_eq!(poll(&mut body), Some(Ok(Bytes::from_static(b"{}"))));
        assert_eq!(poll(&mut body), None);
        assert!(!receipt.take_back());
    }

    #[test]
    fn what_was_taken_back_is_never_handed_over() {
        let (mut body, receipt) = OnceBody::new(Bytes::from_static(b"{}"));
        assert!(receipt.take_back());
        assert_eq!(poll(&mut body), Some(Err(TakenBack)));
    }

    #[test]
    fn an_empty_body_proves_nothing() {
        let (body, receipt) = OnceBody::new(Bytes::new());
        assert!(body.is_end_stream());
        assert!(!receipt.take_back());
    }
}
