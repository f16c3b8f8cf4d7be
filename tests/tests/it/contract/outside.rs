//! Providers and receivers, where what is tested is on this side of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use holdfast_app::ports::{
    AttemptReport, CompensationCall, CompensationReport, NotificationCall, NotificationReport, PostOutcome,
    ProviderCall, ProviderGateway, WebhookPost, WebhookSender,
};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, CompensationOutcome, LookUpOutcome,
};

/// What one of them was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An attempt that the provider answered.
    Attempt,
    /// One that it let pass in silence, for as long as it was waited for.
    AttemptInVain {
        limit_ms: u64,
    },
    LookUp,
    Compensation,
    Notification,
    Post,
}

/// They agree to everything at once, unless a provider is told what to answer next. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    answers: Arc<Mutex<VecDeque<AttemptOutcome>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Outside {
    /// What the provider answers to the next attempt for which nothing is set.
    pub(crate) fn next(&self, outcome: AttemptOutcome) {
        self.answers.lock().unwrap().push_back(outcome);
    }

    /// What they were asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The same; they forget it.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }
}

impl ProviderGateway for Outside {
    async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let acknowledgement =
            Acknowledgement { provider_reference: Some("4711".to_owned()), reserved_until: None };
        let answer = self.answers.lock().unwrap().pop_front();
        let outcome = answer.unwrap_or(AttemptOutcome::Acknowledged(acknowledgement));
        self.note(match outcome {
            AttemptOutcome::Unknown(AttemptError::TimedOut) => {
                Asked::AttemptInVain { limit_ms: call.limit_ms }
            }
            _ => Asked::Attempt,
        });
        AttemptReport { outcome, retry_after_ms: None }
    }

    async fn look_up(&self, _: &ProviderSettings, _: &Booking, _: u64) -> LookUpOutcome {
        self.note(Asked::LookUp);
        LookUpOutcome::NotFound
    }

    async fn compensate(&self, _: CompensationCall<'_>) -> CompensationReport {
        self.note(Asked::Compensation);
        CompensationReport { outcome: CompensationOutcome::Acknowledged, retry_after_ms: None }
    }

    async fn notify(&self, _: NotificationCall<'_>) -> NotificationReport {
        self.note(Asked::Notification);
        NotificationReport { error: None, retry_after_ms: None }
    }
}

impl WebhookSender for Outside {
    async fn post(&self, _: WebhookPost<'_>) -> PostOutcome {
        self.note(Asked::Post);
        PostOutcome::Answered { status: 204, retry_after_ms: None, body: String::new() }
    }
}
