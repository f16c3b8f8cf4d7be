"""Starts the AWS emulator for the local stack, with the corrections that Holdfast's promises need.

The emulator (ministack) runs in this process, on loopback only; its settings come from the environment
that `cargo local` hands over. This file does not deploy anything: deploy.py does.

The process ends when its standard input closes. `cargo local` holds the other end of that pipe, so the
emulator and its functions end with it however it ends, even when it is killed outright.
"""

import importlib.metadata
import os
import subprocess
import sys
import threading
import time

# The corrections replace private parts of the emulator, so that only this version is known to fit.
SUPPORTED_VERSION = "1.5.33"

# How long functions have to end by themselves before they are killed.
STOP_LIMIT_SECONDS = 2.0


def check_version() -> None:
    """Refuses any emulator but the one the corrections were written for."""
    installed = importlib.metadata.version("ministack")
    if installed != SUPPORTED_VERSION:
        sys.exit(
            f"launcher.py corrects ministack {SUPPORTED_VERSION}, but {installed} is installed: "
            "read the corrections beside the new source before raising SUPPORTED_VERSION"
        )


def stop() -> None:
    """Ends the functions, then this process."""
    from ministack.core import lambda_runtime

    # Copies, because invocations go on adding workers meanwhile; a function that starts after this ends
    # by itself when its Runtime API is gone.
    pools = list(lambda_runtime._workers.values())
    functions = [worker._proc for pool in pools for worker in list(pool) if worker._proc]
    for function in functions:
        function.terminate()
    deadline = time.monotonic() + STOP_LIMIT_SECONDS
    for function in functions:
        try:
            function.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            function.kill()
    os._exit(0)


def end_with_parent() -> None:
    """Watches standard input on a thread of its own and stops everything at its end."""

    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        stop()

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def main() -> None:
    check_version()
    end_with_parent()

    import function_logs
    import permissions
    import queue_mapping
    import runtime_latency
    import stream_mapping
    import unpacked_code
    from ministack import app

    # The emulator has read its own level by now; a function takes its level from the template alone.
    os.environ.pop("LOG_LEVEL", None)
    runtime_latency.install()
    function_log_dir = os.environ.pop("FUNCTION_LOG_DIR")
    function_logs.install(function_log_dir, os.environ.pop("STACK_NAME"))
    permissions.install(os.path.join(os.path.dirname(function_log_dir), "permissions.log"))
    queue_mapping.install()
    stream_mapping.install()
    unpacked_code.install()
    app.main()


if __name__ == "__main__":
    main()
