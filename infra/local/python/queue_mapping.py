"""Correction: SQS event source mappings.

The emulator already runs several batches of one mapping at once (up to its MaximumConcurrency) on
threads of their own, so that a function that hangs holds up no other queue. Two things differ from AWS:
a delayed message waits up to a second longer than its delay, and an answer that cannot be read counts as
success, which would delete messages nobody handled. And looking for messages costs the more the more wait for their
time: each booking leaves timers that wait for minutes, and after some hundred bookings this was what the emulator
mostly did.
"""

import threading
import time

from batch_response import failed_identifiers, reports_failures
from ministack.core.concurrency import esm_wake
from ministack.services import lambda_svc, sqs

# How late a delayed message may become visible to its function. One pass over the mappings takes
# microseconds, so this costs next to nothing while idle.
WAKE_INTERVAL_SECONDS = 0.2

# A wake that found nothing delays the next by this much (0.05 as shipped): it bounds idle passes, and it
# is on the way of every booking's events.
IDLE_WAKE_GAP_SECONDS = 0.005

# A mapping whose function failed as a whole pauses, as AWS's pollers back off.
FAILURE_PAUSE_SECONDS = 1.0


def run_batch(esm, func_rec, event, batch, queue_url, queue_name):
    """Invokes the function with one batch and deletes what it handled; the rest becomes visible again."""
    result = lambda_svc._execute_function(func_rec, event)
    if result.get("error"):
        esm["LastProcessingResult"] = "FAILED"
        lambda_svc.logger.warning("batch from %s failed: %s", queue_name, result.get("body"))
        lambda_svc._esm_backoff_until[esm["UUID"]] = time.time() + FAILURE_PAUSE_SECONDS
        return
    lambda_svc._esm_backoff_until.pop(esm["UUID"], None)
    failed = set()
    if reports_failures(esm):
        failed = failed_identifiers(result.get("body"), {message["id"] for message in batch})
    # The event's own handles: a message received again meanwhile has a new one and is not ours to delete.
    handles = {
        record["receiptHandle"] for record in event["Records"] if record["messageId"] not in failed
    }
    seen = {record["messageId"] for record in event["Records"]}
    # What the mapping's filter left out is done without a call.
    handles |= {message["receipt_handle"] for message in batch if message["id"] not in seen}
    sqs._delete_messages_for_esm(queue_url, handles)
    esm["LastProcessingResult"] = f"OK - {len(batch) - len(failed)} records, {len(failed)} failures"


def look_only_where_something_is_due(shipped):
    """A mapping's receiving, which goes through its queue in full only if a message there is due."""

    def receive(queue_url: str, max_number: int) -> list[dict]:
        with sqs._queues_lock:
            now = time.time()
            messages = sqs._get_q(queue_url)["messages"]
            # What came without a time is given one by the emulator. Nothing else is to be done for messages that
            # are not due: it is when they are that they are moved to the dead letters.
            if not any(message.get("visible_at", now) <= now for message in messages):
                return []
        return shipped(queue_url, max_number)

    return receive


def _wake_for_delayed_messages() -> None:
    while True:
        time.sleep(WAKE_INTERVAL_SECONDS)
        esm_wake.set()


def install() -> None:
    lambda_svc._run_sqs_batch = run_batch
    sqs._receive_messages_for_esm = look_only_where_something_is_due(sqs._receive_messages_for_esm)
    lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS = IDLE_WAKE_GAP_SECONDS
    threading.Thread(target=_wake_for_delayed_messages, daemon=True, name="queue-wake").start()
