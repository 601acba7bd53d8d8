"""How much a sandboxed detector may take, and how much it may say."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
GIB: Final = 1 << 30
MAX_MESSAGE: Final = 4096
"""Bytes of a message between the host and a nursery."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one detector's process. Wall-clock time is the manifest's, for each call.

    Attributes:
        memory: bytes of address space beyond what the engine takes when it is loaded.
        tmp_bytes, tmp_files: of the private /tmp, and of /dev/shm.
        threads: at once; a detector is one process.
        open_files: at once.
        cpu_seconds: over all calls and threads; None is derived from the manifest's time limit.
        output: bytes on stdout and stderr together, in its life.
        frames, sent: frames and bytes that it may send in one call.
        answered: bytes that it may be answered in one call.
        conversations: of one question.
        replies: sampled replies of one question, and the most tokens of one.
        start: seconds in which the sandbox has to be ready.
    """

    memory: int = 4 * GIB
    tmp_bytes: int = 256 * MIB
    tmp_files: int = 4096
    threads: int = 64
    open_files: int = 256
    cpu_seconds: int | None = None
    output: int = MIB
    frames: int = 200_000
    sent: int = 4 * GIB
    answered: int = 64 * GIB
    conversations: int = 50_000
    replies: int = 4096
    start: float = 300.0

    def cpu(self, seconds: float) -> int:
        """CPU seconds of a detector whose manifest allows so many seconds for each call."""
        if self.cpu_seconds is not None:
            return self.cpu_seconds
        # A life is a construction, a fit, and a handful of scores, each of which may take them all.
        return math.ceil(8 * seconds * (os.cpu_count() or 1))
