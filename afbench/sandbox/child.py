"""What runs inside a sandbox, until it hands over to the detector's code.

Either one process that serves one detector on its standard input and output (`serve`), or a nursery
that loads the engine once and forks a process with namespaces of its own for each (`nursery`). The
nursery itself never runs a detector's code.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

import afbench
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.catalog.manifests import Limits as TimeLimits
from afbench.detection.detector import Detector
from afbench.detection.guard import checked_choices, checked_scores
from afbench.detection.loading import detector_factory
from afbench.sandbox import confine
from afbench.sandbox.faults import failure, fault_of
from afbench.sandbox.limits import Limits
from afbench.sandbox.packing import Arrays, put_state, take_cases, take_state
from afbench.sandbox.protocol import FROM_HOST, Buffered, Ended, Frame, encoded, receive, written
from afbench.sandbox.remote_handle import Handles, handles_of

# What torch imports when something is first trained with it.
_TRAINING: Final = "torch._dynamo"


class Wire:
    """Frames over two descriptors; waits for as long as it takes."""

    def __init__(self, read: int, write: int) -> None:
        self._write = write
        self._source = Buffered(lambda view: os.readv(read, [view]))

    def receive(self) -> Frame:
        """The next frame of the host."""
        return receive(self._source, FROM_HOST)

    def send(self, frame: Frame) -> None:
        """Write a frame whole."""
        written(lambda parts: os.writev(self._write, parts), encoded(frame))


class Service:
    """Serves one detector: what the host calls it does, and its questions go to the host."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        self._wire, self._folder = wire, folder
        self._handles: Handles = {}
        self._detector: Detector | None = None
        self._calls: dict[str, Callable[[Frame], Frame]] = {
            "fit": self._fit,
            "score": self._score,
            "explain": self._explain,
            "depends_on": self._depends_on,
            "can_be_saved": self._can_be_saved,
            "state": self._state,
            "load_state": self._load_state,
        }

    def run(self, opening: Frame) -> None:
        """Build the detector, then do what is asked until the host ends it."""
        self._answer(lambda frame: self._open(frame), opening)
        while True:
            frame = self._wire.receive()
            self._answer(self._calls[frame.kind], frame)

    def _answer(self, call: Callable[[Frame], Frame], frame: Frame) -> None:
        try:
            reply = call(frame)
        except Ended:
            raise
        except BaseException as error:  # SystemExit, and whatever a detector derives by itself
            reply = failure(error, self._folder)
        self._wire.send(reply)

    def _open(self, frame: Frame) -> Frame:
        given = frame.body["manifest"]
        self._name = given["name"]
        # Not validated again: the host did, and a saved detector has a name of its own making.
        manifest = DetectorManifest.model_construct(
            name=self._name,
            entry=given["entry"],
            params=given["params"],
            limits=TimeLimits.model_validate(given["limits"]),
        )
        plugin = Plugin(self._name, "detector", self._folder, manifest)
        self._detector = detector_factory(plugin)()
        return Frame("done")

    def _fit(self, frame: Frame) -> Frame:
        cases = self._cases(frame)
        self._built.fit(cases, frame.arrays["labels"])
        return Frame("done", {"trained": _TRAINING in sys.modules})

    def _score(self, frame: Frame) -> Frame:
        cases = self._cases(frame)
        scores = checked_scores(self._name, self._built.score(cases), len(cases))
        return Frame("done", arrays={"scores": scores})

    def _explain(self, frame: Frame) -> Frame:
        return Frame("done", {"chosen": checked_choices(self._name, self._built.explain())})

    def _depends_on(self, frame: Frame) -> Frame:
        return Frame("done", {"text": str(self._built.depends_on())})

    def _can_be_saved(self, frame: Frame) -> Frame:
        return Frame("done", {"flag": bool(self._built.can_be_saved)})

    def _state(self, frame: Frame) -> Frame:
        arrays: Arrays = {}
        put_state(arrays, self._built.state())
        return Frame("done", arrays=arrays)

    def _load_state(self, frame: Frame) -> Frame:
        self._built.load_state(take_state(frame.arrays))
        return Frame("done")

    @property
    def _built(self) -> Detector:
        assert self._detector is not None
        return self._detector

    def _cases(self, frame: Frame) -> list[Any]:
        # Handles of earlier calls stay good: a detector may have kept them.
        self._handles |= handles_of(frame.body, self._ask)
        return take_cases(frame.arrays, self._handles)

    def _ask(self, frame: Frame) -> Frame:
        self._wire.send(frame)
        reply = self._wire.receive()
        if reply.kind != "answer":
            raise fault_of(reply)
        return reply


# -- one detector ----------------------------------------------------------------------------------


def serve(folder: Path, identity: int | None = None) -> None:
    """Serve one detector on standard input and output.

    Args:
        folder: the detector's.
        identity: the user to become; None stays what it is.
    """
    if identity is not None:
        confine.become(identity)
    _preload()  # its address space is the engine's, and not the detector's
    memory = confine.address_space()
    wire = Wire(_moved(0), _moved(1))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # what a detector prints must not stand between frames
    _serve(wire, folder, memory, lambda frame: None)


def _serve(wire: Wire, folder: Path, memory: int, prepare: Callable[[Frame], None]) -> None:
    wire.send(Frame("hello", {"afbench": afbench.__version__}))
    opening = wire.receive()
    prepare(opening)
    limits = Limits(**opening.body["limits"])
    confine.lock(limits, opening.body["cpu_seconds"], memory + limits.memory)
    _use_threads(opening.body["threads"])
    np.random.seed()  # a fork's generator is in its parent's state
    with suppress(Ended):
        Service(wire, folder).run(opening)


def _use_threads(count: int | None) -> None:
    """As many threads as the host computes with: sums round otherwise."""
    if count is not None:
        import torch

        torch.set_num_threads(count)


def _moved(descriptor: int) -> int:
    """The same file under another number."""
    return os.dup(descriptor)


# -- a nursery of them -----------------------------------------------------------------------------


def nursery(identity: int | None = None) -> None:
    """Fork processes for detectors as the host asks over the socket that is standard input.

    Args:
        identity: the user to become; None stays what it is.
    """
    from afbench.sandbox.nursery import Nursery

    if identity is not None:
        confine.become(identity)
    _preload()
    Nursery(_serve_forked, _preload_more).run()


def _serve_forked(read: int, write: int, limits: Limits) -> None:
    """In the first process of new namespaces."""
    confine.enter(limits)
    memory = confine.address_space()

    def prepare(opening: Frame) -> None:
        confine.show(opening.body["detector"])
        confine.hide_processes()

    _serve(Wire(read, write), confine.DETECTOR, memory, prepare)


def _preload() -> None:
    """Import what detectors commonly use: every fork has it then."""
    import torch

    import afbench.detection

    for module in pkgutil.iter_modules(afbench.detection.__path__):
        importlib.import_module(f"afbench.detection.{module.name}")
    for name in (
        "sklearn.covariance",
        "sklearn.ensemble",
        "sklearn.feature_extraction.text",
        "sklearn.linear_model",
        "sklearn.metrics",
        "sklearn.model_selection",
    ):
        importlib.import_module(name)
    # It looks at the processor the first time that it is asked, and in /proc, which forks lack.
    torch.backends.cpu.get_cpu_capability()


def _preload_more() -> None:
    """Import what only some detectors need, and is large."""
    importlib.import_module(_TRAINING)


def main(arguments: Sequence[str]) -> None:
    """The command of a sandbox: `serve FOLDER [IDENTITY]` or `nursery [IDENTITY]`."""
    command, *given = arguments
    if command == "serve":
        serve(Path(given[0]), *map(int, given[1:]))
    else:
        nursery(*map(int, given))


if __name__ == "__main__":
    main(sys.argv[1:])
