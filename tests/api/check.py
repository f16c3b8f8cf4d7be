"""Starts a local stack, runs the programs of docs/booking against it, and holds the API against its own description
with schemathesis.

Run it with the Python of an environment that has schemathesis. The environment variable NODE says where Node is, if it
is not on the path; what is given beyond that goes to schemathesis.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import examples

HERE = pathlib.Path(__file__).resolve().parent
START_LIMIT_S = 600
STOP_LIMIT_S = 60
LOOK_AGAIN_S = 0.2


def started(stack: subprocess.Popen, file: pathlib.Path) -> dict:
    """Where the stack is, once it is ready."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if file.exists():
            return json.loads(file.read_text())
        if stack.poll() is not None:
            sys.exit(f"The local stack ended with {stack.returncode}.")
        time.sleep(LOOK_AGAIN_S)
    sys.exit("The local stack did not start in time.")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        ports = [f"--{name}-port=0" for name in ("api", "simulator", "inbox", "aws")]
        command = ["cargo", "local", "--until-stdin-closes", f"--state-dir={folder}", *ports]
        stack = subprocess.Popen(command, cwd=HERE.parent.parent, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            known = started(stack, pathlib.Path(folder) / "stack.json")
            examples.run(known, sys.executable, os.environ.get("NODE", "node"))
            keys = {
                "HOLDFAST_ADMIN_KEY": known["admin_key"],
                "HOLDFAST_CONSUMER_KEY": known["consumer_key"],
                "HOLDFAST_PROVIDER_KEY": next(iter(known["provider_keys"].values())),
            }
            schemathesis = pathlib.Path(sys.executable).parent / "schemathesis"
            description = known["api_url"] + "/v1/openapi.json"
            tried = subprocess.run(
                [schemathesis, "--config-file", HERE / "schemathesis.toml", "run", description, *sys.argv[1:]],
                cwd=folder,
                env=os.environ | keys,
                check=False,
            )
            return tried.returncode
        finally:
            stack.stdin.close()
            try:
                stack.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                stack.kill()


if __name__ == "__main__":
    sys.exit(main())
