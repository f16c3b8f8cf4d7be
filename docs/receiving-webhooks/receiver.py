"""Receives Holdfast's webhooks: checks who sent them, works on each once, and keeps the newest of each booking.

    pip install -r requirements.txt
    WEBHOOK_SECRET=whsec_... python receiver.py

PORT is 8080 unless set (0: a free one). DATABASE is a file of SQLite; without it nothing is kept.
"""

import json
import os
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

MAX_BODY_BYTES = 1024 * 1024

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
database = sqlite3.connect(os.environ.get("DATABASE", ":memory:"), check_same_thread=False)
one_at_a_time = threading.Lock()

with database:
    database.execute("CREATE TABLE IF NOT EXISTS seen (webhook_id TEXT PRIMARY KEY)")
    database.execute(
        "CREATE TABLE IF NOT EXISTS bookings (id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL)"
    )


def take(webhook_id, event):
    """Works on an event, once. What says that it is done is written together with what was done."""
    with one_at_a_time, database:
        # An event may come twice: the sender did not hear of the answer, or it was replayed.
        if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (webhook_id,)).rowcount == 0:
            return
        # Events about webhook endpoints have no booking.
        if not event["type"].startswith(("booking.", "provider.")):
            return
        # Events may overtake each other: an older version never takes the place of a newer one.
        booking = event["data"]
        database.execute(
            "INSERT INTO bookings VALUES (:id, :version, :status)"
            " ON CONFLICT (id) DO UPDATE SET version = excluded.version, status = excluded.status"
            " WHERE excluded.version > version",
            {name: booking[name] for name in ("id", "version", "status")},
        )


def known():
    with one_at_a_time:
        events = database.execute("SELECT count(*) FROM seen").fetchone()[0]
        rows = database.execute("SELECT id, version, status FROM bookings").fetchall()
    return {"events": events, "bookings": {id: {"version": version, "status": status} for id, version, status in rows}}


class Receiver(BaseHTTPRequestHandler):
    # A client that stops half-way gives its thread back.
    timeout = 15

    def do_POST(self):
        try:
            length = int(self.headers.get("content-length", 0))
        except ValueError:
            return self.answer(400)
        if not 0 <= length <= MAX_BODY_BYTES:
            return self.answer(413)
        # The signature is over the bytes as they came, so they are checked before anything reads them.
        body = self.rfile.read(length)
        try:
            event = webhook.verify(body, dict(self.headers))
        except Exception:  # The library raises whatever a malformed header leads to.
            return self.answer(401)
        take(self.headers["webhook-id"], event)
        # Answer within 15 seconds: what takes longer belongs into a queue of your own.
        return self.answer(204)

    def do_GET(self):
        self.answer(200, json.dumps(known()).encode())

    def answer(self, status, body=b""):
        self.send_response(status)
        if body:
            self.send_header("content-type", "application/json")
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
