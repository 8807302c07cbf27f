"""Users drawn by group: from raw files to the columns of CSI's Table 3, against pandas."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from agents.core.errors import UsageError
from analysis.metrics.core import OVERALL, by_group, parse_metric
from analysis.results import Results
from analysis.statistics.compare import compare_all
from analysis.tables.table import make_table
from tests.conftest import ROOT
from tests.fixtures_amazon_2023 import profiles_of, rows, write_amazon_2023, write_profiles
from tests.runner.reading import raw
from tests.sweep_files import plan_of, write_sweep

GROUPS = ["Active", "Neutral", "Passive", "Rational", "Dependent", "Intuitive"]


def metrics_in(sweep: Path) -> list[str]:
    return yaml.safe_load(sweep.read_text()).get("metrics", [])


def sweep_of(tmp_path, **changes):
    data = write_amazon_2023(tmp_path / "data", rows(users=60))
    users = sorted({row.user for row in rows(users=60)})
    profiles = write_profiles(tmp_path / "profiles.jsonl", profiles_of(users))
    given = {
        "domain": {
            "name": "amazon_2023",
            "path": str(data),
            "profiles": str(profiles),
            "train_users": 0,
        },
        "models": {"rules": {"backend": "rules", "skill": 0.9, "knowledge": 0.9}},
        "roles": {"user": "rules", "agent": "rules"},
        "simulator": "csuser",
        "grid": {"agent": ["csi", "chatcrs_sales"], "seed": [0, 1]},
        "cases": {"sample": 3, "by": ["openness", "style"]},
        "limits": {"max_turns": 4, "shown_items": 3},
        "metrics": ["sr@4", "swr"],
    }
    return write_sweep(tmp_path, **{**given, **changes})


def test_group_columns_equal_a_plain_calculation(tmp_path, crsweep):
    crsweep("run", sweep_of(tmp_path))
    out = tmp_path / "out"
    printed = crsweep("table", out, "--by", "openness", "--by", "style", "--format", "csv").stdout
    cases, episodes, turns = raw(out, "cases"), raw(out, "episodes"), raw(out, "turns")
    drawn = cases.explode("groups")[["case_id", "groups"]]
    assert drawn.groupby("groups").size().to_dict() == dict.fromkeys(GROUPS, 3)
    assert len(cases) < 60
    bought = turns[turns.user_decision == "accept"]
    over = bought.set_index("attempt_id").user_extra.map(lambda e: json.loads(e)["over_budget"])
    episodes = episodes.join(over.rename("over"), on="attempt_id").merge(drawn, on="case_id")
    episodes["agent"] = episodes["axes"].map(lambda a: dict(a)["agent"])
    found = list(csv.DictReader(io.StringIO(printed)))
    assert len(found) == 2
    for row in found:
        mine = episodes[episodes.agent == row["agent"]]
        values = {"sr@4": {}, "swr": {}}
        for seed, own in mine.groupby("seed"):
            per_group = own.groupby("groups")
            sr = per_group.success.mean()
            swr = per_group.over.apply(lambda o: o.dropna().astype(bool).mean())
            accepted = own[own.over.notna()]
            values["sr@4"][seed] = {
                **sr,
                "overall_macro": sr.mean(),
                "overall_pooled": own.success.mean(),
            }
            values["swr"][seed] = {
                **swr,
                "overall_macro": swr.mean(skipna=False),
                "overall_pooled": accepted.over.astype(bool).mean(),
            }
        for metric, by_seed in values.items():
            for group, value in pd.DataFrame(by_seed).mean(axis=1).items():
                assert float(row[f"{metric}[{group}]"]) == pytest.approx(value), (metric, group)
    assert len({row["swr[overall_pooled]"] for row in found}) == 2  # one sells above budgets
    results = Results.open(out)
    # The metrics of CSI's tables and figures, each by group.
    shipped = {m for f in (ROOT / "sweeps" / "csi").glob("*.yaml") for m in metrics_in(f)}
    assert {"sr@10", "swr", "similarity_win_rate@0", "turn_share@persuade"} < shipped
    table = make_table(results, by_group(sorted(shipped), ["openness", "style"]))
    assert [metric.group for metric in table.metrics] == [*GROUPS, *OVERALL] * len(shipped)
    assert all(row.coverage(group) == (2 * 3, 2 * 3) for row in table.rows for group in GROUPS)
    [compared] = compare_all(results, ["sr@4[Passive]"], "agent").found
    assert compared.cases == 3
    with pytest.raises(UsageError, match="not a mean over cases"):
        compare_all(results, ["swr[overall_macro]"], "agent")


def test_each_group_is_a_prefix_of_one_order_and_too_few_users_are_refused(tmp_path):
    small = plan_of(sweep_of(tmp_path, cases={"sample": 5, "by": ["style"]})).sources[0]
    large = plan_of(sweep_of(tmp_path, cases={"sample": 8, "by": ["style"]})).sources[0]
    every = plan_of(sweep_of(tmp_path, cases={"by": ["style"]})).sources[0]
    whole = plan_of(sweep_of(tmp_path, cases={})).sources[0]
    ids = [{s.case_id(p) for p in range(len(s))} for s in (small, large, every, whole)]
    assert ids[0] < ids[1] < ids[2] == ids[3]
    assert len({s.source_id for s in (small, large, every, whole)}) == 4
    assert small.groups(0)[0] in GROUPS[3:]
    assert len(whole.groups(0)) == 2
    wrong = sweep_of(tmp_path, cases={"sample": 21, "by": ["openness", "style"]})
    with pytest.raises(UsageError) as caught:
        plan_of(wrong)
    assert str(caught.value).endswith(
        "cases.sample: expected at most 18, the size of the smallest group of users (Active 20, "
        "Neutral 20, Passive 20, Rational 21, Dependent 21, Intuitive 18), found 21; "
        "lower it, or set `sample: null` for all users of each group"
    )


def test_bad_groups_are_refused_with_what_is_known(tmp_path):
    with pytest.raises(UsageError, match="expected openness and style at most once each"):
        plan_of(sweep_of(tmp_path, cases={"by": ["style", "style"]}))
    grid = {"cases.by": [["style"], ["openness"]], "agent": ["csi"]}
    with pytest.raises(UsageError, match="cannot be an axis"):
        plan_of(sweep_of(tmp_path, grid=grid, cases={}))
    # Without reviews, no model can write profiles.
    bare = write_amazon_2023(tmp_path / "bare", rows(users=60))
    next(bare.glob("Clothing*")).unlink()
    users = {"AE1": {"targets": ["B0000"], "target_price": [9.99], "history": ["B0001"]}}
    (bare / "interactions.json").write_text(json.dumps(users))
    domain = {"name": "amazon_2023", "path": str(bare), "train_users": 0}
    changes = {"domain": domain, "simulator": "target_item", "grid": {"agent": ["zero_shot"]}}
    with pytest.raises(UsageError, match="the users of amazon_2023 have no profiles here"):
        plan_of(sweep_of(tmp_path, **changes))
    with pytest.raises(UsageError, match="did you mean 'Active'"):
        parse_metric("swr[Activ]")
    with pytest.raises(UsageError, match="in brackets"):
        parse_metric("swr[Active")
    with pytest.raises(UsageError, match="no groups by 'stile'; did you mean 'style'"):
        by_group(["swr"], ["stile"])
    with pytest.raises(UsageError, match="names a group already"):
        by_group(["swr[Active]"], ["style"])
    assert by_group(["swr"], ["style"]) == [
        *(f"swr[{group}]" for group in GROUPS[3:]),
        "swr[overall_macro]",
        "swr[overall_pooled]",
    ]


def test_a_folder_without_groups_says_so(tmp_path, crsweep):
    domain = {"name": "amazon_2023", "path": str(write_amazon_2023(tmp_path / "d")), "k_core": 0}
    changes = {"domain": domain, "simulator": "target_item", "cases": {"sample": 2}}
    crsweep("run", sweep_of(tmp_path, **changes, grid={"agent": ["zero_shot"]}, metrics=["sr@4"]))
    with pytest.raises(UsageError, match="are in no groups"):
        make_table(Results.open(tmp_path / "out"), ["sr@4[Active]"])
