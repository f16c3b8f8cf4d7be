"""Correction: the permission that a batch call of SQS needs. Addition: what functions may do is written down.

On AWS there is no action `sqs:SendMessageBatch`: a batch call needs the permission of the single call. The
emulator, which enforces functions' policies as AWS does, asks for an action that no policy can name.

Each action that somebody asked for is written into a file once, with whether it was allowed, so that tests can
compare what the functions' code calls with what the template lets them.
"""

import json
import threading

from ministack.core import iam_actions, iam_evaluator

ACTION_OF_BATCH = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


def install(log_path: str) -> None:
    shipped = iam_actions.extract_iam_action

    def extract(*args, **kwargs):
        action = shipped(*args, **kwargs)
        return ACTION_OF_BATCH.get(action, action)

    iam_actions.extract_iam_action = extract
    write_down(log_path)


def write_down(log_path: str) -> None:
    """Has every decision on what a role may do written into a file once, a JSON object a line."""
    shipped = iam_evaluator.evaluate
    shipped_of_resource = iam_evaluator.evaluate_resource_policy
    known = set()
    lock = threading.Lock()
    # A resource's own policy is judged by the same function, and says nothing of what the role may do.
    judging = threading.local()

    def evaluate(ctx, *args, **kwargs):
        result = shipped(ctx, *args, **kwargs)
        decision = (ctx.principal_arn, ctx.action, ctx.resource_arn, result.decision)
        with lock:
            if decision not in known and not getattr(judging, "a_resource", False):
                known.add(decision)
                with open(log_path, "a", encoding="utf-8") as log:
                    names = ("principal", "action", "resource", "decision")
                    log.write(json.dumps(dict(zip(names, decision))) + "\n")
        return result

    def evaluate_resource_policy(*args, **kwargs):
        judging.a_resource = True
        try:
            return shipped_of_resource(*args, **kwargs)
        finally:
            judging.a_resource = False

    iam_evaluator.evaluate = evaluate
    iam_evaluator.evaluate_resource_policy = evaluate_resource_policy
