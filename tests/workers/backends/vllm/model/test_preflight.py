"""What `crsweep doctor` finds before any GPU is taken, with real tokenizers and configs."""

import importlib.util
import json
import re
import shutil
import struct
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from agents.core.errors import UsageError
from agents.core.steps import ReplyModel, Step, text
from tests.tiny_models import CONTEXT
from workers.backends.vllm.model import memory, preflight
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.model.preflight import check_model
from workers.backends.vllm.model.reply_length import longest_reply

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
    ),
]
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)

PROMPTS = [
    [{"role": "user", "content": "Which film do you like? " * times}] for times in (1, 5, 20)
]


class Reply(ReplyModel):
    words: Annotated[str, text(100)]
    score: Annotated[int, Field(ge=0, le=9)]


SCHEMAS = {"reply": Reply.model_json_schema()}


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may spoil."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "spoilt"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def options(model: Path, **more) -> VLLMOptions:
    return VLLMOptions.model_validate(
        {"model": str(model), "sampling": {"max_tokens": 200}, **more}
    )


def refusal(found: VLLMOptions, prompts=PROMPTS, schemas=None, gpu_memory=None) -> str:
    with pytest.raises(UsageError) as caught:
        check_model(found, prompts, schemas or {}, gpu_memory)
    return caught.value.message


@needs_vllm
@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen"])
def test_a_valid_model_is_described_line_by_line(family, request):
    model = request.getfixturevalue(family)
    lines = check_model(options(model, max_model_len=2048), PROMPTS, SCHEMAS, 80.0)
    assert all("\n" not in line for line in lines)
    said = "\n".join(lines)
    assert re.search(r"^weights: .*tiny-\w+ at [0-9a-f]{12}$", said, re.M)
    assert "with a chat template" in said
    assert re.search(r"^context: 2,048 tokens; longest prompt \d+ tokens, reply 200$", said, re.M)
    assert "schemas: 1 compiled by guidance" in said
    assert "0.5 KiB per token" in said  # 2 * 2 layers * 2 heads * 32 * 2 bytes
    assert "room for" in said
    assert "note" not in said


def test_the_longest_prompt_is_counted_through_the_template(tiny_llama):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    rendered = tokenizer.apply_chat_template(PROMPTS[2], add_generation_prompt=True, tokenize=False)
    count = len(tokenizer.encode(rendered, add_special_tokens=False))
    assert f"longest prompt {count:,} tokens" in "\n".join(
        check_model(options(tiny_llama), PROMPTS, {}, None)
    )


def test_many_prompts_are_sampled_with_the_longest_among_them():
    prompts = [[{"role": "user", "content": "x" * n}] for n in range(5000)]
    chosen = preflight._chosen(prompts)
    assert len(chosen) <= 256
    assert chosen[0] == prompts[-1]
    assert len(chosen[-1][0]["content"]) < 100


def test_a_base_model_has_no_chat_template(copy):
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    assert "has no chat template" in refusal(options(copy))


def test_a_missing_tokenizer(copy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    assert "its tokenizer cannot be loaded" in refusal(options(copy))


def test_a_template_that_fails_on_the_prompts(tiny_llama, copy):
    (copy / "chat_template.jinja").write_text("{{ raise_exception('no system message') }}")
    said = refusal(options(copy))
    assert "its chat template fails" in said
    assert "no system message" in said


def test_a_config_of_no_known_model(copy):
    change(copy / "config.json", model_type="nothing_known")
    said = refusal(options(copy))
    assert "cannot be loaded" in said
    assert "\n" not in said


def test_a_context_that_is_too_short(tiny_llama):
    said = refusal(options(tiny_llama, max_model_len=256))
    assert re.search(r"longest prompt \d+ tokens, reply 200: together more than its", said)
    assert "its context of 256" in said


def test_a_context_that_the_model_does_not_know(tiny_llama):
    said = refusal(options(tiny_llama, max_model_len=100_000))
    assert f"max_model_len is 100,000, but the model has {CONTEXT:,} positions" in said


@pytest.mark.parametrize(
    ("scaling", "known"),
    [({"rope_type": "linear", "factor": 2.0}, 2 * CONTEXT), ({"rope_type": "default"}, CONTEXT)],
)
def test_scaled_positions_count(copy, scaling, known):
    change(copy / "config.json", rope_parameters={"rope_theta": 10000.0, **scaling})
    lines = check_model(options(copy), PROMPTS, {}, None)
    assert any(f"context: {known:,} tokens" in line for line in lines)


@needs_vllm
@pytest.mark.parametrize("backend", ["guidance", "xgrammar"])
def test_schemas_that_cannot_be_held(tiny_llama, backend):
    found = options(tiny_llama, engine={"structured_outputs_config": {"backend": backend}})
    odd = {"type": "object", "patternProperties": {"a": {"type": "string"}, "b": {}}}
    said = refusal(found, schemas={"odd": odd})
    assert f"{backend} cannot guide replies by the schema of step 'odd'" in said


@needs_vllm
def test_xgrammar_would_ignore_the_bounds_of_our_strings(tiny_llama):
    found = options(tiny_llama, engine={"structured_outputs_config": {"backend": "xgrammar"}})
    assert "backend: guidance` can use it" in refusal(found, schemas=SCHEMAS)
    plain = {
        "type": "object",
        "properties": {"score": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert "schemas: 1 compiled by xgrammar" in check_model(found, PROMPTS, {"plain": plain}, None)


@needs_vllm
def test_replies_that_may_not_end_or_may_be_cut_off(tiny_llama):
    class Long(ReplyModel):
        words: Annotated[str, text(5000)]

    class Endless(ReplyModel):
        words: str

    schemas = {"long": Long.model_json_schema(), "endless": Endless.model_json_schema()}
    notes = [n for n in check_model(options(tiny_llama), PROMPTS, schemas, None) if "note" in n]
    assert len(notes) == 2
    assert "step 'long' may have 5,012 characters" in notes[0]
    assert "step 'endless' is unbounded" in notes[1]


def test_free_text_needs_no_schema(tiny_llama):
    found = options(tiny_llama, guided="none", thinking={})
    assert not any("schema" in line for line in check_model(found, PROMPTS, SCHEMAS, None))


@pytest.mark.parametrize(
    ("schema", "longest"),
    [
        ({"type": "string", "maxLength": 5}, 7),
        ({"type": "string"}, None),
        ({"enum": ["ab", "abcd"]}, 6),
        ({"const": "ab"}, 4),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, 5),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 3}, 19),
        ({"type": "array", "items": {"type": "boolean"}}, None),
        ({"type": "integer"}, 20),
        ({"type": "integer", "minimum": 1, "maximum": 100}, 3),
        ({"type": "integer", "minimum": -10, "maximum": 5}, 3),
        ({"type": "object", "properties": {"a": {"type": "boolean"}}}, None),
        (
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {"a": {"$ref": "#/$defs/x"}},
                "$defs": {"x": {"type": "string", "maxLength": 2}},
            },
            10,
        ),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}, None),
    ],
)
def test_the_longest_reply(schema, longest):
    assert longest_reply(schema) == longest


def test_weights_that_do_not_fit_a_gpu(tiny_llama):
    assert "raise tensor_parallel (1) or gpus_per_replica" in refusal(
        options(tiny_llama), gpu_memory=1.0
    )


def test_a_full_context_that_does_not_fit(tiny_llama):
    said = refusal(options(tiny_llama, engine={"gpu_memory_utilization": 0.7509}), gpu_memory=2.0)
    assert "set max_model_len to at most" in said
    most = int(said.rsplit(" ", 1)[1].replace(",", ""))
    assert 0 < most < CONTEXT


def test_a_share_of_a_gpu_has_a_share_of_its_memory(tiny_llama):
    check_model(options(tiny_llama), PROMPTS, {}, 4.0)
    assert "do not fit in the 0.9 GiB" in refusal(
        options(tiny_llama, gpus_per_replica=0.25), gpu_memory=4.0
    )


def test_fewer_requests_at_once_than_wanted_is_said(tiny_llama):
    found = options(tiny_llama, max_inflight=100_000)
    line = check_model(found, PROMPTS, {}, 4.0)[-1]
    assert "fewer than max_inflight" in line


def weight_bytes(found: VLLMOptions) -> float | None:
    return memory._weight_bytes(found, preflight._config(found))


def test_weights_are_measured_as_the_engine_holds_them(tiny_llama):
    from safetensors import safe_open

    with safe_open(tiny_llama / "model.safetensors", "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert weight_bytes(options(tiny_llama)) == 2 * count
    assert weight_bytes(options(tiny_llama, dtype="float32")) == 4 * count


def test_without_weights_the_config_gives_their_size(copy):
    measured = weight_bytes(options(copy))
    (copy / "model.safetensors").unlink()
    assert weight_bytes(options(copy)) == measured
    assert weight_bytes(options(copy, quantization="awq")) is None


def test_weights_that_were_cut_off_are_found(copy):
    whole = (copy / "model.safetensors").read_bytes()
    for part in (whole[: len(whole) // 2], whole[:4], struct.pack("<Q", 1 << 60) + b"{}", b""):
        (copy / "model.safetensors").write_bytes(part)
        assert "is not a complete safetensors file" in refusal(options(copy), gpu_memory=80.0)


def test_the_cache_is_split_over_gpus_as_far_as_there_are_heads(tiny_llama):
    config = preflight._config(options(tiny_llama))
    one, two, four = (
        memory._cache_bytes(options(tiny_llama, tensor_parallel=n), config) for n in (1, 2, 4)
    )
    assert (one, two, four) == (512, 256, 256)  # it has 2 heads
    small = options(tiny_llama, engine={"kv_cache_dtype": "fp8"})
    assert memory._cache_bytes(small, config) == 256


def test_an_embedding_model_needs_no_template(copy):
    (copy / "chat_template.jinja").unlink()
    found = VLLMOptions(model=str(copy), kind="embed")
    with pytest.raises(UsageError, match="cannot reply to the step 'reply'"):
        check_model(found, PROMPTS, SCHEMAS, 80.0)
    lines = check_model(found, PROMPTS, {}, 80.0)
    assert any(re.search(r"longest prompt \d+ tokens$", line) for line in lines)
    assert not any("schema" in line or "at once" in line for line in lines)


SHORT = PROMPTS[:2]


def embed(model: Path, **more) -> VLLMOptions:
    return VLLMOptions.model_validate({"model": str(model), "kind": "embed", **more})


def test_an_encoder_is_checked_as_vllm_serves_it(tiny_bert):
    lines = check_model(embed(tiny_bert), SHORT, {}, 80.0)
    assert "pooling: mean, as the model's modules.json says" in lines
    # What it was made for, and not the 512 positions that it knows.
    assert any(line.startswith("context: 128 tokens; longest prompt") for line in lines)
    assert lines[-1].startswith("memory: weights 0.00 GiB per GPU, no KV cache; ")
    said = refusal(embed(tiny_bert), [[{"role": "user", "content": "a drama " * 200}]])
    assert "together more than its context of 128" in said
    on, off = ({"engine": {"enable_prefix_caching": value}} for value in (True, False))
    assert "is an encoder" in refusal(embed(tiny_bert, **on), SHORT)
    assert check_model(embed(tiny_bert, **off), SHORT, {}, 80.0) == lines


def test_pooling_is_said_as_it_will_be(tiny_bert, tiny_llama, tmp_path):
    def said(model, **more):
        [line] = [
            x for x in check_model(embed(model, **more), SHORT, {}, 80.0) if x.startswith("pooling")
        ]
        return line

    folder = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    change(folder / "1_Pooling" / "config.json",
           pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)  # fmt: skip
    assert said(folder).startswith("pooling: cls, as")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    assert said(folder).startswith("pooling: lasttoken, as")
    (folder / "modules.json").write_text("not json")
    assert said(folder) == "pooling: the model's files name none, so it is vLLM's default for bert"
    assert said(tiny_llama).endswith("vLLM's default for llama")
    assert said(folder, engine={"pooler_config": {"seq_pooling_type": "CLS"}}) == (
        "pooling: as `engine.pooler_config` says"
    )


def test_without_weights_the_config_of_an_encoder_gives_their_size(tiny_bert, tmp_path):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    measured = weight_bytes(embed(folder))
    (folder / "model.safetensors").unlink()
    assert measured == weight_bytes(embed(folder))


@pytest.mark.parametrize("kind", ["generate", "embed"])
def test_what_a_cpu_computes_with_is_named_if_there_is_no_gpu(tiny_llama, kind):
    def dtypes(gpu_memory, **more):
        found = VLLMOptions.model_validate({"model": str(tiny_llama), "kind": kind, **more})
        return [x for x in check_model(found, PROMPTS, {}, gpu_memory) if "dtype" in x]

    [line] = dtypes(None)
    assert re.match(r"without a GPU: dtype auto is (float32|bfloat16): ", line)
    assert dtypes(None, dtype="float32") == dtypes(80.0) == []


class Thought(ReplyModel):
    thought: Annotated[str, text(20)]
    action: Literal["recommend", "ask"]


@needs_vllm
@pytest.mark.parametrize(
    ("reply", "taken"),
    [
        ('{"thought":"a","action":"ask"}', True),
        ('{"action":"ask","thought":"a"}', False),
        ('{ "thought": "a", "action": "ask" }', False),  # free whitespace
    ],
)
def test_guided_decoding_takes_fields_in_the_order_of_the_schema_alone(tiny_llama, reply, taken):
    """What the sent order is for: were another taken too, nothing would hold a model to it."""
    import llguidance
    import llguidance.hf
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    sent = Step("think", "decide", Thought).schema_json
    grammar = llguidance.LLMatcher.grammar_from_json_schema(
        sent, defaults={"whitespace_flexible": False}
    )
    matcher = llguidance.LLMatcher(llguidance.hf.from_tokenizer(tokenizer), grammar)
    assert not matcher.get_error()
    ids = tokenizer.encode(reply, add_special_tokens=False)
    assert (matcher.validate_tokens(ids) == len(ids)) is taken
