"""Models and adapters of a model hub, by id and commit.

Fetched are safetensors, configs, tokenizers and chat templates, and nothing else: a pickle runs
code when it is read, and so does a repository's Python. The cache is the one of huggingface_hub, so
what `hf download` put there is used, and the other way round.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Final

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from afbench import __version__
from afbench.errors import DigestMismatchError
from afbench.models.hub_cache import (
    ADAPTER_WEIGHTS,
    INDEX,
    RemoteFile,
    Snapshot,
    size_of,
    size_text,
)
from afbench.models.hub_transfer import Announce, Repository, explain, patiently, transfer

Progress = Callable[[str, int, int], None]
"""Called with a repository's id, the bytes that came and the bytes in all."""

TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/*.jinja",
)  # fmt: skip
# No adapter's config: from_pretrained would load the adapter's base by its name.
MODEL_FILES: Final = (
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
    "model-?????-of-?????.safetensors", *TOKENIZER_FILES,
)  # fmt: skip
ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER_FILES)

_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True, slots=True)
class Pin:
    """What a manifest says to pin a repository: a commit, and digests of its large files."""

    revision: str
    digests: dict[str, str]


def say_on_stderr(line: str) -> None:
    """Print a line on stderr: a large download is never silent."""
    print(line, file=sys.stderr, flush=True)


def hub_address(endpoint: str | None = None) -> str:
    """The hub's address: `endpoint`, else HF_ENDPOINT, else the public hub."""
    return (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def fetch(
    repo_id: str,
    revision: str,
    *,
    allow_patterns: Sequence[str] = MODEL_FILES,
    digests: Mapping[str, str] | None = None,
    where: str | None = None,
    local_files_only: bool = False,
    announce: Announce = say_on_stderr,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """The folder of a repository's files at a commit, downloaded if they are not in the cache.

    What came is checked against the hub's own digests before it enters the cache. A download that
    was cut off goes on where it stopped, also in another process. When everything is in the cache,
    no network is used.

    Args:
        repo_id: `owner/name`.
        revision: the commit, 40 hexadecimal digits.
        allow_patterns: the files, by shell pattern: MODEL_FILES or ADAPTER_FILES.
        digests: "sha256:<hex>" of files, pinned by a manifest.
        where: what it is fetched for, for messages.
        local_files_only: use the cache alone; HF_HUB_OFFLINE=1 does the same.
        announce: told, before the first byte, how much is downloaded; and of long waits.
        progress: told of the bytes that came.
        cache_dir: default: that of huggingface_hub (HF_HUB_CACHE, HF_HOME).
        endpoint: default: HF_ENDPOINT, or the public hub.

    Raises:
        DigestMismatchError: a file is not what the hub or the manifest says; it is removed.
        AfbenchError: it cannot be had: no network, no such repository or commit, no access, a busy
            hub, no safetensors, no room.
    """
    repository = Repository(repo_id, revision, hub_address(endpoint), where)
    snapshot = Snapshot(repository, (cache_dir or Path(constants.HF_HUB_CACHE)).expanduser())
    offline = local_files_only or constants.HF_HUB_OFFLINE
    known = snapshot.listing()
    if known is None and offline:
        return snapshot.as_others_left_it(allow_patterns, digests or {})
    listing = known or _ask(repository, announce)[1]
    files = _chosen(listing, allow_patterns, repository)
    pinned = _pinned(files, digests or {}, repository)
    missing = [file for file in files if not snapshot.holds(file)]
    if missing and offline:
        raise snapshot.not_cached(missing[0].name)
    if missing:
        _download(snapshot, missing, announce, progress)
    # Files that others put there are read once, pinned ones in every process.
    snapshot.verify(pinned if known else [*files, *pinned])
    if known is None:
        snapshot.keep_listing(listing)
    return snapshot.folder


def newest(
    repo_id: str,
    allow_patterns: Sequence[str] = MODEL_FILES,
    *,
    where: str | None = None,
    announce: Announce = say_on_stderr,
    endpoint: str | None = None,
) -> Pin:
    """The hub's present commit of a repository, and the digests of its large files.

    Raises:
        AfbenchError: as `fetch`; or the hub may not be asked.
    """
    repository = Repository(repo_id, None, hub_address(endpoint), where)
    if constants.HF_HUB_OFFLINE:
        raise repository.error(
            f"cannot ask for the commit of {repo_id}: downloads are switched off",
            "unset HF_HUB_OFFLINE",
        )
    commit, listing = _ask(repository, announce)
    files = _chosen(listing, allow_patterns, repository)
    large = {file.name: file.digest for file in files if file.digest.startswith("sha256:")}
    return Pin(commit, dict(sorted(large.items())))


def _ask(repository: Repository, announce: Announce) -> tuple[str, tuple[RemoteFile, ...]]:
    """The commit and the files that the hub lists for a repository's revision."""

    def ask() -> tuple[str, tuple[RemoteFile, ...]]:
        api = HfApi(repository.endpoint, library_name="afbench", library_version=__version__)
        info = api.model_info(
            repository.repo_id,
            revision=repository.revision,
            files_metadata=True,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
        if not re.fullmatch(r"[0-9a-f]{40}", str(info.sha)):
            raise ValueError
        return str(info.sha), tuple(_remote(sibling) for sibling in info.siblings or ())

    commit, listing = patiently(ask, repository, announce)
    if repository.revision not in (None, commit):
        raise repository.error(f"{repository.host} answers with {commit} for {repository}")
    return commit, listing


def _remote(sibling: Any) -> RemoteFile:
    digest = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"git:{sibling.blob_id}"
    # The digest becomes a file's name: nothing but a digest may pass.
    if not re.fullmatch(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", digest):
        raise ValueError
    return RemoteFile(str(sibling.rfilename), int(sibling.size), digest)


def _chosen(
    listing: Iterable[RemoteFile], patterns: Sequence[str], repository: Repository
) -> list[RemoteFile]:
    """The files to fetch; the weights must be among them."""
    files = {file.name: file for file in listing}
    chosen = [
        file
        for name, file in sorted(files.items())
        if any(fnmatchcase(name, pattern) for pattern in patterns)
        and ".." not in PurePosixPath(name).parts
        and "\\" not in name
    ]
    if any(file.name.endswith(".safetensors") for file in chosen):
        return chosen
    what, fix = f"{repository.repo_id} holds no weights in safetensors", None
    pickles = [name for name in sorted(files) if name.endswith(_PICKLES)]
    if ADAPTER_WEIGHTS in files:
        what = f"{repository.repo_id} is an adapter, not a whole model"
        fix = "give it as source.adapter, and the model that it was made on as source.model"
    elif "model.safetensors" in files or INDEX in files:
        what = f"{repository.repo_id} is a whole model, not an adapter"
        fix = "give it as source.model, without source.adapter"
    elif pickles:
        what += f", only a pickle ({pickles[0]})"
        fix = (
            "a pickle runs code when it is read, and is not loaded: ask its author for safetensors"
        )
    raise repository.error(what, fix)


def _pinned(
    files: Iterable[RemoteFile], digests: Mapping[str, str], repository: Repository
) -> list[RemoteFile]:
    """The pinned files, with their pinned digests; the hub's must be the same."""
    listed = {file.name: file for file in files}
    for name, pinned in sorted(digests.items()):
        found = listed.get(name)
        same_kind = found is not None and found.digest.startswith("sha256:")
        if found is None or (same_kind and found.digest != pinned):
            what = "does not list" if found is None else "holds other content of"
            raise DigestMismatchError(
                f"{repository} {what} {name}, which the manifest pins",
                where=repository.where,
                fix="check it, or run 'afbench organisms pin' to take what the hub holds now",
            )
    return [RemoteFile(name, listed[name].size, pin) for name, pin in sorted(digests.items())]


def _download(
    snapshot: Snapshot,
    files: Sequence[RemoteFile],
    announce: Announce,
    progress: Progress | None,
) -> None:
    """Bring files into the cache that are not there as a whole."""
    repository = snapshot.repository
    blobs = {file.blob: file for file in files if not file.is_whole(snapshot.blob(file))}
    total = sum(file.size - size_of(snapshot.part(file)) for file in blobs.values())
    done = 0

    def received(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(repository.repo_id, done, total)

    if total > 0:
        announce(f"downloads {size_text(total)}: {repository}")
    try:
        snapshot.check_room(total)
        for file in files:
            path = snapshot.lock(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(path):
                if not file.is_whole(snapshot.blob(file)):
                    _bring(snapshot, file, announce, received)
                snapshot.link(file)
    except OSError as error:
        raise explain(error, repository) from None


def _bring(
    snapshot: Snapshot, file: RemoteFile, announce: Announce, received: Callable[[int], None]
) -> None:
    """Fetch one blob, and check it before it gets its name."""
    repository, part = snapshot.repository, snapshot.part(file)
    part.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(
        repository.repo_id,
        file.name,
        revision=repository.revision,
        endpoint=repository.endpoint,
    )
    transfer(url, part, file.size, repository, file.name, announce, received)
    if not file.is_content_of(part):
        part.unlink()
        raise DigestMismatchError(
            f"{file.name} of {repository} is not what the hub lists: its digest differs",
            where=repository.where,
            fix="it was removed; run it again to fetch it afresh",
        )
    os.replace(part, snapshot.blob(file))
