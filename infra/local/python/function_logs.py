"""Addition: what a function prints also goes to a file of its own, as it is printed.

CloudWatch Logs, as emulated, gets the lines only when an invocation ends. The files are for people who
follow a running stack; tests and code read CloudWatch Logs.
"""

import os
import threading

from ministack.core import lambda_runtime


def log_name(function_name: str, stack_name: str) -> str:
    """The file name for a function, without the stack's name."""
    return f"{function_name.removeprefix(f'{stack_name}-')}.log"


class _Tee:
    """A function's output, each line copied to a file on its way to the emulator."""

    def __init__(self, stream, sink, lock):
        self._stream = stream
        self._sink = sink
        self._lock = lock

    def readline(self) -> bytes:
        line = self._stream.readline()
        if line:
            with self._lock:
                self._sink.write(line)
        return line

    def close(self) -> None:
        self._stream.close()
        self._sink.close()


def install(directory: str, stack_name: str) -> None:
    """Copies every function's output to `directory`; several workers of one function share a file."""
    os.makedirs(directory, exist_ok=True)
    lock = threading.Lock()
    shipped = lambda_runtime.ProvidedWorker._pump_output

    def pump(self, stream, log_queue):
        path = os.path.join(directory, log_name(self.func_name, stack_name))
        # Unbuffered and appending: one write per line, so that workers never mix their lines.
        sink = open(path, "ab", buffering=0)
        return shipped(self, _Tee(stream, sink, lock), log_queue)

    lambda_runtime.ProvidedWorker._pump_output = pump
