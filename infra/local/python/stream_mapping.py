"""Correction: DynamoDB stream event source mappings.

As shipped, the emulator ignores `batchItemFailures` (failed records count as done), bisection, retry
limits and the parallelization factor, and it waits for one stream's function while queues wait behind it.
This module restores what AWS does:

- records with the same key go to the same lane, in order; there are ParallelizationFactor lanes;
- records before the first failure are checkpointed; the rest is tried again, halved where the mapping
  bisects, with growing pauses;
- MaximumRetryAttempts and MaximumRecordAgeInSeconds give up on a batch, one message per record then
  goes to the on-failure destination, and the lane goes on.

Positions live in memory, as the emulator's tables do.
"""

import collections
import json
import logging
import threading
import time
import zlib

from batch_response import failed_identifiers, reports_failures
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.concurrency import spawn_background
from ministack.core.responses import _request_account_id, _request_region
from ministack.services import dynamodb, lambda_svc

log = logging.getLogger("stream-mapping")

# Records read from a stream in one pass, and records that may wait in one mapping's lanes.
READ_LIMIT = 1000
BACKLOG_LIMIT = 10_000

# The pause before a failed batch is tried again: doubled each time, up to the last.
FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0

# How often a lane looks whether its mapping was enabled again or deleted.
DISABLED_POLL_SECONDS = 0.1

DEFAULT_BATCH_SIZE = 100
WITHOUT_LIMIT = -1


class Lane:
    """One ordered share of a stream: it holds records and hands them to the function in batches."""

    def __init__(self, uuid: str):
        self._uuid = uuid
        self._records = collections.deque()
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    def backlog(self) -> int:
        return len(self._records)

    def add(self, record: dict) -> None:
        with self._changed:
            self._records.append(record)
            self._changed.notify()

    def stop(self) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify()

    def run(self) -> None:
        """Works until the mapping is gone."""
        while not self._stopped.is_set():
            batch = self._next_batch()
            if not batch:
                continue
            try:
                self._process(batch)
            except Exception:
                # Losing a record would hide a fault of this correction as a fault of the product.
                log.exception("a batch of mapping %s was not processed; it is tried again", self._uuid)
                with self._changed:
                    self._records.extendleft(reversed(batch))
                self._stopped.wait(LAST_PAUSE_SECONDS)

    def _next_batch(self) -> list[dict]:
        esm = self._mapping()
        if esm is None:
            return []
        size = int(esm.get("BatchSize") or DEFAULT_BATCH_SIZE)
        with self._changed:
            while not self._records and not self._stopped.is_set():
                self._changed.wait()
            return [self._records.popleft() for _ in range(min(size, len(self._records)))]

    def _mapping(self) -> dict | None:
        """The mapping once it is enabled; None when it is gone."""
        while not self._stopped.is_set():
            esm = lambda_svc._esms.get(self._uuid)
            if esm is None:
                return None
            if esm.get("Enabled", True):
                return esm
            self._stopped.wait(DISABLED_POLL_SECONDS)
        return None

    def _process(self, batch: list[dict]) -> None:
        """Brings a batch to its end: done, or given up and sent to the on-failure destination."""
        waiting = collections.deque([batch])
        failures = 0
        while waiting:
            esm = self._mapping()
            if esm is None:
                return
            batch = lambda_svc._apply_filter_criteria(waiting.popleft(), esm)
            if not batch:
                continue
            function, _config = lambda_svc._get_func_record_for_qualifier(
                esm["FunctionName"], esm.get("Qualifier")
            )
            if function is None:
                raise LookupError(f"the function of mapping {self._uuid} is not there")
            result = lambda_svc._execute_function(function, {"Records": batch})
            first = first_failure(esm, batch, result)
            if first is None:
                esm["LastProcessingResult"] = f"OK - {len(batch)} records"
                failures = 0
                continue
            esm["LastProcessingResult"] = "FAILED"
            if first > 0:
                waiting.appendleft(batch[first:])
                failures = 0
                continue
            if esm.get("BisectBatchOnFunctionError") and len(batch) > 1:
                half = len(batch) // 2
                waiting.extendleft((batch[half:], batch[:half]))
                continue
            failures += 1
            condition = given_up(esm, batch, failures)
            if condition is None:
                waiting.appendleft(batch)
                self._stopped.wait(pause_seconds(failures))
                continue
            for record in batch:
                lambda_svc._send_ddb_stream_failure_record(
                    esm, function, [record], esm["EventSourceArn"], result, condition
                )
            failures = 0


def first_failure(esm: dict, batch: list[dict], result: dict) -> int | None:
    """The index of the first record that is not done; None when all are."""
    if result.get("error"):
        return 0
    if not reports_failures(esm):
        return None
    numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
    failed = failed_identifiers(result.get("body"), set(numbers))
    return next((index for index, number in enumerate(numbers) if number in failed), None)


def given_up(esm: dict, batch: list[dict], failures: int) -> str | None:
    """The condition AWS names when a batch is given up after this many failed tries; None to go on."""
    limit = esm.get("MaximumRetryAttempts")
    if limit is not None and int(limit) != WITHOUT_LIMIT and failures > int(limit):
        return "RetryAttemptsExhausted"
    max_age = esm.get("MaximumRecordAgeInSeconds")
    if max_age is not None and int(max_age) != WITHOUT_LIMIT:
        oldest = min(float(record["dynamodb"]["ApproximateCreationDateTime"]) for record in batch)
        if time.time() - oldest > int(max_age):
            return "MaxRecordAgeExceeded"
    return None


def pause_seconds(failures: int) -> float:
    """The pause after the given number of failures in a row, which is at least one."""
    exponent = min(failures - 1, 16)
    return min(FIRST_PAUSE_SECONDS * 2**exponent, LAST_PAUSE_SECONDS)


class Mapping:
    """Where one mapping stands in its stream, and its lanes."""

    def __init__(self, esm: dict, position: int):
        self.position = position
        factor = int(esm.get("ParallelizationFactor") or 1)
        self.lanes = [Lane(esm["UUID"]) for _ in range(factor)]
        for lane in self.lanes:
            # The thread keeps the account and region of this call, which lookups depend on.
            spawn_background(lane.run, thread_name="stream-lane")

    def read(self, table_name: str) -> bool:
        """Takes new records into the lanes; False when there are none or the lanes are full."""
        if sum(lane.backlog() for lane in self.lanes) >= BACKLOG_LIMIT:
            return False
        # A position behind the trim horizon reads from the horizon, so it has to count from there.
        self.position = max(self.position, dynamodb.stream_start_position(table_name))
        records = dynamodb.stream_records_since(table_name, self.position, READ_LIMIT)
        for record in records:
            keys = json.dumps(record["dynamodb"]["Keys"], sort_keys=True)
            self.lanes[zlib.crc32(keys.encode()) % len(self.lanes)].add(record)
        self.position += len(records)
        return bool(records)

    def stop(self) -> None:
        for lane in self.lanes:
            lane.stop()


_mappings: dict[str, Mapping] = {}


def poll_streams() -> bool:
    """One pass over all stream mappings, never waiting for a function; True when records were read."""
    found = False
    live = set()
    for account, region, esm in lambda_svc._iter_all_esms():
        account_token = _request_account_id.set(account)
        region_token = _request_region.set(region)
        try:
            table_name = stream_table(esm)
            if table_name is None:
                continue
            live.add(esm["UUID"])
            if esm.get("Enabled", True):
                found = mapping_of(esm, table_name).read(table_name) or found
        finally:
            _request_account_id.reset(account_token)
            _request_region.reset(region_token)
    for uuid in _mappings.keys() - live:
        _mappings.pop(uuid).stop()
    return found


def stream_table(esm: dict) -> str | None:
    """The table whose current stream the mapping reads; None for other sources and dropped streams."""
    arn = esm.get("EventSourceArn", "")
    try:
        spec = parse_arn(arn)
    except ArnParseError:
        return None
    if spec.service != "dynamodb":
        return None
    table_and_label = lambda_svc._dynamodb_stream_table_from_arn_spec(spec)
    table = dynamodb._tables.get(table_and_label[0]) if table_and_label else None
    if not table or table.get("LatestStreamArn") != arn:
        return None
    return table_and_label[0]


def mapping_of(esm: dict, table_name: str) -> Mapping:
    """The state of a mapping, made when it is first seen."""
    mapping = _mappings.get(esm["UUID"])
    if mapping is None:
        # The emulator notes the position when a mapping is created, so that LATEST means that moment.
        position = lambda_svc._dynamodb_stream_positions.get(esm["UUID"])
        if position is None:
            at_start = esm.get("StartingPosition") == "TRIM_HORIZON"
            start = dynamodb.stream_start_position if at_start else dynamodb.stream_end_position
            position = start(table_name)
        mapping = _mappings[esm["UUID"]] = Mapping(esm, position)
    return mapping


def install() -> None:
    lambda_svc._poll_dynamodb_streams = poll_streams
