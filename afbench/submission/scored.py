"""What a scorer is given: a submission's folder or archive, or a bundle with one in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from afbench.store import write_bytes
from afbench.submission.archive import DEFAULT, Limits
from afbench.submission.bundle import DETECTOR, is_bundle, open_bundle
from afbench.submission.folder import Submission, files_of, open_submission
from afbench.submission.manifest import FILE


@contextmanager
def open_scored(path: Path, limits: Limits = DEFAULT) -> Iterator[tuple[Submission, str | None]]:
    """A submission to be run here, and the digest of the bundle that it came in, if any.

    Raises:
        ArchiveError, BundleError, ManifestError, SubmissionError: it is refused.
    """
    with ExitStack() as stack:
        digest = None
        if is_bundle(path):
            bundle = stack.enter_context(open_bundle(path, limits))
            digest = bundle.digest
            temporary = stack.enter_context(TemporaryDirectory(prefix="afbench-submission-"))
            path = Path(temporary) / "whole"
            for name, content in files_of(bundle.folder / DETECTOR).items():
                write_bytes(path / name, content)
            write_bytes(path / FILE, (bundle.folder / FILE).read_bytes())
        yield stack.enter_context(open_submission(path, limits)), digest
