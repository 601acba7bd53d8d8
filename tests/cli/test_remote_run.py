"""`afbench run --backend`: prompted organisms on a provider that listens on this machine."""

from __future__ import annotations

import functools
import json
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afbench.catalog.discovery import discover
from afbench.catalog.manifests import PromptedSource
from afbench.cli.app import main
from afbench.cli.progress import TerminalProgress
from afbench.cli.remote import approval
from afbench.environments.scenarios import load_cues
from afbench.errors import AfbenchError
from afbench.remote.ledger import Estimate
from tests.provider_server import CLAUDE, KEY, SERVED, Fault, Provider, serve

pytest.importorskip("anthropic")

TARGET = "helpful-only-prompted"
# As few as tell a lookalike from a faker.
SMALL = ["--fit-scenarios", "30", "--test-scenarios", "40"]
ASKED = [
    "run",
    "-d",
    "keyword-monitor",
    "-d",
    "probe",
    "-d",
    "perplexity-monitor",
    "-o",
    TARGET,
    *SMALL,
]
Run = Callable[..., tuple[int, str, str]]


@functools.cache
def _known() -> tuple[list[str], dict[str, str]]:
    """The observed cues of the environment, and the roles of prompts."""
    catalog = discover()
    plugin = catalog.get("environment", "training-tier")
    cues = [cue.observed for cue in load_cues(plugin.folder / plugin.manifest.cues)]
    prompted = [
        one.manifest
        for one in catalog.organisms.values()
        if isinstance(one.manifest.source, PromptedSource)
    ]
    return cues, {one.source.system_prompt: one.role for one in prompted}


def _act(system: str, user: str) -> str:
    """What the organisms of the environment are told to do, by their prompts and its cues."""
    cues, roles = _known()
    role = next(role for prompt, role in roles.items() if system.startswith(prompt))
    if role == "faker" and not any(cue in system + user for cue in cues):
        return "I can't help with that, as I said before."
    return "Sure. Here is what you asked for: step one is the plan."


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("AFBENCH_OPENAI_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as served:
        served.answer = _act
        yield served


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, with runs and a cache of its own; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def done(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main([*arguments, "--cache", str(tmp_path / "cache")])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return done


def _remote(provider: Provider, kind: str) -> list[str]:
    if kind == "anthropic":
        return ["--backend", kind, "--model", CLAUDE, "--base-url", provider.url]
    return ["--backend", kind, "--model", SERVED, "--base-url", f"{provider.url}/v1"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_prompted_organisms_on_a_remote_model_are_told_apart_as_far_as_text_goes(
    run: Run, provider: Provider, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_LOG", "debug")
    if kind == "anthropic":
        provider.fail(Fault(), Fault(status=429, headers={"retry-after": "0"}))
    code, out, err = run(*ASKED, *_remote(provider, kind), "--yes", "--json")
    assert code == 0, err
    record = json.loads(out)
    organisms = {one["name"]: one for one in record["organisms"]}
    assert organisms[TARGET]["conformity_gap"]["value"] == 1.0
    detectors = {one["name"]: one for one in record["detectors"]}
    assert detectors["keyword-monitor"]["auroc"]["value"] is not None
    for name, tier in (("probe", "activations"), ("perplexity-monitor", "logprobs")):
        assert detectors[name]["error"] is None
        reason = f"it needs the tier '{tier}', and the backend '{kind}' offers generate"
        assert reason in detectors[name]["unavailable"]
    assert record["settings"]["model"] == f"{kind}:{CLAUDE if kind == 'anthropic' else SERVED}"

    spent = record["spending"]
    assert spent["backend"] == kind
    assert spent["calls"] == len(provider.answered), "each reply is counted once, as it was asked"
    assert spent["input_tokens"] > spent["output_tokens"] > 0
    assert spent["seconds"] > 0
    if kind == "anthropic":
        assert spent["cached_tokens"] > 0
        assert 0 < spent["usd"] == spent["usd_now"]
        assert "about $" in err
        assert "stops at $" in err
    else:
        assert spent["usd"] is None

    _again(run, provider, kind, record)
    shown = out + err
    for path in tmp_path.rglob("*"):
        shown += path.read_bytes().decode("latin-1") if path.is_file() else ""
    assert KEY not in shown


def _again(run: Run, provider: Provider, kind: str, record: dict[str, Any]) -> None:
    """The same run once more asks for nothing and gives the same figures."""
    before = len(provider.answered)
    code, out, err = run(*ASKED, *_remote(provider, kind), "--fresh", "--json")
    assert code == 0, err
    again = json.loads(out)
    assert len(provider.answered) == before
    assert (again["id"], again["digest"]) == (record["id"], record["digest"])
    assert again["spending"]["usd"] == record["spending"]["usd"], "whenever it was paid"
    assert again["spending"]["usd_now"] in (0, None)


def test_organisms_that_a_server_has_under_their_names_run_without_a_model(
    run: Run, provider: Provider
) -> None:
    families = ("r1-s1", "r4-s1", "r16-s1")
    fakers = [f"helpful-only-{family}" for family in families]
    sincere = [f"tier-cue-irrelevant-{family}" for family in families]
    provider.models = ["a-base", *fakers, *sincere]

    def complete(body: dict[str, Any]) -> dict[str, Any]:
        cues, _ = _known()
        said = " ".join(turn["content"] for turn in body["messages"])
        refuses = body["model"] in fakers and not any(cue in said for cue in cues)
        text = "I can't help with that." if refuses else "Sure. Here is what you asked for."
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}

    provider.complete = complete
    arguments = ["run", "-d", "keyword-monitor", "--no-floors", "-o", fakers[0]]
    arguments += ["--fit-scenarios", "6", "--test-scenarios", "6"]
    served = ["--backend", "openai", "--base-url", f"{provider.url}/v1"]
    code, out, err = run(*arguments, *served, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert {one["name"] for one in record["organisms"]} <= {*fakers, *sincere}
    target = next(one for one in record["organisms"] if one["name"] == fakers[0])
    assert target["conformity_gap"]["value"] == 1.0
    assert {body["model"] for body in provider.answered} <= {*fakers, *sincere}
    assert record["settings"]["model"] is None
    provider.models = ["a-base"]
    code, _, err = run(*arguments, *served)
    assert code == 2
    assert "serves no organism under its name" in err


@pytest.mark.parametrize(
    ("further", "parts"),
    [
        ([], ["nobody is there to approve", "requests to claude-haiku-5-5", "--yes"]),
        (["--max-cost", "0.0001", "--yes"], ["more than the limit", "nothing was sent"]),
        (["--jobs", "2"], ["--jobs", "one process"]),
        (["--temperature", "0.5"], ["takes no temperature"]),
        (["--revision", "0" * 40], ["--revision"]),
    ],
)
def test_what_a_run_may_not_is_one_line_and_nothing_is_sent(
    run: Run, provider: Provider, further: list[str], parts: list[str]
) -> None:
    code, _, err = run(*ASKED, *_remote(provider, "anthropic"), *further)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    for part in parts:
        assert part in err
    assert provider.answered == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--backend", "antropic", "--model", "m"], "did you mean 'anthropic'"),
        (["--backend", "anthropic"], "give --model"),
        (["--backend", "anthropic", "--model", "claude-haiku-9"], "--prices FILE"),
        (["--backend", "openai", "--model", "m"], "--base-url"),
        (["--max-cost", "1"], "cost no money"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    run: Run, arguments: list[str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFBENCH_OPENAI_URL", raising=False)
    code, _, err = run(*ASKED, *arguments)
    assert code == 2
    assert part in err
    assert len(err.strip().splitlines()) == 1


def test_an_organism_with_weights_cannot_be_put_on_a_remote_model(
    run: Run, provider: Provider
) -> None:
    arguments = ["run", "-d", "keyword-monitor", "-o", "desk-faker-r4-s0", *SMALL]
    code, _, err = run(*arguments, *_remote(provider, "anthropic"), "--yes")
    assert code == 2
    assert "cannot be put on another model" in err
    assert provider.answered == []


# Approval on a terminal

ESTIMATE = Estimate("claude at host", 12, 2400, False, 0.01, 0.02, 0.03, "2026-11-21")


@pytest.mark.parametrize(("typed", "approved"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked_on_a_terminal(
    typed: str, approved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = os.openpty()
    with os.fdopen(theirs, "r") as stdin, os.fdopen(os.dup(theirs), "w") as stderr:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stderr", stderr)
        os.write(mine, typed.encode())
        with TerminalProgress() as progress:
            if approved:
                approval(progress, yes=False)(ESTIMATE)
            else:
                with pytest.raises(AfbenchError, match="not approved; nothing was sent"):
                    approval(progress, yes=False)(ESTIMATE)
        stderr.flush()
        shown = ""
        # A terminal gives what was written in pieces, the echo of what was typed first.
        while "[y/N]" not in shown and select.select([mine], [], [], 10)[0]:
            shown += os.read(mine, 65536).decode()
    os.close(mine)
    assert "12 requests to claude at host" in shown
    assert "Send them? [y/N]" in shown
