"""Books a slot, whatever happens to the connection, and waits until it is settled. Python 3.10+, nothing else.

    HOLDFAST_API=http://127.0.0.1:3000 HOLDFAST_KEY=hf_test_consumer_... \
        python3 book.py order-1001 demo-clinic main-street 2028-03-01T09:00:00Z 2028-03-01T09:30:00Z
"""

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request

API = os.environ["HOLDFAST_API"].rstrip("/")
KEY = os.environ["HOLDFAST_KEY"]

CALL_LIMIT_S = 35  # longer than Holdfast waits for a provider, and than a waiting read takes
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20
GIVE_UP_AFTER_S = 10 * 60


def once(method: str, path: str, headers: dict, body: bytes | None):
    """One request: status, headers and body. Raises OSError if there was no answer."""
    request = urllib.request.Request(API + path, data=body, method=method)
    for name, value in {"Authorization": f"Bearer {KEY}", **headers}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=CALL_LIMIT_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:  # any status that is not 2xx
        return error.code, error.headers, error.read()


def is_to_be_repeated(status: int, body: bytes) -> bool:
    """Whether the same request may bring another answer.

    502 and 504 are answers: the provider failed, and the booking is cancelled. A new attempt needs a new key.
    """
    if status in (429, 500, 503):
        return True
    return status == 409 and json.loads(body).get("code") == "request_in_flight"


def call(method: str, path: str, headers: dict, body: bytes | None = None):
    """A request that is repeated until it is answered. What is sent stays the same, byte for byte."""
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    pause_s = FIRST_PAUSE_S
    while True:
        wait_s = random.uniform(pause_s / 2, pause_s)  # so that many callers do not come back all at once
        try:
            status, answer_headers, answer = once(method, path, headers, body)
            if not is_to_be_repeated(status, answer):
                return status, answer_headers, answer
            wait_s = max(wait_s, float(answer_headers.get("Retry-After", 0)))
        except OSError as error:  # no connection, or it was lost: nobody knows how far the request came
            print(f"No answer ({error}); asking again.", file=sys.stderr)
        if time.monotonic() + wait_s > give_up_at:
            sys.exit("Given up. Run this again with the same order: it books nothing twice.")
        time.sleep(wait_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def main() -> None:
    order, provider_id, location_id, start, end = sys.argv[1:]
    wish = {
        "provider_id": provider_id,
        "slot": {"location_id": location_id, "start": start, "end": end},
        "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
        "reference": order,
        "async_confirmation": True,
    }
    # The key is something that is stored with the order, and so the same after a crash. It is not made up here.
    headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{order}"'}
    status, headers, body = call("POST", "/v1/bookings", headers, json.dumps(wish).encode())
    booking = json.loads(body)
    if status >= 400:
        sys.exit(f"{booking['code']}: {booking['detail']}")
    print(f"{booking['id']} is {booking['status']}", flush=True)
    # While it is pending: a read that answers as soon as the booking changes, or after 25 s.
    while booking["status"] == "pending":
        path = f"/v1/bookings/{booking['id']}?wait=25"
        status, _, body = call("GET", path, {"If-None-Match": f'W/"{booking["version"]}"'})
        if status == 200:
            booking = json.loads(body)
        elif status != 304:
            sys.exit(body.decode())
    print(f"{booking['id']} is {booking['status']}")


if __name__ == "__main__":
    main()
