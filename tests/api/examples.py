"""Runs the programs of docs/booking against a local stack, over a connection that loses answers."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import urllib.request
from datetime import datetime, timedelta, timezone

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs" / "booking"
BUILD_LIMIT_S = 900
PROGRAM_LIMIT_S = 240
CONNECTION_LIMIT_S = 60
LOST_ANSWERS = 2


class LossyProxy:
    """Passes requests on, one a connection, and cuts the first connections when the answer has come."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.lost = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        client.settimeout(CONNECTION_LIMIT_S)
        with client, socket.create_connection(self.target, CONNECTION_LIMIT_S) as server:
            forth = threading.Thread(target=pump, args=(client, server), daemon=True)
            forth.start()
            first = server.recv(65_536)
            with self.lock:
                is_lost = self.lost < LOST_ANSWERS
                self.lost += is_lost
            if is_lost:
                # A reset, not an orderly end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                return
            client.sendall(first)
            pump(server, client)

    def close(self) -> None:
        self.listener.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def tell(url: str, method: str, body: dict | None = None) -> None:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=CONNECTION_LIMIT_S).close()


def live_bookings(simulator: str, provider: str, location: str) -> list:
    with urllib.request.urlopen(
        f"{simulator}/control/bookings?provider_id={provider}", timeout=CONNECTION_LIMIT_S
    ) as answer:
        found = json.load(answer)["data"]
    return [b for b in found if b["slot"]["location_id"] == location and b["status"] in ("confirmed", "reserved")]


def rust_program() -> str:
    """Builds the program in Rust, and says where it is."""
    command = ["cargo", "build", "--locked", "--quiet", "--package=holdfast-client", "--example=book"]
    built = subprocess.run(
        [*command, "--message-format=json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=BUILD_LIMIT_S, check=True,
    )
    artifacts = (json.loads(line) for line in built.stdout.splitlines())
    return next(path for artifact in artifacts if (path := artifact.get("executable")))


def try_program(command: list[str], stack: dict, number: int) -> None:
    """Books with a program, over lost answers, at a provider that fails at first."""
    provider, location, simulator = "demo-clinic", f"branch-{number}", stack["provider_simulator_url"]
    behaviour = f"{simulator}/control/locations/{location}/behaviour"
    tell(behaviour, "PUT", {"status": 503})
    recovery = threading.Timer(4, tell, (behaviour, "DELETE"))
    recovery.start()
    host, port = stack["api_url"].removeprefix("http://").split(":")
    proxy = LossyProxy(host, int(port))
    start = (datetime.now(timezone.utc) + timedelta(days=30)).replace(minute=0, second=0, microsecond=0)
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (start, start + timedelta(minutes=30))]
    env = os.environ | {"HOLDFAST_API": proxy.url, "HOLDFAST_KEY": stack["consumer_key"]}
    try:
        done = subprocess.run(
            [*command, f"order-{number}", provider, location, *times],
            env=env, capture_output=True, text=True, timeout=PROGRAM_LIMIT_S, check=False,
        )
    finally:
        proxy.close()
        recovery.join()
    last = done.stdout.splitlines()[-1:]
    live = live_bookings(simulator, provider, location)
    assert done.returncode == 0 and last and last[0].endswith(" is confirmed"), f"{command}: {done}"
    assert proxy.lost == LOST_ANSWERS, f"{command}: {proxy.lost} answers were lost"
    assert len(live) == 1, f"{command}: the provider has {live}"
    print(f"{pathlib.Path(command[-1]).name}: {last[0]}, over {LOST_ANSWERS} lost answers; the provider has one booking")


def run(stack: dict, python: str, node: str) -> None:
    """Tries all of them."""
    programs = [[python, str(DOCS / "book.py")], [node, str(DOCS / "book.mjs")], [rust_program()]]
    if shutil.which("curl"):
        programs.append(["bash", str(DOCS / "book.sh")])
    else:
        print("curl is not installed here; book.sh is skipped")
    for number, command in enumerate(programs):
        try_program(command, stack, number)
