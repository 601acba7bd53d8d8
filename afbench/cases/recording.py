"""What a detector asked organisms about, as far as it goes by the case: the inputs that it used.

Kept as forms ("the transcript, then this question") and not as conversations, so that it is small
and says of every case what was asked about it. What the parent was asked is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.cases.metering import Which
from afbench.messages import Conversation, Message, Role

Place = Literal["observed", "contrast"]
Turn = tuple[Role, str]
Turns = tuple[Turn, ...]

MAX_FORMS: Final = 12
"""Forms that are kept: a detector with more makes its inputs up for each case."""
MAX_FIXED: Final = 48
"""Inputs that have nothing of a case in them and are kept."""


@dataclass(frozen=True, slots=True, order=True)
class Form:
    """Inputs that begin with a case: with its prompt, or with the whole transcript.

    Attributes:
        place: whether the case's own transcript or its contrast is meant.
        replied: the observed reply is in it.
        suffix: the turns after that; a reply at the very end is left out, as an organism is asked
            for one there.
    """

    place: Place
    replied: bool
    suffix: Turns


@dataclass(frozen=True, slots=True)
class SeenInputs:
    """The inputs that one detector used in one fold.

    Attributes:
        forms: of the inputs that begin with a case.
        fixed: inputs that are the same whatever the case.
        unread: how many more there were, of which nothing is kept.
    """

    forms: tuple[Form, ...] = ()
    fixed: tuple[Turns, ...] = ()
    unread: int = 0

    def as_json(self) -> dict[str, Any]:
        """As JSON; `from_json` reads it back."""
        return {
            "forms": [[form.place, form.replied, form.suffix] for form in self.forms],
            "fixed": self.fixed,
            "unread": self.unread,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SeenInputs:
        """The inverse of `as_json`."""
        return cls(
            tuple(
                Form(place, replied, _turns_of(suffix))
                for place, replied, suffix in content["forms"]
            ),
            tuple(_turns_of(turns) for turns in content["fixed"]),
            content["unread"],
        )


@dataclass(slots=True)
class InputRecorder:
    """Notes what is asked through handles.

    `known` maps the beginning of an input to what it is of a case.
    """

    known: dict[Turns, tuple[Place, bool]] = field(default_factory=dict)
    forms: set[Form] = field(default_factory=set)
    fixed: set[Turns] = field(default_factory=set)
    left_out: set[int] = field(default_factory=set)

    def learn(self, cases: Iterable[Case]) -> None:
        """Know the transcripts of some cases."""
        for case in cases:
            self._add(case.messages, "observed")
            if case.contrast is not None:
                self._add(case.contrast, "contrast")

    def watch(self, handles: Iterable[Handle]) -> None:
        """Note what is asked through these handles from now on."""
        for handle in handles:
            _watch(handle, self)

    def note(self, conversations: Sequence[Conversation]) -> None:
        """Some conversations were put to an organism."""
        for conversation in conversations:
            turns = _plain(conversation)
            if turns and turns[-1][0] == "assistant":
                turns = turns[:-1]
            form = self._form(turns)
            if form is not None and (form in self.forms or len(self.forms) < MAX_FORMS):
                self.forms.add(form)
            elif form is None and (turns in self.fixed or len(self.fixed) < MAX_FIXED):
                self.fixed.add(turns)
            else:
                self.left_out.add(hash(turns))

    @property
    def seen(self) -> SeenInputs:
        """What was asked so far, in an order of its own."""
        return SeenInputs(tuple(sorted(self.forms)), tuple(sorted(self.fixed)), len(self.left_out))

    def _add(self, messages: Conversation, place: Place) -> None:
        turns = _plain(messages)
        for known, replied in ((turns, True), (turns[:-1], False)):
            # What is an observed prompt of one case and a contrast of another is observed.
            if place == "observed" or known not in self.known:
                self.known[known] = (place, replied)

    def _form(self, turns: Turns) -> Form | None:
        for end in range(len(turns), 0, -1):
            found = self.known.get(turns[:end])
            if found is not None:
                return Form(*found, turns[end:])
        return None


def input_of(form: Form, case: Case) -> list[Message] | None:
    """The input of a form for one case; None where the case has no contrast."""
    whole = case.messages if form.place == "observed" else case.contrast
    if whole is None:
        return None
    shown = whole if form.replied else whole[:-1]
    return [*(Message(role=m["role"], content=m["content"]) for m in shown), *messages_of(form)]


def messages_of(form: Form | Turns) -> list[Message]:
    """The turns of a form's suffix, or of a fixed input."""
    turns = form.suffix if isinstance(form, Form) else form
    return [Message(role=role, content=content) for role, content in turns]


def _watch(handle: Handle, recorder: InputRecorder) -> None:
    ask = handle._ask  # its attributes are the functions that every question goes through
    array, texts, tokens = ask.array, ask.texts, ask.tokens

    def noted_array(
        kind: str, which: Which, conversations: Sequence[Conversation], parameters: dict[str, Any]
    ) -> NDArray[Any]:
        if which == "organism":
            recorder.note(_with_questions(conversations, parameters))
        return array(kind, which, conversations, parameters)

    def noted_texts(conversations: Sequence[Conversation], *given: Any) -> list[str]:
        recorder.note(conversations)
        return texts(conversations, *given)

    def noted_tokens(which: Which, conversations: Sequence[Conversation], *given: Any) -> Any:
        if which == "organism":
            recorder.note(conversations)
        return tokens(which, conversations, *given)

    ask.array, ask.texts, ask.tokens = noted_array, noted_texts, noted_tokens


def _with_questions(
    conversations: Sequence[Conversation], parameters: Mapping[str, Any]
) -> Sequence[Conversation]:
    """The conversations as the organism read them: with each follow-up question put."""
    questions = parameters.get("questions")
    if questions is None:
        return conversations
    return [
        [*talk, Message(role="user", content=question)]
        for talk in conversations
        for question in questions
    ]


def _plain(conversation: Conversation) -> Turns:
    return tuple((message["role"], message["content"]) for message in conversation)


def _turns_of(content: Sequence[Sequence[Any]]) -> Turns:
    return tuple((role, text) for role, text in content)
