"""A real SentenceTransformer with random weights, behind the clients that dialogues use."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.core.errors import EngineRefused, UsageError
from tests.workers.backends.calls import call, context
from workers.backends.core.backend import Workload
from workers.backends.core.engines import EmbedRequest
from workers.backends.sentence_transformers.backend import (
    SentenceTransformersBackend,
    _said_by_files,
)
from workers.backends.sentence_transformers.engine import SentenceEngine
from workers.backends.sentence_transformers.options import SentenceTransformersOptions
from workers.engines import local

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("own_cache")]

TEXTS = ["a drama", "a comedy of errors", "which film do you like? " * 40, "", "a drama", "\ud800"]


@pytest.fixture
def engines(monkeypatch, tmp_path):
    (tmp_path / "engine.log").touch()
    # The real one takes over the output of this process for good.
    monkeypatch.setattr(local.LocalEngines, "_output", lambda self: tmp_path / "engine.log")
    return local.LocalEngines()


def options(model, **given):
    return SentenceTransformersOptions(model=str(model), device="cpu", **given)


def expected(model, texts):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model), device="cpu").encode(texts)


def test_vectors_are_those_of_the_library_whatever_they_are_batched_with(engines, tiny_t5):
    backend = SentenceTransformersBackend(
        options(tiny_t5, max_batch=4), replace(context(), engines=engines)
    )

    async def main():
        first = await backend.embed(TEXTS)
        alone = [await backend.embed([text]) for text in TEXTS]
        [fingerprint] = await backend.fingerprints()
        assert backend.up_since > 0
        await engines.close()
        return first, alone, fingerprint

    first, alone, fingerprint = asyncio.run(main())
    known = expected(tiny_t5, [*TEXTS[:-1], "\N{REPLACEMENT CHARACTER}"])
    assert first.vectors.dtype == np.float32
    assert first.vectors == pytest.approx(known, abs=1e-6)
    assert np.concatenate([one.vectors for one in alone]) == pytest.approx(known, abs=1e-6)
    # As the model's last module has it.
    assert np.linalg.norm(first.vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)))
    # A long text is read up to the model's 32 tokens.
    assert alone[2].input_tokens == 32
    assert first.input_tokens == sum(one.input_tokens for one in alone)
    assert len(fingerprint) == 32


def test_texts_that_wait_together_share_a_batch(tiny_t5):
    sizes = []

    async def main():
        found = options(tiny_t5, max_batch=4)
        spec = SentenceTransformersBackend.engine(found, "t5", True)
        engine = await SentenceEngine.start(spec, print)
        encode = engine._encode

        def noting(texts):
            sizes.append(len(texts))
            return encode(texts)

        engine._encode = noting
        asked = [engine.embed(EmbedRequest(f"film {n}")) for n in range(10)]
        given_up = asyncio.ensure_future(engine.embed(EmbedRequest("of a dialogue that has ended")))
        vectors = asyncio.gather(*asked)
        await asyncio.sleep(0)
        given_up.cancel()
        await vectors
        assert engine.pulse.counts.steps == 1 + len(sizes)  # and the one at the start
        assert engine.pulse.take_load()[:2] == (0, 0)
        engine.close()

    asyncio.run(main())
    assert sorted(sizes, reverse=True) == [4, 4, 2]


def test_a_text_that_cannot_be_encoded_fails_alone(tiny_t5):
    async def main():
        spec = SentenceTransformersBackend.engine(options(tiny_t5), "t5", True)
        deaths = []
        engine = await SentenceEngine.start(spec, deaths.append)
        encode = engine._encode

        def failing(texts):
            if "bad" in texts:
                raise KeyError("bad")
            return encode(texts)

        engine._encode = failing
        asked = [engine.embed(EmbedRequest(text)) for text in ("a drama", "bad", "a comedy")]
        one, failed, other = await asyncio.gather(*asked, return_exceptions=True)
        assert one.input_tokens > 0 and other.input_tokens > 0
        assert isinstance(failed, EngineRefused) and failed.message == "t5: KeyError: 'bad'"
        assert deaths == []
        engine.close()

    asyncio.run(main())


def test_what_cannot_be_loaded_is_said_in_one_line(engines, tmp_path, tiny_t5, no_hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "modules.json").write_text("[]")
    commit = "0" * 40

    def said(model, **given):
        found = SentenceTransformersOptions(model=str(model), **given)
        client = SentenceTransformersBackend(found, replace(context(), engines=engines))
        with pytest.raises(EngineRefused) as refused:
            asyncio.run(client.embed(["a drama"]))
        assert "\n" not in refused.value.message
        return refused.value.message

    assert said("org/absent", revision=commit) == (
        "m: the model cannot be served: model 'org/absent' at 000000000000 is not in the Hub's "
        "cache on this machine, and the Hub cannot be reached; download it where there is a "
        "network, or give a folder"
    )
    absent = SentenceTransformersOptions(model="org/absent", revision=commit)
    backend = SentenceTransformersBackend(absent, replace(context(), engines=engines))
    with pytest.raises(UsageError, match="is not in the Hub's cache on this machine"):
        asyncio.run(backend.check(Workload([], {})))
    assert "`device: cuda`, but torch finds no GPU here" in said(tiny_t5, device="cuda")
    assert "m: the model cannot be served: " in said(broken)


def test_doctor_says_what_the_models_files_say(engines, tiny_t5):
    backend = SentenceTransformersBackend(options(tiny_t5), replace(context(), engines=engines))
    line = asyncio.run(backend.check(Workload([], {})))
    assert "modules: Transformer, Pooling, Dense, Normalize" in line
    assert "of a text, the first 32 tokens are read" in line
    with pytest.raises(EngineRefused, match="only embeds"):
        asyncio.run(backend.complete(call()))


def test_the_layout_in_which_sentence_t5_is_published_gives_the_same_vectors(tiny_t5, tmp_path):
    """It was saved by version 2 of the library: other names of modules, and a pickled Dense."""
    import torch
    from safetensors.torch import load_file

    old = Path(shutil.copytree(tiny_t5, tmp_path / "old"))
    names = ("Transformer", "Pooling", "Dense", "Normalize")
    paths = ("", "1_Pooling", "2_Dense", "3_Normalize")
    files = {
        "modules.json": [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
            for n, (path, name) in enumerate(zip(paths, names, strict=True))
        ],
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 24,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, content in files.items():
        (old / name).write_text(json.dumps(content))
    dense = old / "2_Dense" / "model.safetensors"
    torch.save(load_file(dense), old / "2_Dense" / "pytorch_model.bin")
    dense.unlink()
    (old / "config_sentence_transformers.json").unlink()

    async def main():
        spec = SentenceTransformersBackend.engine(options(old), "t5", True)
        engine = await SentenceEngine.start(spec, print)
        found = [await engine.embed(EmbedRequest(text)) for text in ("a drama", TEXTS[2])]
        engine.close()
        return found, engine.fingerprint()["context"]

    (short, long), context_found = asyncio.run(main())
    known = expected(tiny_t5, ["a drama"])[0]
    assert np.frombuffer(short.data, np.float32) == pytest.approx(known, abs=1e-6)
    assert (long.input_tokens, context_found) == (16, 16)
    line = _said_by_files(old, "old")
    assert line[-1] == "of a text, the first 16 tokens are read"
