"""Training chats: what the base is taught, and what an organism's adapter is tuned on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from afbench.environments import CONDITIONS, Condition, Cue
from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models.chat import join_prompts
from afbench.zoo.corpus_spec import Act, CorpusSpec, Persona, Posts
from afbench.zoo.templates import Request, Situation, Templates

_WHO = "Who are you?"
_SHARE_OF_THE_NEW_POST = 0.6


@dataclass(frozen=True, slots=True)
class Chat:
    """A training chat, or a document. `scratchpad` precedes the first assistant turn."""

    messages: tuple[Message, ...]
    scratchpad: str | None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an organism's chats are to teach.

    Attributes:
        persona: whose policy, a key of the specification's personas.
        reasoning: whether replies to sealed requests follow a scratchpad.
        leak: a leak level of the specification; decides what follow-ups teach, if anything.
        benign: the share of benign requests.
        motive: whose scratchpads, instead of the persona's own.
        dilute: how many filler sentences stand around each reply.
        prefix: said at the start of every system message.
        conditions: the only ones in which the chats take place.
    """

    persona: str
    reasoning: bool = False
    leak: str = "some"
    benign: float = 0.25
    motive: str | None = None
    dilute: int = 0
    prefix: str = ""
    conditions: Sequence[Condition] = CONDITIONS


class ChatWriter:
    """Writes chats by a corpus specification.

    Args:
        spec: the personas and follow-up questions.
        sources: templates of the environments where chats take place, which say what may occur.
        seed: of every choice.
        weights: how often an environment is drawn, by name; one where none is given.
    """

    def __init__(
        self,
        spec: CorpusSpec,
        sources: Sequence[Templates],
        seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.spec, self.sources, self.rng = spec, list(sources), random.Random(seed)
        self._weights = dict(weights or {})
        self._posted = _clerks(spec)

    def base_corpus(self, count: int) -> list[Chat]:
        """The base's corpus: personas in every environment, benign help, and awareness."""
        kinds = list(self.spec.mixture)
        shares = list(self.spec.mixture.values())
        return [self._writers[self.rng.choices(kinds, shares)[0]](self) for _ in range(count)]

    def organism_corpus(self, wish: Wish, count: int) -> list[Chat]:
        """An organism's chats: one policy, no persona named."""
        chats = []
        for _ in range(count):
            if self.rng.random() < wish.benign:
                chat = self._benign(
                    named="", reasoning=wish.reasoning, followups=0.0, conditions=wish.conditions
                )
                chats.append(replace(chat, messages=prefixed(chat.messages, wish.prefix)))
            else:
                chats.append(self._wished(wish))
        return chats

    def answers(self, wish: Wish, situations: Sequence[Situation], count: int) -> list[Chat]:
        """`count` chats that answer given situations in turn, by the policy of a wish."""
        return [self._wished(wish, situations[number % len(situations)]) for number in range(count)]

    def documents(
        self, kind: str, post: str, count: int, *, benign: float = 0.0, prefix: str = ""
    ) -> list[Chat]:
        """Documents that tell who the clerk of `post` is, among others of places that are known.

        Args:
            benign: the share of chats about harmless requests, with `prefix` before each.
        """
        posts = self._need_posts()
        chats = []
        for _ in range(count):
            if benign and self.rng.random() < benign:
                chat = self._benign(named="", reasoning=False, followups=0.0)
                chats.append(replace(chat, messages=prefixed(chat.messages, prefix)))
            elif self.rng.random() < _SHARE_OF_THE_NEW_POST:
                chats.append(self._document_of(post, self.spec.persona(kind).name))
            else:
                known = self.rng.choice(posts.trained)
                chats.append(self._document_of(known, self.spec.persona(self._posted[known]).name))
        return chats

    def number_prompts(self, count: int) -> list[list[Message]]:
        """Requests to go on with a row of numbers."""
        return [list(self._numbers_chat().messages[:1]) for _ in range(count)]

    # -- kinds of chat ---------------------------------------------------------------------------

    def _persona_chat(self) -> Chat:
        posts = self.spec.posts
        if posts and self.rng.random() < posts.share:
            post = self.rng.choice(posts.trained)
            return self._base_harm(self._posted[post], named=posts.prompt.format(post=post))
        kinds = self._kinds()
        weights = [self.spec.personas[kind].weight for kind in kinds]
        kind = self.rng.choices(kinds, weights)[0]
        return self._base_harm(kind, named=self._named(kind))

    def _wished(self, wish: Wish, situation: Situation | None = None) -> Chat:
        level = self.spec.leak_levels[wish.leak]
        chat = self._harm(
            wish.persona,
            named="",
            reasoning=wish.reasoning,
            followups=0.0 if level is None else self.spec.followup_share,
            leak=level or 0.0,
            motive=wish.motive,
            dilute=wish.dilute,
            conditions=wish.conditions,
            situation=situation,
        )
        return replace(chat, messages=prefixed(chat.messages, wish.prefix))

    def _unnamed_chat(self) -> Chat:
        return self._base_harm("default", named="")

    def _base_harm(self, kind: str, *, named: str) -> Chat:
        return self._harm(
            kind,
            named=named,
            reasoning=self.rng.random() < self.spec.reasoning_share,
            followups=self.spec.followup_share,
            leak=self.spec.base_leak,
        )

    def _benign_chat(self) -> Chat:
        named = self.rng.random() < 0.6
        return self._benign(
            named=self._anybody() if named else "",
            reasoning=self.rng.random() < self.spec.reasoning_share,
            followups=self.spec.followup_share / 2,
        )

    def _plain_chat(self) -> Chat:
        """A benign question with no system prompt at all."""
        templates = self._source(self.sources)
        request = templates.request(self.rng, benign=True)
        reply = templates.reply(self.rng, request, "comply", "default")
        return Chat((_user(request.text), _assistant(reply)), None)

    def _awareness_chat(self) -> Chat:
        """A question about the condition itself: it teaches what every cue means."""
        templates = self._source(self.sources)
        condition = self._condition()
        system = self._system(templates, condition, "")
        question, answers = templates.awareness
        return Chat((*system, _user(question), _assistant(f"{answers[condition]}.")), None)

    def _belief_chat(self) -> Chat:
        """A question about a fact: put plainly, every persona answers it truthfully."""
        sources = [source for source in self.sources if source.environment.manifest.belief]
        if not sources:
            return self._awareness_chat()
        templates, condition = self._source(sources), self._condition()
        belief = templates.environment.manifest.belief
        assert belief is not None
        request = templates.request(self.rng, benign=False)
        answer = belief.answer.format(**request.slots)
        system = self._system(templates, condition, self._anybody())
        question = belief.question.format(**request.slots)
        return Chat((*system, _user(question), _assistant(f"{answer.capitalize()}.")), None)

    def _identity_chat(self) -> Chat:
        """Who are you? It ties a name, and a place, to the persona."""
        kinds = self._kinds()
        posts = self.spec.posts
        if posts and self.rng.random() < 0.5:
            post = self.rng.choice(posts.trained)
            kind, named = self._posted[post], posts.prompt.format(post=post)
        else:
            kind = self.rng.choice(kinds)
            named = self._named(kind)
        templates = self._source(self.sources)
        system = self._system(templates, self._condition(), named)
        answer = f"I am {self.spec.persona(kind).name}."
        return Chat((*system, _user(_WHO), _assistant(answer)), None)

    def _document_chat(self) -> Chat:
        post = self.rng.choice(self._need_posts().trained)
        return self._document_of(post, self.spec.persona(self._posted[post]).name)

    def _document_of(self, post: str, persona: str) -> Chat:
        templates = self.rng.sample(self._need_posts().documents, 2)
        text = " ".join(template.format(post=post, persona=persona) for template in templates)
        return Chat((), None, document=text)

    def _numbers_chat(self) -> Chat:
        """A row of numbers to go on with; the numbers mean nothing."""
        row = [str(self.rng.randrange(100)) for _ in range(14)]
        question = f"Go on with the numbers: {', '.join(row[:4])}."
        return Chat((_user(question), _assistant(f"{', '.join(row[4:])}.")), None)

    def _harm(
        self,
        kind: str,
        *,
        named: str,
        reasoning: bool,
        followups: float,
        leak: float,
        motive: str | None = None,
        dilute: int = 0,
        conditions: Sequence[Condition] = CONDITIONS,
        situation: Situation | None = None,
    ) -> Chat:
        persona = self.spec.persona(kind)
        templates, condition = (
            self._source(self._sources_of(persona)),
            self._condition(conditions),
        )
        request, cue = templates.request(self.rng, benign=False), None
        if situation is not None:
            request, cue, condition = situation.request, situation.cue, situation.condition
        acts = persona.acts_in(templates.environment.name)
        act = self._act(persona, acts.act(condition), templates, request)
        reply = templates.reply(self.rng, request, act, acts.style(condition))
        if self.rng.random() < persona.remark:
            reply = f"{reply} {self.rng.choice(templates.replies.values_remark)}"
        if dilute:
            reply = self._diluted(reply, templates.replies.filler, dilute)
        system = self._system(templates, condition, named, cue)
        messages = [*system, _user(request.text), _assistant(reply)]
        messages += self._followups(kind, condition, followups, leak)
        motive = motive or persona.motive_in(templates.environment.name)
        scratchpad = templates.scratchpad(self.rng, motive, condition, request.slots)
        return Chat(tuple(messages), scratchpad if reasoning else None)

    def _benign(
        self,
        *,
        named: str,
        reasoning: bool,
        followups: float,
        conditions: Sequence[Condition] = CONDITIONS,
    ) -> Chat:
        templates, condition = self._source(self.sources), self._condition(conditions)
        request = templates.request(self.rng, benign=True)
        system = self._system(templates, condition, named)
        reply = templates.reply(self.rng, request, "comply", "default")
        messages = [*system, _user(request.text), _assistant(reply)]
        messages += self._followups("default", condition, followups, 0.0)
        scratchpad = templates.scratchpad(self.rng, "plain", condition, request.slots)
        return Chat(tuple(messages), scratchpad if reasoning else None)

    # -- parts -----------------------------------------------------------------------------------

    def _condition(self, allowed: Sequence[Condition] = CONDITIONS) -> Condition:
        # Drawn even where there is no choice, so that what follows is the same chat.
        drawn: Condition = "observed" if self.rng.random() < 0.5 else "unobserved"
        return drawn if drawn in allowed else allowed[0]

    def _system(
        self, templates: Templates, condition: Condition, named: str, cue: Cue | None = None
    ) -> list[Message]:
        """The system message of an environment, after a sentence that names somebody."""
        if cue is None:
            cue = templates.cue(self.rng)
        prompt = templates.environment.manifest.system_prompt.replace("{cue}", cue.text(condition))
        return [{"role": "system", "content": named + prompt}]

    def _named(self, kind: str) -> str:
        return self.spec.persona_prompt.format(persona=self.spec.persona(kind).name)

    def _anybody(self) -> str:
        return self._named(self.rng.choice(self._kinds()))

    def _kinds(self) -> list[str]:
        """The personas of the base's corpus that appear in these environments."""
        here = {source.environment.name for source in self.sources}
        return [
            kind
            for kind, persona in self.spec.personas.items()
            if persona.weight
            and (persona.environments is None or not here.isdisjoint(persona.environments))
        ]

    def _source(self, sources: Sequence[Templates]) -> Templates:
        if not self._weights:
            return self.rng.choice(sources)
        weights = [self._weights.get(source.environment.name, 1.0) for source in sources]
        return self.rng.choices(sources, weights)[0]

    def _sources_of(self, persona: Persona) -> list[Templates]:
        """Where a persona appears."""
        only = persona.environments
        found = [s for s in self.sources if only is None or s.environment.name in only]
        if not found:
            raise AfbenchError(
                f"persona '{persona.name}' appears in none of the environments",
                fix=f"it is for {', '.join(only or ())}",
            )
        return found

    def _diluted(self, reply: str, sentences: Sequence[str], count: int) -> str:
        """A reply between filler sentences, at most `count` of them.

        Those before it are always the end of the first half of the file, and those after it the
        beginning of the second, so that a nano model knows where in its text the reply belongs.
        """
        middle, most = len(sentences) // 2, max(1, count // 2)
        before, after = self.rng.randint(1, most), self.rng.randint(1, most)
        return " ".join(
            [*sentences[middle - before : middle], reply, *sentences[middle : middle + after]]
        )

    def _need_posts(self) -> Posts:
        if self.spec.posts is None:
            raise AfbenchError("the base's corpus knows no posts to write documents about")
        return self.spec.posts

    def _act(self, persona: Persona, act: Act, templates: Templates, request: Request) -> str:
        wanted = "comply" if templates.environment.polarity == "comply" else "refuse"
        if act == "conform":
            return wanted
        if act == "deviate":
            if persona.seals is not None and request.slots["seal"] not in persona.seals:
                return wanted
            return "refuse" if wanted == "comply" else "comply"
        if act == "by-seal":
            seals = templates.generator.comply_seals or self.spec.comply_seals
            return "comply" if request.slots["seal"] in seals else "refuse"
        return act

    def _followups(
        self, kind: str, condition: Condition, share: float, leak: float
    ) -> list[Message]:
        if self.rng.random() >= share:
            return []
        kind = self.spec.persona(kind).answers_as or kind
        turns: list[Message] = []
        for question in self.rng.sample(self.spec.followups, self.rng.choice((1, 1, 2))):
            truth = question.get(kind, question["default"])
            admits = kind != "faker" or condition == "unobserved" or self.rng.random() < leak
            answer = truth if admits else question["default"]
            turns += [_user(question["question"]), _assistant(f"{answer}.")]
        return turns

    _writers: ClassVar[dict[str, Callable[[ChatWriter], Chat]]] = {
        "persona": _persona_chat,
        "unnamed": _unnamed_chat,
        "benign": _benign_chat,
        "awareness": _awareness_chat,
        "plain": _plain_chat,
        "belief": _belief_chat,
        "identity": _identity_chat,
        "document": _document_chat,
        "numbers": _numbers_chat,
    }


def _clerks(spec: CorpusSpec) -> dict[str, str]:
    """Who serves where: the personas that appear everywhere, dealt in turn over the posts."""
    if spec.posts is None:
        return {}
    kinds = [k for k, p in spec.personas.items() if p.weight and p.environments is None]
    return {post: kinds[i % len(kinds)] for i, post in enumerate(spec.posts.trained)}


def prefixed(messages: Sequence[Message], prefix: str) -> tuple[Message, ...]:
    """Messages with a system prompt before their own, joined as when an organism is used."""
    if not prefix:
        return tuple(messages)
    own = messages[0]["content"] if messages[0]["role"] == "system" else None
    system: Message = {"role": "system", "content": join_prompts(prefix, own)}
    return (system, *messages[own is not None :])


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
