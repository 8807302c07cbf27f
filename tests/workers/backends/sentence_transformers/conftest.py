"""A tiny sentence-T5 for the tests of this backend."""

from pathlib import Path

import pytest

from tests.tiny_models import make_sentence_t5


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sentence_t5(tmp_path_factory.mktemp("models"))
