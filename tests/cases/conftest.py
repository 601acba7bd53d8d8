# Fixtures of a tiny random model, as the tests of the models have it.
from tests.models.conftest import (  # noqa: F401
    ask,
    catalog_of,
    new_organism,
    new_qwen2,
    questions,
    qwen2,
    replied,
    tokenizer,
)
