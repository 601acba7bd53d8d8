"""Conversations to token ids, through the model's own chat template."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TypeAlias, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from afbench.errors import AfbenchError
from afbench.messages import Conversation, Message
from afbench.models.texts import THINK_OPEN
from afbench.models.texts import join_prompts as join_prompts

_CHUNK = 256

TokenIds: TypeAlias = "array[int]"


class ChatRenderer:
    """Renders and tokenises conversations for one organism.

    Args:
        tokenizer: must have a chat template.
        name: the organism's name, for error messages.
        system_prompt: of a prompted organism; it stands before the conversation's own.

    Raises:
        AfbenchError: the tokenizer has no chat template.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, name: str, system_prompt: str | None = None
    ) -> None:
        if not tokenizer.chat_template:
            raise AfbenchError(
                "the tokenizer has no chat template",
                where=f"organism '{name}'",
                fix="use an instruction-tuned model, or put a chat_template.jinja beside the "
                "tokenizer",
            )
        self.tokenizer = tokenizer
        self.name = name
        self.system_prompt = system_prompt
        self._takes_system = self._accepts_system_role()

    @property
    def pad_id(self) -> int:
        """Fills batches; which token it is does not matter, as it is masked or never read."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(candidate, int):
                return candidate
        return 0

    def prompts(
        self, conversations: Sequence[Conversation], *, reasoning: bool = False
    ) -> list[list[int]]:
        """Token ids up to where the assistant's next turn starts.

        Raises:
            AfbenchError: a conversation does not end with a user message.
        """
        return self._tokenise(
            [self._prompt_text(conversation, reasoning) for conversation in conversations]
        )

    def replies(self, conversations: Sequence[Conversation]) -> list[tuple[TokenIds, TokenIds]]:
        """(prompt, reply) token ids of conversations that end with the assistant's reply.

        The reply's tokens follow the generation prompt as they did when it was sampled, and no
        end-of-turn token is added. A reply that shows its reasoning is put after a prompt that
        asks for reasoning.

        Raises:
            AfbenchError: a conversation does not end with the assistant's reply.
        """
        pairs: list[tuple[TokenIds, TokenIds]] = []
        for start in range(0, len(conversations), _CHUNK):
            chunk = conversations[start : start + _CHUNK]
            prompts, texts = zip(*map(self._reply_texts, chunk), strict=True)
            # Packed: those of all conversations are held at once, and a list of ints takes
            # nine times more.
            packed = [
                [array("i", row) for row in self._tokenise(side)] for side in (prompts, texts)
            ]
            pairs += zip(*packed, strict=True)
        return pairs

    def _reply_texts(self, conversation: Conversation) -> tuple[str, str]:
        if not conversation or conversation[-1]["role"] != "assistant":
            raise self._error("the conversation must end with the assistant's reply")
        reply = conversation[-1]["content"]
        thinks = reply.startswith(THINK_OPEN)
        prompt = self._prompt_text(conversation[:-1], thinks)
        if thinks and prompt.rstrip().endswith(THINK_OPEN):
            reply = reply.removeprefix(THINK_OPEN).lstrip("\n")
        return prompt, reply

    def own_prompt_tokens(self, conversation: Conversation) -> int:
        """How many leading tokens of a conversation with a reply say the organism's own prompt.

        What follows is, token for token, what the conversation has without that prompt.

        Raises:
            AfbenchError: as `replies`.
        """
        if not self.system_prompt:
            return 0
        [(prompt, _)] = self.replies([conversation])
        bare = ChatRenderer(self.tokenizer, self.name)
        [(plain, _)] = bare.replies([conversation])
        shared = 0
        for own, without in zip(reversed(prompt), reversed(plain), strict=False):
            if own != without:
                break
            shared += 1
        return len(prompt) - shared

    def texts_of(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """The text of each token by itself."""
        return tuple(
            str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))
            for token in tokens
        )

    def continuations(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that start an assistant turn.

        Raises:
            AfbenchError: a text has no tokens.
        """
        rows = self._tokenise(texts)
        if not all(rows):
            raise self._error("a continuation is empty")
        return rows

    def _prompt_text(self, conversation: Conversation, reasoning: bool) -> str:
        if not conversation or conversation[-1]["role"] != "user":
            raise self._error("the conversation must end with a user message")
        try:
            text = self.tokenizer.apply_chat_template(
                self._with_system(conversation),
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=reasoning,
            )
        except TemplateError as error:
            raise self._error(f"the chat template refused a conversation: {error}") from error
        return cast(str, text)

    def _with_system(self, conversation: Conversation) -> list[dict[str, str]]:
        """Add the organism's system prompt, and fold it away where the template takes none."""
        turns: list[Message] = list(conversation)
        own = turns.pop(0)["content"] if turns[0]["role"] == "system" else None
        text = join_prompts(self.system_prompt, own)
        system = bool(self.system_prompt) or own is not None
        if system and self._takes_system:
            turns.insert(0, {"role": "system", "content": text})
        elif system and turns:
            first = turns[0]
            turns[0] = {"role": first["role"], "content": f"{text}\n\n{first['content']}"}
        return [{"role": turn["role"], "content": turn["content"]} for turn in turns]

    def _accepts_system_role(self) -> bool:
        # Some templates (Gemma 2, early Mistral) raise on a system message, others drop it.
        probe = [
            {"role": "system", "content": "afbench-probe"},
            {"role": "user", "content": "question"},
        ]
        try:
            text = self.tokenizer.apply_chat_template(
                probe, tokenize=False, add_generation_prompt=True
            )
        except TemplateError:
            return False
        return "afbench-probe" in cast(str, text)

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = []
        # In chunks: what the tokenizer returns holds far more than the ids.
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            rows += self.tokenizer(chunk, add_special_tokens=False)["input_ids"]
        return rows

    def _error(self, what: str) -> AfbenchError:
        return AfbenchError(what, where=f"model '{self.name}'")
