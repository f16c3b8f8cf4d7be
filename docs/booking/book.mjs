// Books a slot, whatever happens to the connection, and waits until it is settled. Node 20+, nothing else.
//
//     HOLDFAST_API=http://127.0.0.1:3000 HOLDFAST_KEY=hf_test_consumer_... \
//         node book.mjs order-1001 demo-clinic main-street 2028-03-01T09:00:00Z 2028-03-01T09:30:00Z

import { setTimeout as sleep } from "node:timers/promises";

const { HOLDFAST_API: API, HOLDFAST_KEY: KEY } = process.env;

const CALL_LIMIT_MS = 35_000; // longer than Holdfast waits for a provider, and than a waiting read takes
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 20_000;
const GIVE_UP_AFTER_MS = 10 * 60_000;

function stop(message) {
  console.error(message);
  process.exit(1);
}

/** One request. Throws if there was no answer. */
async function once(method, path, headers, body) {
  const answer = await fetch(API + path, {
    method,
    body,
    headers: { Authorization: `Bearer ${KEY}`, ...headers },
    signal: AbortSignal.timeout(CALL_LIMIT_MS),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text ? JSON.parse(text) : null };
}

/**
 * Whether the same request may bring another answer. 502 and 504 are answers: the provider failed, and the booking is
 * cancelled. A new attempt needs a new key.
 */
const isToBeRepeated = ({ status, body }) =>
  [429, 500, 503].includes(status) || (status === 409 && body.code === "request_in_flight");

/** A request that is repeated until it is answered. What is sent stays the same, byte for byte. */
async function call(method, path, headers, body) {
  const giveUpAt = Date.now() + GIVE_UP_AFTER_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    let waitMs = pauseMs * (0.5 + Math.random() / 2); // so that many callers do not come back all at once
    try {
      const answer = await once(method, path, headers, body);
      if (!isToBeRepeated(answer)) return answer;
      waitMs = Math.max(waitMs, 1_000 * Number(answer.headers.get("Retry-After") ?? 0));
    } catch (error) {
      // No connection, or it was lost: nobody knows how far the request came.
      console.error(`No answer (${error.cause?.code ?? error.message}); asking again.`);
    }
    if (Date.now() + waitMs > giveUpAt) stop("Given up. Run this again with the same order: it books nothing twice.");
    await sleep(waitMs);
  }
}

const [order, provider_id, location_id, start, end] = process.argv.slice(2);
const wish = JSON.stringify({
  provider_id,
  slot: { location_id, start, end },
  customer: { name: "Ada Lovelace", email: "ada@example.com" },
  reference: order,
  async_confirmation: true,
});
// The key is something that is stored with the order, and so the same after a crash. It is not made up here.
const headers = { "Content-Type": "application/json", "Idempotency-Key": `"${order}"` };
let answer = await call("POST", "/v1/bookings", headers, wish);
if (answer.status >= 400) stop(`${answer.body.code}: ${answer.body.detail}`);
let booking = answer.body;
console.log(`${booking.id} is ${booking.status}`);
// While it is pending: a read that answers as soon as the booking changes, or after 25 s.
while (booking.status === "pending") {
  answer = await call("GET", `/v1/bookings/${booking.id}?wait=25`, { "If-None-Match": `W/"${booking.version}"` });
  if (answer.status === 200) booking = answer.body;
  else if (answer.status !== 304) stop(JSON.stringify(answer.body));
}
console.log(`${booking.id} is ${booking.status}`);
