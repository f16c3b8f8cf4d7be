// The same as the plain Rust function, as Powertools for AWS Lambda says to write it: its idempotency does the two
// conditional writes, and answers a repeated request with what was answered first.
//
// It checks no key, no limit and no field, keeps no history and logs nothing.

import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { DynamoDBPersistenceLayer } from "@aws-lambda-powertools/idempotency/dynamodb";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";

const FOURTEEN_DAYS_S = 14 * 86_400;

const providerUrl = process.env.PROVIDER_URL;
const persistenceStore = new DynamoDBPersistenceLayer({
  tableName: process.env.TABLE_NAME,
  awsSdkV3Client: new DynamoDBClient({ endpoint: process.env.AWS_ENDPOINT_URL }),
});
const config = new IdempotencyConfig({
  eventKeyJmesPath: 'headers."idempotency-key"',
  expiresAfterSeconds: FOURTEEN_DAYS_S,
});

async function book(event) {
  const key = event.headers["idempotency-key"];
  const wanted = JSON.parse(event.body);
  const answer = await fetch(`${providerUrl}/bookings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      booking_id: key,
      operation: 1,
      slot: wanted.slot,
      customer: wanted.customer,
      reference: wanted.reference,
      metadata: {},
      units: [],
      hold: false,
      attempt: 1,
    }),
    signal: AbortSignal.timeout(2_500),
  });
  if (!answer.ok) throw new Error(`the provider answered ${answer.status}`);
  const said = await answer.json();
  const view = {
    id: key,
    status: said.status,
    provider_reference: said.provider_reference,
    slot: wanted.slot,
    customer: wanted.customer,
  };
  return {
    statusCode: 201,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(view),
  };
}

export const handler = makeIdempotent(book, { persistenceStore, config });
