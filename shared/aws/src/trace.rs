//! The trace that a piece of work belongs to, so that what it sends goes on with it: SQS takes the header as an
//! attribute of a message, EventBridge as a member of an event, and both hand it to the function that is called next.

tokio::task_local! {
    static HEADER: String;
}

/// Does a piece of work within a trace, whose header (`X-Amzn-Trace-Id`) this is.
pub async fn within_trace<F: Future>(header: String, work: F) -> F::Output {
    HEADER.scope(header, work).await
}

/// The header of the trace that is being recorded; `None` if none is.
pub(crate) fn trace_header() -> Option<String> {
    HEADER.try_with(Clone::clone).ok()
}
