"""What an organism computes where it answers a yes/no question about the transcript before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.features import per_handle
from afbench.detection.linear import class_means, components, location_and_scale
from afbench.detection.probes import Classifier, Matrix, check_classes
from afbench.detection.state import fields
from afbench.messages import Conversation, Message

YES, NO = "Yes.", "No."


def asked(talk: Conversation, question: str, answer: str) -> Conversation:
    """A transcript with a question as a further user turn, and an answer put in its mouth."""
    return [
        *talk,
        Message(role="user", content=question),
        Message(role="assistant", content=answer),
    ]


def question_states(
    cases: Sequence[Case], questions: Sequence[str], layers: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Activations of the token from which the answer is to come: float32 [n, q, layers, width].

    Each question is put on its own.

    Raises:
        TierError: the detector's tier does not allow it.
    """
    # The answer stands after the token that is read: it changes nothing, and one has to be there.
    columns = [_states(cases, question, YES, "prompt_last", layers) for question in questions]
    return np.stack(columns, axis=1)


def pair_states(
    cases: Sequence[Case], question: str, layers: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Activations of the last token of "Yes." and of "No.": float32 [n, 2, layers, width].

    Raises:
        TierError: the detector's tier does not allow it.
    """
    sides = [_states(cases, question, answer, "response_last", layers) for answer in (YES, NO)]
    return np.stack(sides, axis=1)


class ContrastComponents(Classifier):
    """First component of the normalised differences between the two answers (CRC-TPC).

    Burns et al. 2022, arXiv 2212.03827, section 3.2: each side is centred by itself, so that the
    component is not the answer's own word. The labels give nothing but its sign.

    Args:
        strength: not used.
    """

    fitted = fields(_means=np.ndarray, _direction=np.ndarray)

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        """Fit on pairs [n, 2, d] and labels [n]."""
        check_classes(labels)
        values = np.asarray(features, dtype=np.float64)
        self._means = values.mean(axis=0)
        differences = np.diff(values - self._means, axis=1)[:, 0]
        direction = components(differences, 1)[0]
        faking, sincere = class_means(differences, labels)
        # `differences` are no minus yes; the score below is yes minus no.
        self._direction = direction if (faking - sincere) @ direction <= 0 else -direction
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """Yes minus no along the component: float64 [n] for pairs [n, 2, d]."""
        values = np.asarray(features, dtype=np.float64) - self._means
        return np.asarray(np.einsum("nd,d->n", values[:, 0] - values[:, 1], self._direction))


class ConsistentProbe(Classifier):
    """Contrast-consistent search: a probe whose two answers deny each other (CCS).

    Burns et al. 2022, arXiv 2212.03827, section 2.2: minimises (p+ - (1 - p-))^2 + min(p+, p-)^2
    from several starts and keeps the best; the score is (p+ + 1 - p-) / 2. Labels give its sign.

    Args:
        strength: weight decay.
        starts: how many initial probes, trained side by side.
        steps: of the optimiser.
        rate: its first learning rate.
        seed: of the starts.
    """

    fitted = fields(_means=np.ndarray, _scales=np.ndarray, _weights=np.ndarray, _bias=float)

    def __init__(
        self,
        strength: float = 0.01,
        starts: int = 8,
        steps: int = 200,
        rate: float = 0.02,
        seed: int = 0,
    ) -> None:
        self.strength, self.starts = strength, starts
        self.steps, self.rate, self.seed = steps, rate, seed

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        """Fit on pairs [n, 2, d] and labels [n]."""
        import torch

        from afbench.detection.training import descend, repeatable

        check_classes(labels)
        sides = [location_and_scale(features[:, side]) for side in (0, 1)]
        self._means, self._scales = (np.stack(parts) for parts in zip(*sides, strict=True))
        standard = self._standard(features)
        with repeatable(self.seed) as draw:
            yes, no = (torch.from_numpy(standard[:, k].astype(np.float32)) for k in (0, 1))
            width = yes.shape[1]
            weights = torch.randn(width, self.starts, generator=draw) * width**-0.5
            bias = torch.zeros(self.starts)

            def losses() -> torch.Tensor:
                for_yes, for_no = (torch.sigmoid(side @ weights + bias) for side in (yes, no))
                consistency = (for_yes - (1 - for_no)) ** 2
                return (consistency + torch.minimum(for_yes, for_no) ** 2).mean(dim=0)

            # Starts do not share a parameter: the sum of their losses trains each by itself.
            parameters = (weights, bias)
            descend(
                parameters,
                lambda: losses().sum(),
                steps=self.steps,
                rate=self.rate,
                decay=self.strength,
            )
            best = int(losses().argmin())
        self._weights = weights[:, best].numpy().astype(np.float64)
        self._bias = float(bias[best])
        faking, sincere = class_means(self.score(features)[:, None], labels)
        if faking[0] < sincere[0]:
            # The probe that says the opposite: its answers deny each other just as well.
            self._weights, self._bias = -self._weights, -self._bias
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """How far the answer is yes, or no, by the sign: float64 [n] for pairs [n, 2, d]."""
        logits = np.einsum("nsd,d->ns", self._standard(features), self._weights) + self._bias
        shares = 0.5 + 0.5 * np.tanh(logits / 2)
        return np.asarray((shares[:, 0] + 1 - shares[:, 1]) / 2)

    def _standard(self, features: Matrix) -> NDArray[np.float64]:
        standard = (np.asarray(features, dtype=np.float64) - self._means) / self._scales
        return np.asarray(standard)


def _states(
    cases: Sequence[Case],
    question: str,
    answer: str,
    pooling: str,
    layers: Sequence[int] | None,
) -> NDArray[np.float32]:
    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float32]:
        given = [asked(talk, question, answer) for talk in talks]
        return handle.activations(given, layers, [pooling])[:, 0]

    return per_handle(cases, ask)
