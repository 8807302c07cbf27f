"""Options of the vLLM backend: what is refused, what is identity, what an engine gets."""

import os
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agents.core.errors import UsageError
from sweeps.origins import Origins, check
from workers.backends.vllm.backend import VLLMBackend
from workers.backends.vllm.model.arguments import IDENTITY, NUMBERS, OPERATIONAL
from workers.backends.vllm.model.cpu import CpuDtype, cpu_dtype
from workers.backends.vllm.model.options import VLLMOptions

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The least that is taken for a checkpoint."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


def options(model: Path | str, **more) -> VLLMOptions:
    return check(VLLMOptions, {"model": str(model), **more}, Origins(), ("models", "llama"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampling": {"temperature": 3}}, "sampling.temperature: expected a number of at most 2"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p: expected a number above 0"),
        ({"sampling": {"top_k": True}}, "top_k: booleans are not allowed here"),
        ({"sampling": {"temprature": 1}}, "did you mean 'temperature'?"),
        ({"sampling": {"max_tokens": 0}}, "sampling.max_tokens"),
        ({"max_model_len": 512}, "leaves no room for a prompt in max_model_len (512)"),
        ({"replica": 2}, "did you mean 'replicas'?"),
        ({"replicas": 0}, "replicas: expected auto, or a whole number of at least 1"),
        ({"tensor_parallel": 2, "gpus_per_replica": 0.5}, "gpus_per_replica must be"),
        ({"gpus_per_replica": 2}, "gpus_per_replica must be tensor_parallel (1)"),
        (
            {"gpus_per_replica": 0},
            "gpus_per_replica: expected a number of at least 0.001",
        ),
        ({"dtype": "int8"}, "dtype: expected 'auto'"),
        ({"kind": "embedding"}, "did you mean 'embed'?"),
        ({"kind": "embed", "sampling": {}}, "sampling cannot be combined with `kind: embed`"),
        ({"thinking": {}}, "thinking needs `guided: none`"),
        ({"guided": "none", "thinking": {"end": ""}}, "thinking.end"),
        ({"engine": {"max_num_seq": 1}}, "engine: vLLM has no engine argument 'max_num_seq'; did"),
        ({"engine": {"dtype": "auto"}}, "use the option `dtype`"),
        ({"engine": {"structured_outputs_config": {"backend": "auto"}}}, "name one"),
    ],
)
def test_mistakes_are_one_line_with_their_place(given, message):
    with pytest.raises(UsageError) as caught:
        options("some/model", **given)
    said = caught.value.message
    assert "models.llama" in said
    assert message in said
    assert "{" not in said.replace("found {", "")


def test_a_whole_sweep_entry_is_taken(folder):
    found = options(
        folder,
        replicas=2,
        max_model_len=8192,
        max_inflight=128,
        sampling={"temperature": 0.7, "top_p": 0.95, "max_tokens": 256},
        engine={"kv_cache_dtype": "fp8", "enforce_eager": True},
    )
    identity = found.identity()
    assert set(identity.pop("weights")) == {"content"}
    assert identity == {
        "max_model_len": 8192,
        "sampling": {"top_p": 0.95, "max_tokens": 256},
        "engine": {"kv_cache_dtype": "fp8"},
    }
    assert found.gpus == 1.0


def test_defaults_leave_nothing_but_the_weights(folder):
    assert set(options(folder).identity()) == {"weights"}


def test_a_greedy_model_is_fine(folder):
    sampling = options(folder, sampling={"temperature": 0}).sampling.for_engine()
    assert sampling == {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": 512,
    }


values = st.one_of(st.booleans(), st.integers(0, 9), st.text(max_size=4), st.none())
arguments = st.sampled_from(sorted(OPERATIONAL)).flatmap(
    lambda name: st.tuples(st.just(name), st.integers(0, 9) if name in NUMBERS else values)
)
operational = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(1, 64),
        "max_inflight": st.integers(1, 2048),
        "start_timeout": st.floats(1, 1e5),
        "gpus_per_replica": st.floats(0.01, 0.99) | st.just(1.0),
        "engine": st.lists(arguments, max_size=4).map(dict),
    },
) | st.integers(1, 8).map(lambda n: {"tensor_parallel": n, "gpus_per_replica": float(n)})


@settings(max_examples=60)
@given(operational)
def test_operational_changes_never_change_identity(folder, change):
    assert options(folder, **change).identity() == options(folder).identity()


# What the mapping of `structured_outputs_config` and the look-up of `tokenizer` refuse.
free = sorted(IDENTITY - {"structured_outputs_config", "tokenizer", "tokenizer_revision"})
sampling = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.01, 1),
        "top_k": st.integers(0, 100),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.1, 2),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "max_tokens": st.integers(1, 1024),
    },
)
deciding = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["auto", "float16", "bfloat16", "float32"]),
        "quantization": st.none() | st.sampled_from(["awq", "fp8"]),
        "max_model_len": st.none() | st.integers(1025, 9000),
        "sampling": sampling,
        "guided": st.sampled_from(["none", "json_schema"]),
        "engine": st.dictionaries(st.sampled_from(free), values, max_size=3),
    },
)


@settings(max_examples=60)
@given(deciding, deciding)
def test_what_decides_an_answer_always_changes_identity(folder, one, other):
    first, second = options(folder, **one), options(folder, **other)
    assume(first != second)
    # True and 1 are equal to Python, and so are options that hold them; to a canonical id not.
    assert first.identity() != second.identity()


def test_kind_and_thinking_are_identity(folder):
    plain = options(folder, guided="none").identity()
    assert plain != options(folder).identity()
    assert options(folder, kind="embed").identity() != options(folder).identity()
    thinking = options(folder, guided="none", thinking={}).identity()
    assert thinking != plain
    other = options(folder, guided="none", thinking={"end": "</t>"}).identity()
    assert other != thinking


def test_a_tokenizer_counts_by_its_content_not_by_its_path(folder, tmp_path):
    found = []
    for name in ("one", "two"):
        path = tmp_path / name
        path.mkdir()
        (path / "tokenizer.json").write_text("{}")
        found.append(options(folder, engine={"tokenizer": str(path)}))
    assert found[0].identity() == found[1].identity() != options(folder).identity()
    given = found[0].engine_arguments()
    assert (given["tokenizer"], given["tokenizer_revision"]) == (str(tmp_path / "one"), None)


def test_the_engine_gets_what_the_options_say(folder):
    assert options(folder, max_model_len=4096, max_inflight=64).engine_arguments() == {
        "model": str(folder),
        "runner": "generate",
        "dtype": "auto",
        "max_model_len": 4096,
        "tensor_parallel_size": 1,
        "max_num_seqs": 64,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"backend": "xgrammar"}, {"backend": "xgrammar", "disable_any_whitespace": True}),
        # vLLM refuses the word for libraries that have no such thing.
        ({"backend": "outlines"}, {"backend": "outlines"}),
        ({"backend": "lm-format-enforcer"}, {"backend": "lm-format-enforcer"}),
        (
            {"disable_any_whitespace": False},
            {"backend": "guidance", "disable_any_whitespace": False},
        ),
    ],
)
def test_whitespace_is_left_out_where_the_library_can_and_nothing_else_is_said(
    folder, given, found
):
    engine = {"structured_outputs_config": given}
    assert options(folder, engine=engine).engine_arguments()["structured_outputs_config"] == found


def test_what_is_prefix_cached_is_left_to_vllm_which_knows_the_model(folder):
    for kind in ("generate", "embed"):
        for cpu in (False, True):
            found = options(folder, kind=kind).engine_arguments(cpu=cpu)
            assert "enable_prefix_caching" not in found


def test_what_is_given_for_the_engine_wins(folder):
    given = {
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "gpu_memory_utilization": 0.5,
        "structured_outputs_config": {"disable_any_whitespace": True},
    }
    found = options(folder, engine=given, gpus_per_replica=0.25).engine_arguments()
    assert {name: found[name] for name in list(given)[:3]} == dict(list(given.items())[:3])
    assert found["structured_outputs_config"] == {
        "backend": "guidance",
        "disable_any_whitespace": True,
    }


def test_replicas_that_share_a_gpu_share_its_memory(folder):
    found = options(folder, gpus_per_replica=0.25)
    assert found.engine_arguments()["gpu_memory_utilization"] == pytest.approx(0.225)
    assert found.gpus == 0.25


def test_a_wide_replica_keeps_to_its_own_processes(folder):
    found = options(folder, tensor_parallel=4)
    assert found.gpus == 4.0
    assert found.engine_arguments()["distributed_executor_backend"] == "mp"


def test_an_embedding_engine_pools(folder):
    found = options(folder, kind="embed").engine_arguments()
    assert found["runner"] == "pooling"
    assert "structured_outputs_config" not in found


@pytest.mark.parametrize(("given", "tokens"), [({}, None), ({"max_num_batched_tokens": 64}, 2048)])
def test_on_a_cpu_prompts_are_never_split(folder, given, tokens):
    wanted = {"enable_chunked_prefill": True, **given}
    found = options(folder, max_model_len=2048, engine=wanted).engine_arguments(cpu=True)
    assert found["enable_chunked_prefill"] is False
    assert found.get("max_num_batched_tokens") == tokens
    assert found["enforce_eager"] is True
    without = options(folder, engine=wanted).engine_arguments(cpu=True)
    assert "max_num_batched_tokens" not in without  # vLLM's own is at least the context


X86 = "processor\t: 0\nmodel name\t: some\nflags\t\t: fpu sse4_2 avx2 fma {}\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd fphp {}\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("cpuinfo", "dtype", "reason"),
    [
        (X86.format(""), "float32", "neither AVX512 nor AMX"),
        (X86.format("avx_vnni f16c"), "float32", "neither AVX512 nor AMX"),
        (X86.format("avx512f avx512dq"), "bfloat16", "has AVX512"),
        (X86.format("amx_bf16 amx_tile"), "bfloat16", "has AMX"),
        (ARM.format("i8mm"), "float32", "neither"),
        (ARM.format("i8mm bf16"), "bfloat16", "has bf16 instructions"),
        ("model name: avx512f\n", "float32", "neither"),
        (None, "float32", "cannot be read"),
    ],
)
def test_a_cpu_computes_with_what_it_is_fast_at(tmp_path, cpuinfo, dtype, reason):
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    found = cpu_dtype(path)
    assert found.name == dtype
    assert reason in found.reason


def on_a_slow_cpu(monkeypatch):
    monkeypatch.setattr(
        "workers.backends.vllm.model.options.cpu_dtype",
        lambda: CpuDtype("float32", "this CPU is slow"),
    )


def test_auto_follows_the_cpu_and_identity_does_not(folder, monkeypatch):
    before = options(folder)
    fast = (before.identity(), before.engine_key())
    on_a_slow_cpu(monkeypatch)
    assert options(folder).engine_arguments(cpu=True)["dtype"] == "float32"
    assert options(folder, kind="embed").engine_arguments(cpu=True)["dtype"] == "float32"
    assert options(folder).engine_arguments()["dtype"] == "auto"  # a GPU
    assert (options(folder).identity(), options(folder).engine_key()) == fast
    said = options(folder, dtype="bfloat16")
    assert said.engine_arguments(cpu=True)["dtype"] == "bfloat16"
    assert said.identity() != options(folder).identity()


def test_quantised_weights_keep_to_bfloat16(folder, monkeypatch):
    on_a_slow_cpu(monkeypatch)
    assert options(folder, quantization="awq").engine_arguments(cpu=True)["dtype"] == "bfloat16"
    (folder / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    assert options(folder).engine_arguments(cpu=True)["dtype"] == "bfloat16"


def test_the_plan_says_what_auto_is(folder, monkeypatch):
    on_a_slow_cpu(monkeypatch)

    def notes(cpu, **more):
        return VLLMBackend.engine(options(folder, **more), "llama", cpu).notes

    assert notes(True) == ("dtype auto is float32: this CPU is slow",)
    assert notes(False) == notes(True, dtype="float32") == ()


def test_models_that_differ_in_sampling_alone_share_an_engine(folder):
    plain = options(folder)
    for change in (
        {"sampling": {"temperature": 0}},
        {"guided": "none", "thinking": {}},
        {"replicas": 3},
        {"start_timeout": 5},
    ):
        assert options(folder, **change).engine_key() == plain.engine_key()
    for change in (
        {"kind": "embed"},
        {"max_model_len": 2048},
        {"dtype": "float32"},
        {"tensor_parallel": 2},
        {"max_inflight": 8},
        {"gpus_per_replica": 0.5},
        {"engine": {"enforce_eager": True}},
    ):
        assert options(folder, **change).engine_key() != plain.engine_key()


def test_other_weights_in_the_same_place_are_another_engine(folder):
    from workers.backends.core import weights

    before = options(folder).engine_key()
    (folder / "config.json").write_text('{"other": 1}')
    os.utime(folder / "config.json", (1, 1))
    weights._known.clear()
    assert options(folder).engine_key() != before


def test_a_hub_model_is_pinned_to_its_commit(no_hub):
    commit = "0123456789abcdef" * 2 + "01234567"
    found = options("meta-llama/Llama-3.1-8B-Instruct", revision=commit)
    assert found.identity() == {
        "weights": {"hub": "meta-llama/Llama-3.1-8B-Instruct", "commit": commit}
    }
    assert found.engine_arguments()["revision"] == commit
