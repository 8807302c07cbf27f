"""Which engine arguments exist, and which are part of a model's identity."""

import re
import sys
import warnings

import pytest

from workers.backends.vllm.model import arguments
from workers.backends.vllm.model.arguments import IDENTITY, OPERATIONAL, REFUSED

HISTORICAL = {"task"}  # refused by name, though newer versions of vLLM no longer have it


def need_vllm() -> frozenset[str]:
    found = arguments.installed()
    if found is None:
        pytest.fail("vLLM is not installed")
    return found


def test_names_come_from_the_installed_source_without_an_import():
    before = "vllm" in sys.modules
    found = need_vllm()
    assert {"model", "max_num_seqs", "kv_cache_dtype", "enable_log_requests"} <= found
    assert ("vllm" in sys.modules) == before


def test_the_table_names_only_what_exists():
    assert sorted((OPERATIONAL | IDENTITY | REFUSED.keys()) - need_vllm() - HISTORICAL) == []


def test_new_arguments_are_named_but_do_no_harm():
    unclassed = sorted(need_vllm() - OPERATIONAL - IDENTITY - REFUSED.keys())
    if unclassed:
        warnings.warn(f"engine arguments without a class: {unclassed}", stacklevel=1)


def test_no_argument_has_two_classes():
    assert not OPERATIONAL & IDENTITY
    assert not (OPERATIONAL | IDENTITY) & REFUSED.keys()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_crsweep_sets_itself_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(REFUSED[name])):
        arguments.check({name: 1})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("gpu_memory_utilisation", "did you mean 'gpu_memory_utilization'?"),
        ("--max-num-seqs", "use the option `max_inflight`"),
        ("tensor-parallel-size", "use the option `tensor_parallel`"),
    ],
)
def test_an_unknown_one_is_refused_with_advice(name, advice):
    with pytest.raises(ValueError, match="vLLM has no engine argument") as caught:
        arguments.check({name: 1})
    assert advice in str(caught.value)


def test_without_vllm_the_table_serves(monkeypatch):
    monkeypatch.setattr(arguments, "installed", lambda: None)
    arguments.check({"enforce_eager": True, "kv_cache_dtype": "fp8"})
    with pytest.raises(ValueError, match="no engine argument 'kv_cache_dtyp'"):
        arguments.check({"kv_cache_dtyp": "fp8"})


def test_an_unclassed_argument_is_identity():
    given = {"enforce_eager": True, "trust_remote_code": True, "something_new": 1}
    assert arguments.identity(given) == {"trust_remote_code": True, "something_new": 1}
