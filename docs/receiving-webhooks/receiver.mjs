// Receives Holdfast's webhooks: checks who sent them, works on each once, and keeps the newest of each booking.
//
//     npm ci
//     WEBHOOK_SECRET=whsec_... node receiver.mjs
//
// PORT is 8080 unless set (0: a free one).

import { createServer } from "node:http";
import process from "node:process";
import { Webhook } from "standardwebhooks";

const MAX_BODY_BYTES = 1024 * 1024;

const webhook = new Webhook(process.env.WEBHOOK_SECRET);

// In memory, to be short. In a database, write both in one transaction: what says that an event is done,
// together with what was done.
const seen = new Set();
const bookings = new Map();

/** Works on an event, once. */
function take(webhookId, event) {
  // An event may come twice: the sender did not hear of the answer, or it was replayed.
  if (seen.has(webhookId)) return;
  seen.add(webhookId);
  // Events about webhook endpoints have no booking.
  if (!/^(booking|provider)\./.test(event.type)) return;
  // Events may overtake each other: an older version never takes the place of a newer one.
  const { id, version, status } = event.data;
  if (version > (bookings.get(id)?.version ?? 0)) bookings.set(id, { version, status });
}

/** The body as it came, or undefined if it is too large. */
async function bodyOf(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function receive(request, response) {
  if (request.method === "GET") {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ events: seen.size, bookings: Object.fromEntries(bookings) }));
    return;
  }
  const body = await bodyOf(request);
  if (body === undefined) {
    response.writeHead(413).end();
    return;
  }
  let event;
  try {
    // The signature is over the bytes as they came, so they are checked before anything reads them.
    event = webhook.verify(body, request.headers);
  } catch {
    response.writeHead(401).end();
    return;
  }
  take(request.headers["webhook-id"], event);
  // Answer within 15 seconds: what takes longer belongs into a queue of your own.
  response.writeHead(204).end();
}

const server = createServer((request, response) => {
  receive(request, response).catch(() => response.destroy());
});
server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
