"""The same as the plain Rust function, as Powertools for AWS Lambda says to write it: its idempotency does the two
conditional writes, and answers a repeated request with what was answered first.

It checks no key, no limit and no field, keeps no history and logs nothing.
"""

import json
import os

import boto3
import urllib3
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent,
)

FOURTEEN_DAYS_S = 14 * 86_400

provider_url = os.environ["PROVIDER_URL"]
http = urllib3.PoolManager()
store = DynamoDBPersistenceLayer(
    table_name=os.environ["TABLE_NAME"],
    boto3_client=boto3.client("dynamodb", endpoint_url=os.environ["AWS_ENDPOINT_URL"]),
)
config = IdempotencyConfig(
    event_key_jmespath='headers."idempotency-key"', expires_after_seconds=FOURTEEN_DAYS_S
)


@idempotent(persistence_store=store, config=config)
def handler(event, context):
    key = event["headers"]["idempotency-key"]
    wanted = json.loads(event["body"])
    told = {
        "booking_id": key,
        "operation": 1,
        "slot": wanted["slot"],
        "customer": wanted["customer"],
        "reference": wanted["reference"],
        "metadata": {},
        "units": [],
        "hold": False,
        "attempt": 1,
    }
    answer = http.request(
        "POST",
        f"{provider_url}/bookings",
        body=json.dumps(told),
        headers={"content-type": "application/json"},
        timeout=2.5,
        retries=False,
    )
    if answer.status not in (200, 201):
        raise RuntimeError(f"the provider answered {answer.status}")
    said = json.loads(answer.data)
    view = {
        "id": key,
        "status": said["status"],
        "provider_reference": said["provider_reference"],
        "slot": wanted["slot"],
        "customer": wanted["customer"],
    }
    return {
        "statusCode": 201,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(view),
    }
