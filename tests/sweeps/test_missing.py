"""Missing data: the grid's entry is named, and an override that leaves it out."""

import re
import shlex
from pathlib import Path

import pytest

from agents.core.errors import DataError
from simulators.domains.core.files import open_data
from tests.fixtures_movielens import write_ml1m
from tests.fixtures_reviews import write_amazon, write_steam
from tests.sweep_files import plan_of, write_sweep


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    write_ml1m(tmp_path / "ml-1m")
    return tmp_path


def entry(name, folder, **options):
    return {"name": name, "path": f"${{oc.env:DATA_ROOT}}/{folder}", **options}


FILMS, BEAUTY, GAMES = entry("movielens", "ml-1m"), entry("amazon", "beauty"), entry("steam", "s")


def sweep(root, **changes):
    roles = {"user": "strong", "agent": "strong"}
    return write_sweep(root, **{"domain": None, "roles": roles, **changes})


def message(path, *overrides):
    with pytest.raises(DataError) as refused:
        plan_of(path, *overrides)
    return refused.value.message


def advice(said):
    """The override that a message names, as a shell would hand it over."""
    found = re.fullmatch(r".* To run with (.*) alone, add (.*) to the command", said)
    assert found, said
    [override] = shlex.split(found[2])
    return found[1], override


def domains(plan):
    return [source.domain_ref.options["path"].split("/")[-1] for source in plan.sources]


def test_a_relative_path_is_shown_with_the_working_folder(root, monkeypatch):
    monkeypatch.chdir(root)
    path = sweep(
        root, domain={"name": "movielens", "path": "data/films"}, agent="zero_shot", grid=None
    )
    assert f"{root}/data/films: there is no such folder" in message(path)
    with pytest.raises(DataError, match=re.escape(f"{root}/data/films.csv: cannot be read: ")):
        open_data(Path("data/films.csv"))


def test_all_that_is_missing_is_left_out_at_once_and_the_rest_runs(root):
    path = sweep(root, grid={"domain": [FILMS, BEAUTY, GAMES], "agent": ["rah"]})
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "amazon" in text)
    said = message(path)
    assert said.startswith(f"{path}:{line}: domain: {root}/beauty: there is no such folder; ")
    assert "the grid asks for it by domain=amazon. " in said
    rest, override = advice(said)
    assert (rest, override) == ("domain=movielens", "exclude=[{domain: amazon}, {domain: steam}]")
    assert domains(plan_of(path, override)) == ["ml-1m"]
    write_steam(root / "s")
    rest, override = advice(message(path))
    assert (rest, override) == ("domain=movielens and domain=steam", "exclude=[{domain: amazon}]")
    assert domains(plan_of(path, override)) == ["ml-1m", "s"]


def test_entries_of_one_name_are_named_with_their_paths_unexpanded(root):
    write_amazon(root / "books")
    books = entry("amazon", "books", k_core=2)
    path = sweep(root, grid={"domain": [books, BEAUTY], "agent": ["rah"]})
    said = message(path)
    assert "by domain=amazon(path=${oc.env:DATA_ROOT}/beauty). To run with " in said
    _, override = advice(said)
    assert "${oc.env:DATA_ROOT}/beauty" in override
    assert domains(plan_of(path, override)) == ["books"]


def test_what_the_file_leaves_out_already_stays_out(root):
    grid = {"domain": [BEAUTY, FILMS, GAMES], "agent": ["rah", "react"]}
    out = [{"domain": "movielens", "agent": "rah"}, {"domain": "steam"}]
    path = sweep(root, grid=grid, exclude=out)
    _, override = advice(message(path))
    plan = plan_of(path, override)
    assert domains(plan) == ["ml-1m"]
    assert {cell.config.agent.name for cell in plan.cells} == {"react"}


@pytest.mark.parametrize("axes", [{"grid": {"domain.path": ["a", "ml-1m"]}},
                                  {"grid": {}, "zip": [{"domain.path": ["a", "ml-1m"],
                                                        "domain.min_rating": [1, 2]}]},
                                  {"grids": [{"domain.path": ["a", "ml-1m"]}],
                                   "grid": None}])  # fmt: skip
def test_an_axis_of_paths_is_left_out_by_its_value(root, axes, monkeypatch):
    monkeypatch.chdir(root)
    path = sweep(root, domain={"name": "movielens"}, agent="rah", **axes)
    said = message(path)
    line = int(said.split(":")[1])
    assert path.read_text().splitlines()[line - 1].strip(" -") in ("a", "domain.path: a")
    rest, override = advice(said)
    assert "domain.path=ml-1m" in rest
    assert "domain.path: a" in override
    assert domains(plan_of(path, override)) == ["ml-1m"]


def test_without_anything_left_no_override_is_named(root):
    for grid in ({"domain": [BEAUTY, GAMES]}, {"domain": [BEAUTY]}, {"domain.k_core": [2, 3]}):
        domain = None if "domain" in grid else BEAUTY
        path = sweep(root, domain=domain, agent="rah", grid=grid)
        said = message(path)
        assert said.endswith("must be the folder of the Amazon Beauty files"), said


def test_blocks_that_share_a_missing_domain_of_the_file_cannot_be_parted_by_an_override(root):
    grids = [{"agent": ["rah"]}, {"agent": ["rah"], "domain": [FILMS]}]
    path = sweep(root, domain=BEAUTY, grid=None, grids=grids)
    assert message(path).endswith("must be the folder of the Amazon Beauty files")
    grids[1]["domain"] = [BEAUTY]
    path = sweep(root, domain=FILMS, grid=None, grids=grids)
    rest, override = advice(message(path))
    assert rest == "the file's domain"
    assert domains(plan_of(path, override)) == ["ml-1m"]


def test_data_that_are_there_and_wrong_can_be_left_out_too(root):
    axis = [{**FILMS, "k_core": 1000}, FILMS]
    path = sweep(root, grid={"domain": axis, "agent": ["rah"]})
    said = message(path)
    assert "k_core 1000" in said
    _, override = advice(said)
    assert domains(plan_of(path, override)) == ["ml-1m"]


def test_more_entries_than_can_be_named_are_counted(root):
    axis = [BEAUTY, *({**FILMS, "k_core": k} for k in (1, 2, 3, 4))]
    path = sweep(root, grid={"domain": axis, "agent": ["rah"]})
    rest, _ = advice(message(path))
    assert rest == "the other 4"


def test_a_list_given_on_the_command_line_is_named_as_such(root):
    path = sweep(root, grid={"domain": [FILMS], "agent": ["rah"]})
    given = f"grid.domain=[{{name: movielens, path: {root}/ml-1m}}, {{name: steam, path: /no/s}}]"
    said = message(path, given)
    assert said.startswith(f"override '{given}': domain: /no/s: ")
    _, override = advice(said)
    assert domains(plan_of(path, given, override)) == ["ml-1m"]


def test_an_error_in_a_domains_own_code_is_one_line_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "odd_lab").mkdir()
    (tmp_path / "odd_lab" / "films.py").write_text(
        "from simulators.domains.core.recorded import RecordedDomain\n"
        "__all__ = ['Films']\n\n\n"
        "class Films(RecordedDomain):\n"
        "    name = 'films'\n\n"
        "    def files(self):\n"
        "        return []\n\n"
        "    def load(self):\n"
        "        return {}['tag']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = write_sweep(tmp_path, domain={"name": "odd_lab.films", "path": str(tmp_path)})
    with pytest.raises(DataError) as caught:
        plan_of(sweep)
    assert caught.value.message.endswith("domain: KeyError: 'tag' (odd_lab/films.py:12, in load)")
