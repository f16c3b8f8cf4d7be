"""Correction: the permission that a batch call of SQS needs.

On AWS there is no action `sqs:SendMessageBatch`: a batch call needs the permission of the single call. The
emulator, which enforces functions' policies as AWS does, asks for an action that no policy can name.
"""

from ministack.core import iam_actions

ACTION_OF_BATCH = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


def install() -> None:
    shipped = iam_actions.extract_iam_action

    def extract(*args, **kwargs):
        action = shipped(*args, **kwargs)
        return ACTION_OF_BATCH.get(action, action)

    iam_actions.extract_iam_action = extract
