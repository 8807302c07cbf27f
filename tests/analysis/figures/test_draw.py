"""Figures as files."""

from __future__ import annotations

import numpy as np
import pytest

from agents.core.errors import UsageError
from analysis.figures.data import curves, groups_of, metric_points, shares
from analysis.figures.draw import draw
from analysis.results import Results
from analysis.tables.table import metrics_of
from runner.commands.plot import KINDS, show_plot
from sweeps.schema import FigureSpec
from tests.analysis.builder import CALL, TURN, Built, Cell, grid_of
from tests.runner.commands.test_results import printed, screen

HOSTILE = "$\\frac{a}<b>&_%{"


def sweep(folder, **changes):
    backends = {"agent": "rules", "user": "rules"}
    cells = [
        Cell(f"{a}/{m}", {"agent": a, "roles.agent": m}, backends=backends)
        for a in (HOSTILE, "b")
        for m in "sw"
    ]
    built = Built(cells, case_ids=[f"u{n}" for n in range(6)])
    for n, cell in enumerate(cells):
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = 2 if (int(case_id[1:]) + seed + n) % 3 else None
                turns = [{**TURN, "strategy": "direct"}, {**TURN, "turn": 2, "action": "ask"}]
                built.episode(
                    cell, case_id, seed, success_turn=won, turns=turns, calls=[dict(CALL)]
                )
    made = [trained(built, HOSTILE, seed, [0, 1]) for seed in built.seeds]
    made += [trained(built, "other", seed, [2, 3]) for seed in built.seeds]
    return built.write(folder, artifacts=made, **changes)


def trained(built, name, seed, cells):
    """An artifact whose training lasted `3 + seed` steps."""
    key = f"{name}-{seed}"
    for epoch in (1, 2):  # made again in epoch 2
        for step in range(1, 4 + seed):
            for series in ("NDCG@10", "loss", "strategy: Credibility"):
                value = 10.0 if epoch == 1 else step * (1 + seed)
                row = {"artifact_key": key, "digest": f"d{epoch}", "series": series, "step": step}
                stamp = {"value": value, "bundle_id": "b", "driver_epoch": epoch}
                built.rows["curves"].append(row | stamp)
    title = f"{name}, seed {seed}"
    return {"key": key, "title": title, "kind": "fit", "name": name, "seed": seed, "cells": cells}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_with_its_labels_and_its_watermark(tmp_path, kind):
    drawing = draw(Results.open(sweep(tmp_path)), FigureSpec(kind=kind))
    texts = {text.get_text() for text in drawing.figure.findobj(match=_is_text)}
    assert (HOSTILE if kind in ("sensitivity", "curves") else f"{HOSTILE}, s") in texts
    assert any(text.startswith("WATERMARK: made with the rules backend") for text in texts)
    drawing.save(tmp_path / "x.pdf")
    pdf = (tmp_path / "x.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf


def test_equal_results_give_equal_files_without_text_that_needs_a_font(tmp_path):
    results = Results.open(sweep(tmp_path))
    for name in ("a.svg", "b.svg"):
        draw(results, FigureSpec(kind="bars")).save(tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "<text" not in text


def test_figures_are_as_wide_as_a_column_or_a_page(tmp_path):
    results = Results.open(sweep(tmp_path))
    widths = [
        draw(results, FigureSpec(kind="turns", width=w)).figure.get_figwidth()
        for w in ("column", "page")
    ]
    assert widths == pytest.approx([3.25, 6.75])


def test_a_named_figure_is_drawn_into_every_file(tmp_path):
    bars = {"kind": "bars", "metrics": ["sr@5"], "axis": "agent"}
    folder = sweep(tmp_path / "out", config={"figures": {"success": bars, "cost": bars}})
    console = screen()
    files = [tmp_path / "a.pdf", tmp_path / "a.png"]
    options = {"metrics": (), "axis": None, "of": None, "width": None}
    show_plot(str(folder), "success", **options, out=files, console=console)
    assert all(path.stat().st_size > 1000 for path in files)
    lines = printed(console).splitlines()
    assert lines[:2] == [f"wrote {path}" for path in files]
    assert lines[2].startswith("WATERMARK")
    for figure, changed, message in [
        ("succes", {}, "did you mean 'success'"),
        ("nothing", {}, rf"\(known: {', '.join(KINDS)}, success\)$"),
        ("shares", {"of": "mood"}, "--of mood"),
        ("bars", {"axis": "agnt"}, "did you mean 'agent'"),
        ("tradeoff", {"metrics": ["sr@5"]}, "two metrics, x and y; found sr@5"),
    ]:
        with pytest.raises(UsageError, match=message):
            show_plot(str(folder), figure, **{**options, **changed}, out=files, console=console)
    for path, message in [("a.gif", r"ends with .pdf, .svg, .png"), ("no/a.pdf", "does not exist")]:
        with pytest.raises(UsageError, match=message):
            show_plot(
                str(folder), "bars", **options, out=[tmp_path / path], console=console
            )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_finished_is_one_clear_line(tmp_path, kind):
    results = Results.open(Built(grid_of("a")).write(tmp_path))
    with pytest.raises(UsageError, match="nothing to draw"):
        draw(results, FigureSpec(kind=kind))


def test_one_case_and_one_seed_have_a_number_without_an_interval(tmp_path):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0"])
    built.episode(built.cells[0], "u0", 0, turns=[dict(TURN)], calls=[dict(CALL)])
    results = Results.open(built.write(tmp_path))
    for kind in set(KINDS) - {"sensitivity", "curves"}:  # a second cell, a training
        assert draw(results, FigureSpec(kind=kind)).figure.axes


def _is_text(artist) -> bool:
    from matplotlib.text import Text

    return isinstance(artist, Text)


def test_groups_of_users_have_panels_with_what_the_table_has(tmp_path):
    built = Built(grid_of("a", "b", backbones=["s"]), seeds=[0], case_ids=["u0", "u1", "u2"])
    built.groups = {"u0": ["Active"], "u1": ["Passive"], "u2": ["Active"]}
    for cell in built.cells:
        for case_id in built.case_ids:
            action = "ask" if case_id == "u1" else "recommend"
            won = 1 if case_id == "u0" else None
            built.episode(cell, case_id, 0, success_turn=won, turns=[{**TURN, "action": action}])
    results = Results.open(built.write(tmp_path))
    figure = draw(results, FigureSpec(kind="bars", metrics=["sr@5"], by=["openness"])).figure
    heights = {axes.get_title(): [bar.get_height() for bar in axes.patches] for axes in figure.axes}
    assert heights["Active"] == [0.5, 0.5]
    assert figure.legends[0].get_title().get_text() == "sr@5 ↑"
    assert {axes.get_ylim() for axes in figure.axes} == {(0, figure.axes[0].get_ylim()[1])}
    assert figure.axes[0].get_ylim()[1] > 0.9  # the interval of one of two cases is seen
    assert heights["Passive"] == [0, 0]
    assert heights["overall_pooled"] == pytest.approx([1 / 3, 1 / 3])
    alone = FigureSpec(kind="bars", metrics=["sr@5"], by=["openness"], axis="roles.agent")
    assert draw(results, alone).figure.get_suptitle() == "sr@5 ↑"
    given = {"kind": "bars", "by": ["openness"], "metrics": ["sr@5", "turn_share@ask"]}
    axes = draw(results, FigureSpec(**given)).figure.axes
    assert [axes[0].get_title(), axes[4].get_title()] == [
        "sr@5\n[Active] ↑",
        "turn_share@ask\n[Active]",
    ]
    # One of two cases asks: a t interval alone would be far wider than a share can be.
    point = metric_points(
        results, *metrics_of(results, ["turn_share@ask"]), groups_of(results, "agent")
    )[0]
    assert (point.low, point.high) == (0, 1)
    figure = draw(results, FigureSpec(kind="turns", by=["openness"])).figure
    assert [axes.get_title() for axes in figure.axes][-1] == "overall_pooled"
    spec = FigureSpec(kind="shares", axis="agent", by=["openness"])
    found = shares(results, spec.of, groups_of(results, "agent"), ["Passive"])
    assert [each.shares for each in found] == [{"ask": [1.0]}] * 2
    with pytest.raises(UsageError, match="8 panels are too many"):
        draw(results, spec)
    options = {"metrics": (), "axis": None, "of": None, "width": None, "out": []}
    with pytest.raises(UsageError, match="a figure of the kind seeds has none, leave it out"):
        show_plot(str(tmp_path), "seeds", by=["style"], **options, console=screen())


def heights_of(axes) -> dict[str, list[float]]:
    """Label -> the heights of its bars."""
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}


def shares_by_openness(tmp_path) -> Built:
    """Active users are persuaded, passive ones are asked first; `u2` was drawn for openness and
    style, and no one is Neutral."""
    built = Built(grid_of("a", backbones=["s"]), seeds=[0], case_ids=["u0", "u1", "u2"])
    built.groups = {"u0": ["Active"], "u1": ["Passive"], "u2": ["Active", "Rational"]}
    ask = {**TURN, "action": "ask", "strategy": "preference_probing"}
    sell = {**TURN, "action": "persuade", "strategy": "Framing"}
    for case_id in built.case_ids:
        first = ask if case_id == "u1" else sell
        turns = [first, {**sell, "turn": 2}]
        built.episode(built.cells[0], case_id, 0, success_turn=2, turns=turns)
    built.write(tmp_path)
    return built


def test_shares_have_a_panel_for_each_group_and_one_that_counts_each_user_once(tmp_path, crsweep):
    shares_by_openness(tmp_path / "out")
    for given in [], ["--parts", "5"], ["--of", "strategy"]:
        file = tmp_path / "shares.png"
        crsweep("plot", tmp_path / "out", "shares", "--by", "openness", *given, "--out", file)
        assert file.stat().st_size > 1000
        file.unlink()
    results = Results.open(tmp_path / "out")
    both = FigureSpec(kind="shares", by=["openness", "style"])
    with pytest.raises(UsageError, match="7 panels are too many"):
        draw(results, both)
    panels = {
        axes.get_title(): axes
        for axes in draw(results, FigureSpec(kind="shares", by=["openness"])).figure.axes
    }
    assert list(panels) == ["Active", "Neutral", "Passive", "all users"]
    # The same order, and so the same colours, in every panel.
    assert heights_of(panels["Active"]) == {"persuade": [1, 1], "ask": [0, 0]}
    assert heights_of(panels["Neutral"]) == {"persuade": [], "ask": []}
    assert heights_of(panels["Passive"]) == {"persuade": [0, 1], "ask": [1, 0]}
    assert heights_of(panels["all users"]) == {
        "persuade": pytest.approx([2 / 3, 1]),
        "ask": pytest.approx([1 / 3, 0]),
    }
    assert [text.get_text() for text in panels["all users"].get_xticklabels()] == ["1\n3", "2\n3"]
    assert len({axes.get_xlim() for axes in panels.values()}) == 1
    with pytest.raises(UsageError, match="no turn of Neutral has a value of strategy"):
        shares(results, "strategy", groups_of(results, None), ["Neutral"])


def test_shares_of_named_actions_and_strategies_are_those_of_the_metric(tmp_path):
    shares_by_openness(tmp_path)
    results = Results.open(tmp_path)
    names = ["turn_share@preference_probing", "turn_share@persuade"]
    (axes,) = draw(results, FigureSpec(kind="shares", metrics=names)).figure.axes
    shown = heights_of(axes)
    assert shown == {
        "preference_probing": pytest.approx([1 / 3, 0]),
        "persuade": pytest.approx([2 / 3, 1]),
    }
    for metric, value in zip(metrics_of(results, names), shown.values(), strict=True):
        (point,) = metric_points(results, metric, groups_of(results, None))
        assert point.mean == pytest.approx(np.mean(value))
    (axes,) = draw(results, FigureSpec(kind="shares", metrics=names[:1])).figure.axes
    assert list(heights_of(axes)) == ["preference_probing", "other"]
    for given, message in [
        ({"metrics": ["sr@5"]}, "found the metric 'sr@5'; expected the share of an action"),
        ({"metrics": ["turn_share@ask:1/3"]}, "found the metric 'turn_share@ask:1/3'"),
        ({"metrics": names, "of": "strategy"}, "give metrics or `of: strategy`, not both"),
    ]:
        with pytest.raises(UsageError, match=message):
            draw(results, FigureSpec(kind="shares", **given))


def test_a_training_curve_is_the_mean_over_seeds_where_all_got_that_far(tmp_path):
    results = Results.open(sweep(tmp_path))
    (series, (one, other)), *_ = curves(results, [], None).items()
    assert (series, one.label, other.label) == ("NDCG@10", HOSTILE, "other")
    assert [len(steps) for steps, _ in one.lines] == [3, 4, 5]
    steps, values = one.mean
    assert steps.tolist() == [1, 2, 3]
    assert values.tolist() == [2.0, 4.0, 6.0]
    assert "strategy: Credibility" not in curves(results, [], None)
    assert list(curves(results, ["strategy: Credibility"], None)) == ["strategy: Credibility"]
    by_axis = curves(results, ["loss"], "agent")
    assert [each.label for each in by_axis["loss"]] == [HOSTILE, "b"]
    with pytest.raises(UsageError, match="no training measured 'los'; did you mean 'loss'"):
        curves(results, ["los"], None)


def test_bars_can_be_differences_to_one_of_them_paired_by_case(tmp_path):
    built = Built(grid_of("a", "b", backbones=["s"]), seeds=[0, 1], case_ids=["u0", "u1", "u2"])
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = cell.axes["agent"] == "b" and (case_id, seed) != ("u0", 0)
                built.episode(cell, case_id, seed, success_turn=1 if won else None)
    results = Results.open(built.write(tmp_path))
    spec = FigureSpec(kind="bars", metrics=["sr@5"], axis="agent", baseline="a")
    (axes,) = draw(results, spec).figure.axes
    assert [bar.get_height() for bar in axes.patches] == [pytest.approx((0.5 + 1 + 1) / 3)]
    assert axes.get_ylabel() == "difference to a"
    with pytest.raises(UsageError, match="there is no group 'aa'; did you mean 'a'"):
        draw(results, spec.model_copy(update={"baseline": "aa"}))
