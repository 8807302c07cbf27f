"""One real engine in this process, with tiny random weights on the CPU."""

import asyncio
import json
import os

import numpy as np
import pytest

from agents.core.errors import ContextOverflow
from tests import tiny_models
from workers.backends.core.engines import EmbedRequest, Request
from workers.backends.vllm.backend import VLLMBackend
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.serving.engine import VLLMEngine, clean_environment
from workers.core.concurrency import Load

pytestmark = pytest.mark.vllm

PLAIN = r'^[^"\\\u0000-\u001f]*$'
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"words": {"type": "string", "maxLength": 30, "pattern": PLAIN}},
        "required": ["words"],
        "additionalProperties": False,
    }
)
SAMPLING = json.dumps({"temperature": 0.7, "max_tokens": 120})


def chat(words):
    return json.dumps([{"role": "user", "content": words}])


def request(words="hello", seed=0, schema=SCHEMA, sampling=SAMPLING, thinking=""):
    return Request(chat(words), schema, seed, sampling, thinking)


class Running:
    """An engine, and the event loop that it lives on."""

    def __init__(self, folder, **options):
        self.environment = dict(os.environ)  # the tests after this one start from it
        clean_environment(True, 1)
        self.loop = asyncio.Runner()
        self.deaths = []
        spec = VLLMBackend.engine(
            VLLMOptions(model=str(tiny_models.make(folder, "llama")), **options), "tiny", True
        )
        self.engine = self.loop.run(VLLMEngine.start(spec, self.deaths.append))

    def generate(self, *requests):
        async def all_of_them():
            return await asyncio.gather(*map(self.engine.generate, requests))

        return self.loop.run(all_of_them())

    def close(self):
        async def end():
            self.engine.close()

        self.loop.run(end())
        self.loop.close()
        os.environ.clear()
        os.environ.update(self.environment)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    running = Running(
        tmp_path_factory.mktemp("models"), max_model_len=4096, max_inflight=32,
        sampling={"max_tokens": 120},
    )  # fmt: skip
    yield running
    running.close()
    assert running.deaths == []


def test_replies_keep_to_the_schema_and_tell_their_tokens(tiny):
    before = tiny.engine.pulse.counts
    tiny.engine.pulse.take_load()
    found = tiny.generate(*(request(f"case {i}", i) for i in range(24)))
    for completion in found:
        assert set(json.loads(completion.text)) == {"words"}
        assert completion.finish_reason == "stop"
    after = tiny.engine.pulse.counts
    assert after.prompt_tokens - before.prompt_tokens == sum(c.input_tokens for c in found)
    assert after.output_tokens - before.output_tokens == sum(c.output_tokens for c in found)
    load = tiny.engine.pulse.take_load()
    assert 0 < load.kv < 1
    assert load._replace(kv=0) == Load()


def test_calls_that_lose_their_place_in_the_cache_are_counted(tiny):
    """What vLLM says of that comes with the outputs of a step."""
    from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, EngineCoreOutput

    kinds = [EngineCoreEventType.SCHEDULED, EngineCoreEventType.PREEMPTED]
    events = [EngineCoreEvent.new_event(kind) for kind in kinds]
    unowned = [
        EngineCoreOutput("gone", [1], events=events), EngineCoreOutput("also gone", [1]),
    ]  # fmt: skip
    before = tiny.engine.pulse.take_load().preempted
    tiny.engine._llm.output_processor.process_outputs(unowned)
    assert tiny.engine.pulse.take_load().preempted == before + 1


def test_no_token_goes_into_whitespace(tiny):
    """Random weights would write much of it: a space is as likely as any other token."""
    schema = json.dumps(
        {
            "type": "object",
            "properties": {
                "titles": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 8, "pattern": PLAIN},
                    "minItems": 3,
                    "maxItems": 3,
                },
                "more": {"type": "boolean"},
            },
            "required": ["titles", "more"],
            "additionalProperties": False,
        }
    )
    for completion in tiny.generate(*(request(f"case {i}", i, schema) for i in range(8))):
        found = json.loads(completion.text)
        assert completion.text == json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def test_a_seed_decides_a_reply_in_any_company(tiny):
    alone = [tiny.generate(request("hello", seed))[0].text for seed in range(4)]
    together = [c.text for c in tiny.generate(*(request("hello", seed) for seed in range(4)))]
    assert alone == together
    assert len(set(alone)) > 1


def test_a_long_seeded_prompt_does_not_kill_the_engine(tiny):
    # Longer than one step of the scheduler with its defaults for CPUs: a split prompt would
    # rewind the generator of its seed, which ends the engine.
    words = "which film do you like " * 600
    [completion] = tiny.generate(request(words, seed=7))
    assert completion.input_tokens > 2500  # the default for one step is 2,048
    assert tiny.generate(request("hello"))[0].finish_reason == "stop"


def test_a_prompt_that_leaves_no_room_for_the_reply_is_refused_with_sizes(tiny):
    with pytest.raises(ContextOverflow) as caught:
        tiny.generate(request("which film do you like " * 2000))
    assert "do not fit the context of 4,096 tokens of tiny" in caught.value.message
    assert "a reply of up to 120" in caught.value.message


def test_a_truncated_reply_says_so(tiny):
    sampling = json.dumps({"temperature": 0.7, "max_tokens": 3})
    [completion] = tiny.generate(request(sampling=sampling))
    assert (completion.finish_reason, completion.output_tokens) == ("length", 3)


def test_without_a_schema_the_reply_is_free_text(tiny):
    sampling = json.dumps({"temperature": 1.5, "max_tokens": 40})
    found = tiny.generate(*(request(seed=i, schema="", sampling=sampling) for i in range(8)))
    assert any(not c.text.startswith("{") for c in found)


def test_thinking_is_kept_and_counted_apart(tiny):
    # No random model ends its thinking: the schema makes it say so, in place of `</think>`.
    schema = json.dumps({"type": "string", "enum": ["long thoughts|reply"]})
    [completion] = tiny.generate(request(schema=schema, thinking="thoughts|"))
    assert completion.thinking == '"long '
    assert completion.text == 'reply"'
    assert 0 < completion.thinking_tokens < completion.output_tokens
    [cut] = tiny.generate(
        request(schema="", sampling=json.dumps({"max_tokens": 5, "ignore_eos": True}),
                thinking="</think>")
    )  # fmt: skip
    assert (cut.finish_reason, cut.text, cut.thinking_tokens) == ("length", "", 5)


def test_what_served_is_on_record(tiny):
    found = tiny.engine.fingerprint()
    assert found["device"] == "cpu"
    assert found["chunked_prefill"] is False
    assert found["prefix_caching"] is True
    assert {"vllm", "torch", "dtype", "max_num_seqs"} <= set(found)


def test_a_prefix_that_was_seen_is_found_in_the_cache(tiny):
    words = "a prefix that many dialogues share " * 20
    tiny.generate(request(words + "one"))
    before = tiny.engine.pulse.counts
    tiny.generate(request(words + "two"))
    after = tiny.engine.pulse.counts
    hits = after.prefix_hits - before.prefix_hits
    assert hits > 0.8 * (after.prefix_queries - before.prefix_queries)


def test_embeddings_are_pooled_as_the_model_says(tmp_path, tiny_bert):
    """A decoder, whose last token counts, and an encoder as MiniLM, which takes the mean."""
    loop = asyncio.Runner()
    clean_environment(True, 1)
    decoder = tiny_models.make(tmp_path, "llama")
    texts = ["a drama", "a drama", "a comedy of errors", "which film do you like"]

    def spec(model, **options):
        found = VLLMOptions(model=str(model), kind="embed", max_inflight=8, **options)
        return VLLMBackend.engine(found, model.name, True)

    async def main():
        engines = await asyncio.gather(  # at once: each start takes half a minute
            *(VLLMEngine.start(each, print) for each in (spec(decoder), spec(tiny_bert)))
        )
        try:
            for engine, known in zip(
                engines, (last_state(decoder), mean_state(tiny_bert)), strict=True
            ):
                replies = await asyncio.gather(*(engine.embed(EmbedRequest(t)) for t in texts))
                vectors = [np.frombuffer(reply.data, np.float32) for reply in replies]
                assert min(map(cosine, vectors, map(known, texts))) > 0.999
                assert cosine(vectors[0], vectors[1]) > 0.9999
                assert cosine(vectors[0], vectors[2]) < 0.99
            assert [e.fingerprint()["prefix_caching"] for e in engines] == [True, False]
            with pytest.raises(ContextOverflow, match="does not fit the context of 128"):
                await engines[1].embed(EmbedRequest("a drama " * 200))
        finally:
            for engine in engines:
                engine.close()

    with loop:
        loop.run(main())


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def states_of(folder):
    """The last hidden states of a text, one row per token, as transformers has them."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def states(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()

    return states


def mean_state(folder):
    states = states_of(folder)
    return lambda text: states(text).mean(axis=0)


def last_state(folder):
    states = states_of(folder)
    return lambda text: states(text)[-1]
