"""What is read from `manifest.json`."""

from __future__ import annotations

import json

import pytest

from sweeps import manifest as manifests

WRITTEN_BEFORE = {
    "schema_version": 3,
    "name": "old",
    "driver_epoch": 1,
    "cells": [],
    "sources": [],
    "seeds": [0],
    "seed_varies": "nothing",
    "metrics": [],
    "cases_file": "",
    "plugin_sources": {},
    "versions": {},
    "host": {},
    "revision": None,
    "dirty": None,
    "config": {},
    "started": 0.0,
}


@pytest.mark.parametrize(
    ("backends", "watermark"),
    [
        ([{"agent": "vllm", "user": "openai"}], []),
        ([{"agent": "vllm", "user": "vllm"}, {"agent": "vllm", "user": "rules"}], ["rules"]),
        ([{"agent": "latency", "user": "rules"}], ["latency", "rules"]),
    ],
)
def test_a_manifest_without_a_watermark_has_it_derived_from_its_cells(
    tmp_path, backends, watermark
):
    cells = [
        {"cell_id": str(i), "source_id": "s", "axes": {}, "backends": used, "seeds": [[0, 0, 0]]}
        for i, used in enumerate(backends)
    ]
    file = tmp_path / manifests.FILE
    file.write_text(json.dumps({**WRITTEN_BEFORE, "cells": cells}))
    found = manifests.read(tmp_path)
    assert found is not None
    assert found.watermark == watermark
    file.write_text(json.dumps({**WRITTEN_BEFORE, "cells": cells, "watermark": ["my_lab.echo"]}))
    again = manifests.read(tmp_path)
    assert again is not None
    assert again.watermark == ["my_lab.echo"]
