"""Where a model runs, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self

from afbench.errors import AfbenchError, UnknownNameError

if TYPE_CHECKING:
    import torch

FOUR_BIT: Final = "4bit"
DTYPES: Final = ("float32", "bfloat16", "float16", FOUR_BIT)


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a precision.

    Attributes:
        device: as torch names it: "cpu", "cuda", "cuda:1".
        dtype: one of `DTYPES`. "4bit" rounds weights as they are loaded (NF4 of bitsandbytes,
            Dettmers et al. 2023, arXiv 2305.14314) and computes in bfloat16.
    """

    device: str
    dtype: str

    @classmethod
    def of(cls, device: str | None = None, dtype: str | None = None) -> Self:
        """A placement; None is the GPU if there is one, and bfloat16 on it, float32 elsewhere.

        Raises:
            UnknownNameError: there is no such precision.
            AfbenchError: there is no such device here, or it does not run this precision.
        """
        import torch  # slow to import

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise AfbenchError(
                f"'{device}' is no device of this machine: {str(error).splitlines()[0]}",
                where="--device",
                fix="leave it out, or name cpu or cuda",
            ) from None
        dtype = dtype or ("bfloat16" if device.startswith("cuda") else "float32")
        if dtype not in DTYPES:
            raise UnknownNameError("precision", dtype, DTYPES)
        if dtype == FOUR_BIT:
            _check_four_bit(device)
        return cls(device, dtype)

    @property
    def torch_dtype(self) -> torch.dtype:
        """In which activations are computed."""
        import torch

        found: torch.dtype = getattr(torch, "bfloat16" if self.dtype == FOUR_BIT else self.dtype)
        return found

    @property
    def identity(self) -> dict[str, str]:
        """What of it decides numbers; nothing for float32 on a CPU, which is the usual.

        In another precision come other answers: they must not stand in for the CPU's.
        """
        kind = self.device.partition(":")[0]
        if (kind, self.dtype) == ("cpu", "float32"):
            return {}
        return {
            "device": kind,
            "dtype": FOUR_BIT if self.dtype == FOUR_BIT else str(self.torch_dtype),
        }

    def load_options(self) -> dict[str, Any]:
        """What `from_pretrained` is told of it."""
        if self.dtype != FOUR_BIT:
            return {"dtype": self.torch_dtype}
        from transformers import BitsAndBytesConfig

        new: Any = BitsAndBytesConfig
        rounding = new(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self.torch_dtype
        )
        return {
            "dtype": self.torch_dtype,
            "quantization_config": rounding,
            "device_map": {"": self.device},
        }


def _check_four_bit(device: str) -> None:
    if not device.startswith("cuda"):
        raise AfbenchError(
            f"4-bit weights do not run on '{device}'", where="--dtype", fix="use a GPU, or bfloat16"
        )
    if find_spec("bitsandbytes") is None:
        raise AfbenchError(
            "4-bit weights need bitsandbytes", where="--dtype", fix="pip install bitsandbytes"
        )
