# Fixtures of a tiny random model, as the tests of the models have it.
from tests.models.conftest import new_qwen2, qwen2, tokenizer  # noqa: F401
