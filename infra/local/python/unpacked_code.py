"""Correction: hashes a function's package once, not at every start of one of its processes.

As shipped, the emulator finds the folder that a package was unpacked into by the package's SHA-256. For ten megabytes
that is tens of milliseconds of processor time for each process, so that a burst of requests, which starts as many,
holds up everything else. Which folder is found does not change.
"""

import os
import threading
from collections.abc import Callable

from ministack.services import lambda_svc


def known_by_identity(unpacked: Callable[[bytes], str]) -> Callable[[bytes], str]:
    """Finds the folder of a package that is asked for again without asking `unpacked`."""
    # By the package's identity, with the package itself, so that no other can have that identity meanwhile. What a
    # redeployment replaces stays in memory until the emulator ends.
    folders: dict[int, tuple[bytes, str]] = {}
    unpacking = threading.Lock()

    def folder(code_zip: bytes) -> str:
        with unpacking:
            known = folders.get(id(code_zip))
            # A reset of the emulator removes its folders.
            if known and os.path.isdir(known[1]):
                return known[1]
            found = unpacked(code_zip)
            folders[id(code_zip)] = (code_zip, found)
            return found

    return folder


def install() -> None:
    lambda_svc._provided_runtime_code_dir = known_by_identity(lambda_svc._provided_runtime_code_dir)
