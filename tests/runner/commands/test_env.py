"""What `crsweep env` says that the nodes of a cluster need."""

from __future__ import annotations

import json
import re

import pytest

from tests.sweep_files import write_sweep

RULES = {"strong": {"backend": "rules"}, "weak": {"backend": "rules"}}


@pytest.fixture
def needs(crsweep):
    return lambda *words, **env: json.loads(crsweep("env", *words, "--json", **env).stdout)


@pytest.mark.parametrize(
    ("out", "line"),
    [
        ("/shared/${name}", "read and write access to /shared/small"),
        ("${vars.root}/${name}", "read and write access to s3://bucket/small"),
        ("/shared/\\${a}", "read and write access to /shared/${a}"),
        ("${oc.env:CRS_PLACE}/${name}", "read and write access to ${oc.env:CRS_PLACE}/small"),
        (
            "/shared/${oc.env:CRS_PLACE,${oc.env:CRS_B,y}}",
            "read and write access to /shared/${oc.env:CRS_PLACE,${oc.env:CRS_B,y}}",
        ),
        (
            "${name}/results",
            "an output folder: pass --out URI to `submit`, because small/results is"
            " relative to the working folder of this machine, which the cluster does not have",
        ),
        (
            "/tmp/${name}",
            "an output folder: pass --out URI to `submit`, because /tmp/small is"
            " local to each node",
        ),
    ],
)
def test_the_output_folder_is_resolved_or_asked_for(crsweep, tmp_path, out, line):
    path = write_sweep(tmp_path, out=out, vars={"root": "s3://${vars.bucket}", "bucket": "bucket"})
    for env in ({}, {"CRS_PLACE": "/somewhere"}):
        assert crsweep("env", path, **env).stdout.splitlines()[-1] == line


def test_submit_refuses_an_output_folder_that_a_reference_makes_relative(crsweep, tmp_path):
    path = write_sweep(tmp_path, out="${name}/results")
    done = crsweep("submit", path, "--address", "http://127.0.0.1:1", check=2)
    assert "out: small/results is relative to the working folder" in done.stderr + done.stdout


def test_variables_are_listed_by_name_whether_they_are_set_here_or_not(crsweep, needs, tmp_path):
    key = {"backend": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    path = write_sweep(
        tmp_path,
        out="/shared/${oc.env:CRS_RUN,first}",
        vars={
            "note": "${oc.env:CRS_NOTE}",
            "either": "${oc.env:CRS_NOTE,x} ${oc.env:CRS_A,${oc.env:CRS_B,y}}",
            "text": r"\${oc.env:CRS_TEXT}",
        },
        models={**RULES, "api": {**key, "api_key_env": "CRS_API_KEY"}},
        run={"executor": "local", "env_from": ["CRS_TOKEN"]},
    )
    value = "only-here-51b7"
    for env in ({}, {"CRS_NOTE": value, "CRS_API_KEY": value, "CRS_A": value}):
        found = needs(path, **env)
        assert found["variables"] == ["CRS_NOTE", "CRS_API_KEY", "CRS_TOKEN"]
        assert set(found["optional_variables"]) == {"CRS_RUN", "CRS_A", "CRS_B"}
        shown = crsweep("env", path, **env).stdout
        assert "environment variables: CRS_" in shown
        assert "CRS_RUN (has a default)" in shown
        assert value not in shown + json.dumps(found)


def test_only_libraries_that_the_backends_of_a_sweep_use_are_named(crsweep, needs, tmp_path):
    path = write_sweep(tmp_path)
    found = needs(path)
    assert found["exact"] == ["ray"]
    assert not {"sentence-transformers", "vllm", "torch", "boto3"} & found["libraries"].keys()
    exactly = re.search("^exactly: (.*)$", crsweep("env", path).stdout, re.MULTILINE)
    assert exactly and exactly[1] == f"ray {found['libraries']['ray']}"

    t5 = {"backend": "sentence_transformers", "model": str(tmp_path)}
    assert needs(write_sweep(tmp_path, models={**RULES, "t5": t5}))["exact"] == [
        "ray",
        "sentence-transformers",
    ]
    axis = {"agent": ["zero_shot"], "models.strong.backend": ["rules", "vllm"]}
    path = write_sweep(tmp_path, grid=axis, out="s3://bucket/x")
    found = needs(path)
    assert found["exact"] == ["ray", "vllm"]
    assert found["extras"] == ["cluster", "s3", "vllm"]
    assert "vllm " in crsweep("env", path).stdout
