"""Folders of earlier versions are read with the same numbers, and resumed without paying again."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.export.anonymous import write_anonymous
from analysis.report.appendix import appendix
from analysis.report.defined import defined
from analysis.report.page import make, page
from analysis.results import Results
from analysis.tables.table import make_table
from tests.runner.reading import outcomes, prompts, raw, requests, words
from workers.cache import journal

HERE = Path(__file__).parent
TABLES, RESUMABLE = HERE / "tables", HERE / "resumable"


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks a folder; where it is then."""

    def of(kind: Path) -> Path:
        shutil.unpack_archive(kind / "out.zip", tmp_path / "out")
        return tmp_path / "out"

    return of


def test_a_folder_of_7d24609_has_a_report_and_an_anonymous_copy(unpacked, tmp_path):
    results = Results.open(unpacked(TABLES))
    wanted = replace(defined(results), figures={})
    text = page(results, wanted, make(results, wanted), dialogues=1, source="")
    assert "12 of" in text and 'id="dialogues"' in text
    assert r"\section{Reproducibility}" in appendix(results, standalone=False)
    write_anonymous(results, tmp_path / "copy", "blind")
    tables = [make_table(r, ["sr@5"]) for r in (results, Results.open(tmp_path / "copy"))]
    assert [row.values for row in tables[0].rows] == [row.values for row in tables[1].rows]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("table.txt", ["table"]),
        ("table.csv", ["table", "--all", "--format", "csv"]),
    ],
)
def test_a_half_finished_folder_of_7d24609_shows_what_that_commit_showed(
    unpacked, crsweep, file, words
):
    out = unpacked(TABLES)
    command, *options = words
    assert crsweep(command, out, *options).stdout == (TABLES / file).read_text()


def test_its_differences_are_those_of_that_commit_and_watermarked(unpacked, crsweep):
    words = ("--axis", "roles.agent", "--metric", "sr@3")
    shown = crsweep("compare", unpacked(TABLES), *words).stdout.splitlines(keepends=True)
    notes = [line for line in shown if line.startswith("WATERMARK")]
    assert ["rules" in notes[0], "latency" in notes[1]] == [True, True]
    then = (TABLES / "compare.txt").read_text().splitlines()
    # Each has more lines now, and a better interval and test.
    differences = [line.partition(", ")[0] for line in shown if line.startswith("sr@3: roles")]
    assert differences == [line.partition(", ")[0] for line in then]


def test_its_rules_models_are_known_without_a_field_of_its_manifest(unpacked, crsweep):
    out = unpacked(TABLES)
    assert (
        "WATERMARK: these numbers are made with the rules backend" in crsweep("table", out).stdout
    )
    refused = crsweep("table", out, "--published", "af_irs/table2", check=2).stderr
    assert "holds results of the rules backend (role agent)" in refused


def test_a_killed_run_of_an_earlier_version_is_resumed_and_nothing_is_done_twice(
    tmp_path, unpacked, crsweep
):
    out, sweep = unpacked(RESUMABLE), RESUMABLE / "sweep.yaml"
    done, asked = raw(out, "episodes"), requests(out)
    kept = {key for file in journal.files(out) for key, _ in journal.read(file)}
    assert set(done.status) == {"done"}
    assert 0 < len(done) < 24
    assert len(kept) > (~raw(out, "calls").cached).sum()  # calls of dialogues that were killed

    fast = "models.small.latency_ms=0"
    said = crsweep("run", sweep, f"out={out}", fast, "--accept-source-change").stdout
    assert f"24 episodes, {len(done)} done, {24 - len(done)} to run" in said
    crsweep("run", sweep, f"out={tmp_path / 'whole'}", fast)

    episodes = raw(out, "episodes")
    assert len(episodes) == 24
    assert set(done.attempt_id) <= set(episodes.attempt_id)
    again = requests(out).total() - len(requests(out))
    assert again == len(asked) - len(kept) == 0
    assert requests(out) == requests(tmp_path / "whole")
    for of in (outcomes, words, prompts):
        assert of(out) == of(tmp_path / "whole")
