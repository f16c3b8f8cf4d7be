"""Tests of the corrections to the emulator, without a running one.

Run with the local stack's Python: `.local/venv-*/bin/python -m unittest discover infra/local/python`.
"""

import collections
import os
import queue
import sys
import tempfile
import time
import unittest
from unittest import mock

from batch_response import failed_identifiers

import queue_mapping
import runtime_latency
import stream_mapping
import unpacked_code

KNOWN = {"1", "2", "3"}


def failures(*identifiers):
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


class BatchResponse(unittest.TestCase):
    def test_no_answer_is_success(self):
        for body in (None, {}, "", b"", "{}", {"batchItemFailures": None}, failures()):
            self.assertEqual(failed_identifiers(body, KNOWN), set(), body)

    def test_named_records_failed(self):
        self.assertEqual(failed_identifiers(failures("2"), KNOWN), {"2"})
        self.assertEqual(
            failed_identifiers('{"batchItemFailures":[{"itemIdentifier":"3"}]}', KNOWN), {"3"}
        )

    def test_an_invalid_answer_fails_the_whole_batch(self):
        invalid = ["not json", [], {"batchItemFailures": "1"}, {"batchItemFailures": [1]}]
        for body in [*invalid, failures(""), failures(None), failures("other"), failures("1", "x")]:
            self.assertEqual(failed_identifiers(body, KNOWN), KNOWN, body)


def record(number: int, age_seconds: float = 0.0) -> dict:
    return {
        "dynamodb": {
            "SequenceNumber": str(number),
            "ApproximateCreationDateTime": time.time() - age_seconds,
        }
    }


def numbers(batch: list[dict]) -> list[int]:
    return [int(entry["dynamodb"]["SequenceNumber"]) for entry in batch]


class Lane(unittest.TestCase):
    """A lane over a function that fails as told."""

    def setUp(self):
        self.esm = {
            "UUID": "mapping",
            "FunctionName": "function",
            "EventSourceArn": "arn",
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "BisectBatchOnFunctionError": True,
            "MaximumRetryAttempts": 1,
        }
        self.calls = []
        self.given_up = []
        self.fails = collections.Counter()
        fakes = {
            "_esms": {"mapping": self.esm},
            "_apply_filter_criteria": lambda batch, _esm: batch,
            "_get_func_record_for_qualifier": lambda _name, _qualifier: ({}, {}),
            "_execute_function": self.invoke,
            "_send_ddb_stream_failure_record": self.give_up,
        }
        for name, fake in fakes.items():
            patch = mock.patch.object(stream_mapping.lambda_svc, name, fake)
            patch.start()
            self.addCleanup(patch.stop)
        # The pauses are not what is tested.
        patch = mock.patch.object(stream_mapping, "FIRST_PAUSE_SECONDS", 0.001)
        patch.start()
        self.addCleanup(patch.stop)
        self.lane = stream_mapping.Lane("mapping")

    def invoke(self, _function, event):
        batch = numbers(event["Records"])
        self.calls.append(batch)
        failed = next((number for number in batch if self.fails[number] > 0), None)
        if failed is None:
            return {"body": failures()}
        self.fails[failed] -= 1
        return {"body": failures(str(failed))}

    def give_up(self, _esm, _function, batch, _arn, _result, condition):
        self.given_up.append((numbers(batch), condition))

    def process(self, *records):
        self.lane._process(list(records))

    def test_what_comes_before_a_failure_is_not_sent_again(self):
        self.fails[3] = 1
        self.process(*map(record, (1, 2, 3, 4)))
        self.assertEqual(self.calls, [[1, 2, 3, 4], [3, 4]])

    def test_a_record_that_always_fails_is_isolated_and_given_up(self):
        self.fails[1] = sys.maxsize
        self.process(*map(record, (1, 2, 3, 4)))
        self.assertEqual(self.calls, [[1, 2, 3, 4], [1, 2], [1], [1], [2], [3, 4]])
        self.assertEqual(self.given_up, [([1], "RetryAttemptsExhausted")])

    def test_without_limits_a_record_is_tried_until_it_is_done(self):
        self.esm["MaximumRetryAttempts"] = -1
        self.fails[1] = 20
        with mock.patch.object(stream_mapping, "LAST_PAUSE_SECONDS", 0.001):
            self.process(record(1))
        self.assertEqual(len(self.calls), 21)
        self.assertEqual(self.given_up, [])

    def test_a_record_past_its_age_is_given_up(self):
        self.esm["MaximumRetryAttempts"] = -1
        self.esm["MaximumRecordAgeInSeconds"] = 60
        self.fails[1] = sys.maxsize
        self.process(record(1, age_seconds=61))
        self.assertEqual(self.given_up, [([1], "MaxRecordAgeExceeded")])

    def test_a_function_error_fails_the_batch(self):
        outcome = {"error": True, "body": {"errorMessage": "crashed"}}
        with mock.patch.object(stream_mapping.lambda_svc, "_execute_function", lambda *_: outcome):
            self.process(record(1), record(2))
        self.assertEqual([given_up for given_up, _condition in self.given_up], [[1], [2]])


class Queue(unittest.TestCase):
    def run_batch(self, result):
        esm = {"UUID": "mapping", "FunctionResponseTypes": ["ReportBatchItemFailures"]}
        batch = [{"id": "1", "receipt_handle": "h1"}, {"id": "2", "receipt_handle": "h2"}]
        event = {
            "Records": [
                {"messageId": entry["id"], "receiptHandle": entry["receipt_handle"]}
                for entry in batch
            ]
        }
        with (
            mock.patch.object(queue_mapping.lambda_svc, "_execute_function", lambda *_: result),
            mock.patch.object(queue_mapping.sqs, "_delete_messages_for_esm") as delete,
        ):
            queue_mapping.run_batch(esm, {}, event, batch, "url", "name")
        return [set(call.args[1]) for call in delete.call_args_list]

    def test_only_what_was_handled_is_deleted(self):
        self.assertEqual(self.run_batch({"body": failures("2")}), [{"h1"}])
        self.assertEqual(self.run_batch({"body": None}), [{"h1", "h2"}])

    def test_nothing_is_deleted_without_a_valid_answer(self):
        self.assertEqual(self.run_batch({"body": "garbage"}), [set()])
        self.assertEqual(self.run_batch({"error": True, "body": {}}), [])

    def received(self, *messages):
        """How many messages a mapping gets from a queue with these, and whether the queue was gone through."""
        gone_through = []

        def shipped(_url, max_number):
            gone_through.append(True)
            return list(messages)[:max_number]

        with mock.patch.object(queue_mapping.sqs, "_get_q", lambda _url: {"messages": list(messages)}):
            receive = queue_mapping.look_only_where_something_is_due(shipped)
            return len(receive("url", 10)), bool(gone_through)

    def test_a_queue_is_gone_through_when_something_is_due(self):
        later, due, without_a_time = {"visible_at": time.time() + 60}, {"visible_at": time.time()}, {}
        self.assertEqual(self.received(), (0, False))
        self.assertEqual(self.received(later, later), (0, False))
        self.assertEqual(self.received(later, due), (2, True))
        self.assertEqual(self.received(without_a_time), (1, True))


class Waiting(unittest.TestCase):
    def waited_for(self, maxsize, timeout):
        with mock.patch.object(queue.Queue, "get") as get:
            runtime_latency._Queue(maxsize=maxsize).get(timeout=timeout)
        return get.call_args.args[1]

    def test_an_invocation_alone_is_waited_for_longer(self):
        self.assertEqual(self.waited_for(1, 0.1), runtime_latency.LOOK_AGAIN_SECONDS)
        self.assertIsNone(self.waited_for(1, None))
        self.assertEqual(self.waited_for(0, 0.003), 0.003)


class UnpackedCode(unittest.TestCase):
    def setUp(self):
        self.unpacked = []

    def unpack(self, code_zip):
        self.unpacked.append(code_zip)
        return tempfile.mkdtemp(dir=self.folder)

    def test_a_package_is_unpacked_once_and_again_when_its_folder_is_gone(self):
        with tempfile.TemporaryDirectory() as self.folder:
            folder = unpacked_code.known_by_identity(self.unpack)
            first, other = b"one package", b"another"
            one = folder(first)
            self.assertEqual(folder(first), one)
            self.assertNotEqual(folder(other), one)
            os.rmdir(one)
            self.assertTrue(os.path.isdir(folder(first)))
        self.assertEqual(self.unpacked, [first, other, first])


if __name__ == "__main__":
    unittest.main()
