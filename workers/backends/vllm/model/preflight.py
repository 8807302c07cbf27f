"""What a declared model will not be able to do, found before any GPU is taken.

No engine is started and no weights are loaded: the tokenizer, the config and the headers of the
weights tell enough.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from agents.core.errors import UsageError
from workers.backends.vllm.model.memory import PromptLengths, error_line, is_encoder, memory_line
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.model.reply_length import longest_reply

T = TypeVar("T")
Messages = Sequence[Mapping[str, str]]

_MEASURED = 256  # prompts that are tokenised: the longest ones, and a sample for the mean
_LONGEST = 32
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
)
# Kinds of scaled positions whose config already has the scaled length, as vLLM reads them.
_ALREADY_SCALED = frozenset(
    ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling", "default")
)


def check_model(
    options: VLLMOptions,
    prompts: Sequence[Messages],
    schemas: Mapping[str, Mapping[str, Any]],
    gpu_memory: float | None,
) -> list[str]:
    """Lines on what was found; UsageError for the first thing that will not work.

    `prompts` are those of rehearsed dialogues, `schemas` the reply schemas by step, and
    `gpu_memory` is the memory of one GPU in GiB, if known. For `kind: embed` a prompt is one
    message that holds the text.
    """
    if options.kind == "embed" and schemas:
        raise UsageError(
            f"a model with `kind: embed` cannot reply to the step {next(iter(schemas))!r}"
        )
    weights = options.weights()
    lines = [f"weights: {weights.name} at {weights.version[:12]}"]
    tokenizer = _tokenizer(options)
    config = _config(options)
    if options.kind == "generate":
        lengths = _lengths(options, tokenizer, prompts)
        lines.append(f"tokenizer: {len(tokenizer):,} tokens, with a chat template")
    else:
        lengths = _text_lengths(tokenizer, prompts)
        lines.append(f"tokenizer: {len(tokenizer):,} tokens")
    context = _context(options, config)
    lines.append(_fits(options, context, lengths))
    if options.kind == "embed":
        lines.append(_pooling(options, config))
    if gpu_memory is None and options.dtype == "auto":
        lines.append(f"without a GPU: {auto_dtype(options)}")
    if options.kind == "generate" and options.guided == "json_schema" and schemas:
        lines += _schemas(options, tokenizer, config, schemas, lengths)
    lines.append(memory_line(options, config, context, lengths, gpu_memory))
    return lines


def auto_dtype(options: VLLMOptions) -> str:
    """What `dtype: auto` is where the engine runs on this CPU, in one line."""
    name, reason = options.cpu_dtype()
    return f"dtype auto is {name}: {reason}"


def _tokenizer(options: VLLMOptions) -> Any:
    from transformers import AutoTokenizer

    found = options.tokenizer()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            found.name, revision=found.revision, trust_remote_code=_trusted(options)
        )
    except Exception as error:  # files from outside: reading them may raise anything
        raise UsageError(
            f"model {options.model!r}: its tokenizer cannot be loaded: {error_line(error)}"
        ) from error
    if options.kind == "generate" and not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"model {options.model!r} has no chat template: it is a base model, or its "
            "tokenizer_config.json or chat_template.jinja is missing"
        )
    return tokenizer


def _config(options: VLLMOptions) -> Any:
    """The model's config, that of the text part of a model for several media."""
    from transformers import AutoConfig

    found = options.weights()
    overrides = options.engine.get("hf_overrides")
    try:
        config = AutoConfig.from_pretrained(
            str(options.engine.get("hf_config_path") or found.name),
            revision=found.revision,
            trust_remote_code=_trusted(options),
        )
        if isinstance(overrides, dict):
            config.update(overrides)
    except Exception as error:  # files from outside: reading them may raise anything
        raise UsageError(
            f"model {options.model!r}: its config cannot be loaded: {error_line(error)}"
        ) from error
    return config.get_text_config()


def _trusted(options: VLLMOptions) -> bool:
    return options.engine.get("trust_remote_code") is True


def _lengths(options: VLLMOptions, tokenizer: Any, prompts: Sequence[Messages]) -> PromptLengths:
    """Renders through the chat template as the engine does, and counts."""
    texts = []
    for messages in _chosen(prompts):
        try:
            texts.append(
                tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    add_generation_prompt=True,
                    tokenize=False,
                )
            )
        except Exception as error:  # the template is the model's own code
            raise UsageError(
                f"model {options.model!r}: its chat template fails: {error_line(error)}"
            ) from error
    return _count(tokenizer, texts, special=False)


def _text_lengths(tokenizer: Any, prompts: Sequence[Messages]) -> PromptLengths:
    return _count(tokenizer, [m["content"] for p in _chosen(prompts) for m in p], special=True)


def _chosen(prompts: Sequence[Messages]) -> list[Messages]:
    """The longest prompts, and some of all lengths."""
    ordered = sorted(prompts, key=lambda p: -sum(len(m["content"]) for m in p))
    rest = ordered[_LONGEST:]
    return ordered[:_LONGEST] + rest[:: max(1, math.ceil(len(rest) / (_MEASURED - _LONGEST)))]


def _count(tokenizer: Any, texts: Sequence[str], special: bool) -> PromptLengths:
    counts = [len(tokenizer.encode(text, add_special_tokens=special)) for text in texts]
    if not counts:
        return PromptLengths(0, 0.0, 1.0)
    characters = sum(map(len, texts))
    return PromptLengths(max(counts), fmean(counts), max(characters / max(1, sum(counts)), 0.1))


def _context(options: VLLMOptions, config: Any) -> int | None:
    """Tokens of prompt and reply together; None if the config does not say."""
    sentence = _sentence_length(options.weights().path) if options.kind == "embed" else None
    own = sentence or _own_context(config)
    asked = options.max_model_len
    if asked is None:
        return own
    if own is not None and asked > own:
        raise UsageError(
            f"model {options.model!r}: max_model_len is {asked:,}, but the model has "
            f"{own:,} positions"
        )
    return asked


def _own_context(config: Any) -> int | None:
    known = [n for key in _CONTEXT_KEYS if isinstance(n := getattr(config, key, None), int)]
    if not known:
        return None
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    factor = 1.0
    if isinstance(scaling, dict) and "gemma3" not in str(config.model_type):
        kind = scaling.get("rope_type", scaling.get("type"))
        if kind is not None and kind not in _ALREADY_SCALED:
            factor = float(scaling.get("factor") or 1.0)
    return int(min(known) * factor)


def _fits(options: VLLMOptions, context: int | None, lengths: PromptLengths) -> str:
    reply = options.sampling.max_tokens if options.kind == "generate" else 0
    what = f"longest prompt {lengths.longest:,} tokens" + (f", reply {reply:,}" if reply else "")
    if context is None:
        return f"context: the model's config does not say; {what}"
    if lengths.longest + reply > context:
        raise UsageError(
            f"model {options.model!r}: {what}: together more than its context of {context:,}; "
            "raise max_model_len, or lower sampling.max_tokens or the limits of the dialogue"
        )
    return f"context: {context:,} tokens; {what}"


def _pooling(options: VLLMOptions, config: Any) -> str:
    """How the states of a text's tokens become one vector."""
    if is_encoder(config) and options.engine.get("enable_prefix_caching"):
        raise UsageError(
            f"model {options.model!r} is an encoder: its states depend on the whole text, so no "
            "prefix can be cached; leave out `engine.enable_prefix_caching`"
        )
    if "pooler_config" in options.engine:
        return "pooling: as `engine.pooler_config` says"
    folder = options.weights().path
    if folder is None:
        return "pooling: as the model's files say, which are not here yet"
    said = _said_pooling(folder)
    if said:
        return f"pooling: {said}, as the model's modules.json says"
    return f"pooling: the model's files name none, so it is vLLM's default for {config.model_type}"


def _said_pooling(folder: Path) -> str:
    """The pooling that a sentence-transformers checkpoint names; empty if it names none."""
    for module in _json(folder / "modules.json", []):
        if isinstance(module, dict) and str(module.get("type")).endswith(".Pooling"):
            found = _json(folder / str(module.get("path")) / "config.json", {})
            mode = found.get("pooling_mode")
            modes = [mode] if mode else [key for key, value in found.items() if value is True]
            return ", ".join(str(m).removeprefix("pooling_mode_").split("_")[0] for m in modes)
    return ""


def _sentence_length(folder: Path | None) -> int | None:
    """Tokens that a sentence-transformers checkpoint was made for, which is what vLLM takes."""
    if folder is None:
        return None
    for path in sorted(folder.glob("sentence_*_config.json")):
        found = _json(path, {}).get("max_seq_length")
        if isinstance(found, int):
            return found
    return None


def _json(path: Path, like: T) -> T:
    """What the file at `path` holds, if that is of the kind of `like`; else `like`."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return like
    return found if isinstance(found, type(like)) else like


def _schemas(
    options: VLLMOptions,
    tokenizer: Any,
    config: Any,
    schemas: Mapping[str, Mapping[str, Any]],
    lengths: PromptLengths,
) -> list[str]:
    """Compiles every schema as the engine will."""
    library = options.guided_backend
    try:
        if library == "guidance":
            compiles = _with_guidance(tokenizer)
        elif library == "xgrammar":
            compiles = _with_xgrammar(tokenizer, config)
        elif library in ("outlines", "lm-format-enforcer"):
            return [f"schemas: not checked, {library!r} is not known here"]
        else:
            raise UsageError(
                f"{library!r} is not a library for guided decoding (known: guidance, xgrammar)"
            )
    except ImportError as error:
        # A driver may do without vLLM: its replicas run elsewhere.
        return [f"schemas: not checked, {error.name or 'vllm'} is not installed here"]
    except Exception as error:
        raise UsageError(
            f"model {options.model!r}: {library} cannot use its tokenizer: {error_line(error)}"
        ) from error
    for step, schema in schemas.items():
        try:
            compiles(dict(schema))
        except Exception as error:
            raise UsageError(
                f"model {options.model!r}: {library} cannot guide replies by the schema of step "
                f"{step!r}: {error_line(error)}"
            ) from error
    lines = [f"schemas: {len(schemas)} compiled by {library}"]
    for step, schema in schemas.items():
        longest = longest_reply(schema)
        if longest is None:
            lines.append(f"note: the schema of step {step!r} is unbounded: a reply may never end")
        elif longest > (room := int(options.sampling.max_tokens * lengths.per_token)):
            lines.append(
                f"note: a reply of step {step!r} may have {longest:,} characters; max_tokens "
                f"{options.sampling.max_tokens} are about {room:,}, so it may be cut off"
            )
    return lines


@contextmanager
def _quiet() -> Iterator[None]:
    """Imports vLLM without its words on which kernels this machine lacks."""
    name = "VLLM_LOGGING_LEVEL"
    before = os.environ.get(name)
    os.environ[name] = before or "ERROR"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _with_guidance(tokenizer: Any) -> Callable[[dict[str, Any]], None]:
    import llguidance
    import llguidance.hf

    with _quiet():
        from vllm.v1.structured_output.backend_guidance import (
            has_guidance_unsupported_json_features,
        )

    known = llguidance.hf.from_tokenizer(tokenizer, len(tokenizer))

    def compiles(schema: dict[str, Any]) -> None:
        if has_guidance_unsupported_json_features(schema):
            raise ValueError("it uses patternProperties, which vLLM does not let it handle")
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
        mistake = llguidance.LLMatcher.validate_grammar(grammar, known)
        if mistake:
            raise ValueError(mistake)

    return compiles


def _with_xgrammar(tokenizer: Any, config: Any) -> Callable[[dict[str, Any]], None]:
    import xgrammar

    with _quiet():
        from vllm.v1.structured_output.backend_xgrammar import (
            has_xgrammar_unsupported_json_features,
        )

    size = getattr(config, "vocab_size", None) or len(tokenizer)
    known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    compiler = xgrammar.GrammarCompiler(known, max_threads=2)

    def compiles(schema: dict[str, Any]) -> None:
        if has_xgrammar_unsupported_json_features(schema):
            raise ValueError(
                "it uses what xgrammar would ignore (a pattern with bounds of length, multipleOf, "
                "uniqueItems, ...); `engine.structured_outputs_config.backend: guidance` can use it"
            )
        compiler.compile_json_schema(json.dumps(schema))

    return compiles
