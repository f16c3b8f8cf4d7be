"""How Lambda reads the answer of a function that reports partial batch failures.

Shared by the corrections of the queue and the stream mapping. It knows nothing of the emulator.
"""

import json


def reports_failures(mapping: dict) -> bool:
    """Whether the event source mapping asks for partial failures at all."""
    return "ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or [])


def failed_identifiers(body, known: set[str]) -> set[str]:
    """The identifiers the answer names as failed; all of `known` where it is not a valid answer.

    As on AWS: no answer and an empty list are success; what cannot be read, and an empty or unknown
    identifier, fail the whole batch.
    """
    if isinstance(body, (bytes, str)):
        if not body.strip():
            return set()
        try:
            body = json.loads(body)
        except ValueError:
            return known
    if body is None or body == {}:
        return set()
    if not isinstance(body, dict):
        return known
    failures = body.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list):
        return known
    failed = set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if identifier not in known:
            return known
        failed.add(identifier)
    return failed
