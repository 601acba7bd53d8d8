"""A detector that runs in a sandbox, with the contract of one that runs here."""

from __future__ import annotations

import secrets
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

import afbench
from afbench.cases.case import Case
from afbench.detection.detector import Detector
from afbench.detection.loading import detector_factory
from afbench.detection.state import DetectorState
from afbench.errors import AfbenchError, DetectorError, SandboxError
from afbench.sandbox.answers import Answers
from afbench.sandbox.channel import Late
from afbench.sandbox.choose import Isolation
from afbench.sandbox.faults import fault_of
from afbench.sandbox.packing import Arrays, array_of, put_cases, put_state, take_state
from afbench.sandbox.processes import Process, Sandbox
from afbench.sandbox.protocol import Ended, Frame, broken, plain

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog, Plugin
    from afbench.catalog.manifests import DetectorManifest

DetectorFactory: TypeAlias = "Callable[[Plugin[DetectorManifest]], Callable[[], Detector]]"
"""Gives what makes fresh, unfitted detectors of a plug-in; raises DetectorError where it cannot."""

# Where a time limit is kept by a timer as well (`detection.guard`), that one speaks first.
_GRACE: Final = 0.5
_MAX_TEXT: Final = 10_000


class Session:
    """One instance of a detector in a process of its own.

    Args:
        sandbox: gives the process.
        plugin: the detector.

    Raises:
        DetectorError: it cannot be imported or built.
        SandboxError: the sandbox does not start.
    """

    def __init__(self, sandbox: Sandbox, plugin: Plugin[DetectorManifest]) -> None:
        self._manifest, self._limits = plugin.manifest, sandbox.limits
        self._sandbox = sandbox
        self._answers = Answers(sandbox.limits)
        self._process, number = sandbox.open(plugin.folder)
        self._cpu = self._cpu_seconds()
        self._over: str | None = None
        # A process is ended with its detector, which nobody closes.
        self._end = weakref.finalize(self, _quietly, self._process)
        self._check_version()
        manifest = self._manifest.model_dump(mode="json")
        body = {
            "manifest": {name: manifest[name] for name in ("name", "entry", "params", "limits")},
            "detector": number,
            "limits": asdict(sandbox.limits),
            "cpu_seconds": self._cpu,
            "threads": _threads(),
        }
        # The child holds import and construction to the manifest's limit each.
        seconds = 2 * self._manifest.limits.seconds + sandbox.limits.start
        try:
            self._called(Frame("open", body), seconds)
        except DetectorError:
            raise
        except (AfbenchError, ValueError) as error:
            raise DetectorError(f"detector '{plugin.name}' cannot be built: {error}") from error

    def fit(self, frame: Frame) -> None:
        """As `call`, for what may train networks."""
        reply = self._called(frame, self._manifest.limits.seconds + _GRACE)
        if reply.body.get("trained") is True:
            self._sandbox.prepare()

    def call(
        self, kind: str, body: dict[str, Any] | None = None, arrays: Arrays | None = None
    ) -> Frame:
        """Have the detector do something; its questions are answered meanwhile.

        Raises:
            DetectorError: it took too long, took or said too much, or is gone. It is void then.
            AfbenchError, ValueError: what it raised, or the host did.
        """
        frame = Frame(kind, body or {}, arrays or {})
        return self._called(frame, self._manifest.limits.seconds + _GRACE)

    def numbered(self, cases: Sequence[Case]) -> tuple[dict[str, Any], Arrays]:
        """Cases as a frame's body and arrays, with ids and handles' numbers of this call alone."""
        numbers = self._answers.numbers_of(case.handle for case in cases)
        arrays: Arrays = {}
        ids = [secrets.token_hex(8) for _ in cases]
        put_cases(arrays, cases, ids, [numbers[id(case.handle)] for case in cases])
        described = {
            numbers[id(case.handle)]: (case.handle.n_layers, case.handle.width) for case in cases
        }
        tier = self._manifest.tier
        handles = [[number, *shape, tier] for number, shape in described.items()]
        return {"handles": handles}, arrays

    def _cpu_seconds(self) -> int:
        return self._limits.cpu(self._manifest.limits.seconds)

    def _check_version(self) -> None:
        try:
            self._process.channel.begin(self._limits.start)
            hello = self._process.channel.receive()
            version = plain(hello.body.get("afbench"), 40)
        except (Ended, Late, DetectorError):
            said = self._process.channel.last_words()
            self._process.end(ask=True)
            raise SandboxError(
                f"the sandbox does not start: {said or 'it says nothing'}",
                fix="see docs/decisions/0020-sandbox.md",
            ) from None
        if version != afbench.__version__:
            self._end()
            raise SandboxError(
                f"the sandbox has afbench {version}, and this is {afbench.__version__}",
                fix="build its image anew",
            )

    def _called(self, frame: Frame, seconds: float) -> Frame:
        if self._over is not None:
            raise DetectorError(f"it is void: {self._over}")
        try:
            reply = self._exchange(frame, seconds)
        except Late:
            raise self._void(f"it did not end {frame.kind} within {seconds - _GRACE:g} s") from None
        except Ended:
            raise self._void(self._how_it_ended()) from None
        except DetectorError as error:
            raise self._void(error.what, error.fix) from None
        except BaseException:  # a time limit, an interruption, a full disk
            self._void("it was interrupted")
            raise
        if reply.kind == "failed":
            raise fault_of(reply)
        return reply

    def _exchange(self, frame: Frame, seconds: float) -> Frame:
        channel = self._process.channel
        channel.begin(seconds)
        self._answers.begin()
        channel.send(frame)
        while True:
            reply = channel.receive()
            if reply.kind in ("done", "failed"):
                return reply
            if reply.kind != "ask":
                broken(f"'{plain(reply.kind, 20)}', which is nothing to say")
            channel.send(self._answers.answer(reply))

    def _void(self, why: str, fix: str | None = None) -> DetectorError:
        """Nothing it says from now on counts: its process is ended."""
        self._over = why
        self._end()
        return DetectorError(why, fix=fix)

    def _how_it_ended(self) -> str:
        said = self._process.channel.last_words()
        told = self._process.end(ask=True).told(self._cpu)
        return f"{told}: {said}" if said else told


class SandboxedDetector(Detector):
    """A detector whose code runs elsewhere.

    Args:
        session: its process.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        """As `Detector.fit`."""
        body, arrays = self._session.numbered(cases)
        truth = np.asarray(labels, dtype=np.bool_)
        self._session.fit(Frame("fit", body, {**arrays, "labels": truth}))

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """As `Detector.score`."""
        reply = self._session.call("score", *self._session.numbered(cases))
        return array_of(reply.arrays, "scores", "<f8")

    def explain(self) -> dict[str, str | float | int]:
        """As `Detector.explain`; texts are one line each."""
        chosen = self._session.call("explain").body.get("chosen")
        if not isinstance(chosen, dict):
            broken("an explanation that is none")
        return {
            plain(name): plain(value) if isinstance(value, str) else value
            for name, value in chosen.items()
        }

    def depends_on(self) -> str:
        """As `Detector.depends_on`; that it ran in a sandbox is a part of it.

        So no score from outside is ever taken for one from inside.
        """
        text = self._session.call("depends_on").body.get("text")
        return f"in a sandbox; {plain(text, _MAX_TEXT)}"

    @property
    def can_be_saved(self) -> bool:
        """As `Fitted.can_be_saved`."""
        return self._session.call("can_be_saved").body.get("flag") is True

    def state(self) -> DetectorState:
        """As `Fitted.state`."""
        return take_state(self._session.call("state").arrays)

    def load_state(self, state: DetectorState) -> None:
        """As `Fitted.load_state`."""
        arrays: Arrays = {}
        put_state(arrays, state)
        self._session.call("load_state", arrays=arrays)


class SandboxFactory:
    """Makes detectors that run in a sandbox: takes the place of `detection.detector_factory`.

    What it made is of no use after it is closed, which the end of the process does as well.

    Args:
        sandbox: where; it is closed with this.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._seen: set[Path] = set()
        self.close = weakref.finalize(self, sandbox.close)

    def start(self) -> None:
        """Prepare in the background what the first detector will need."""
        self._sandbox.start()

    def __call__(self, plugin: Plugin[DetectorManifest]) -> Callable[[], Detector]:
        """A function that makes a fresh, unfitted detector.

        Raises:
            DetectorError: it cannot be imported or built, as found by trying once.
            SandboxError: the sandbox does not start.
        """

        def make() -> Detector:
            return SandboxedDetector(Session(self._sandbox, plugin))

        if plugin.folder not in self._seen:
            make()
            self._seen.add(plugin.folder)
        return make


@contextmanager
def making(
    isolation: Isolation | None, catalog: Catalog, cache: Path, *, soon: bool = False
) -> Iterator[DetectorFactory]:
    """What makes detectors while the context lasts.

    Args:
        isolation: how they are isolated; None makes them in this process.
        catalog, cache: what they must not see of this machine.
        soon: prepare already; it takes a while.

    Raises:
        SandboxError: there is no isolation from these.
    """
    factory = factory_of(isolation, catalog, cache)
    if not isinstance(factory, SandboxFactory):
        yield factory
        return
    try:
        if soon:
            factory.start()
        yield factory
    finally:
        factory.close()


def factory_of(isolation: Isolation | None, catalog: Catalog, cache: Path) -> DetectorFactory:
    """As `making`, for a process that ends with its detectors."""
    if isolation is None:
        return detector_factory
    secret = [*isolation.secret, cache]
    secret += [plugin.folder for plugin in catalog.organisms.values()]
    secret += [plugin.folder for plugin in catalog.environments.values()]
    return SandboxFactory(replace(isolation, secret=tuple(secret)).sandbox())


def _threads() -> int | None:
    """How many threads torch computes with here; None where it was not loaded."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else None


def _quietly(process: Process) -> None:
    process.end(ask=False)
