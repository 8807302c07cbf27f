"""The published numbers, as files and by name."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from pydantic import TypeAdapter

from agents.core import plugins
from agents.core.errors import UsageError
from analysis import published
from analysis.metrics.core import parse_metric
from analysis.published.bounds import impossible, impossible_ranks
from sweeps.schema import CellConfig

DATASETS = ["ML-1M", "Amazon-Beauty", "Steam"]
METRICS = ["sr@1", "sr@3", "sr@5", "at_fail_plus_1"]
# The paper's own lines, a second time.
TABLE_2 = """
Zero-shot 0.06 0.46 0.71 3.87 0.00 0.08 0.15 5.61 0.22 0.57 0.67 3.51
ReAct 0.05 0.44 0.68 4.03 0.00 0.10 0.15 5.59 0.25 0.52 0.64 3.55
ChatCRS 0.05 0.52 0.79 3.72 0.07 0.26 0.35 4.86 0.12 0.41 0.57 4.09
RAH 0.22 0.55 0.74 3.40 0.13 0.22 0.34 4.84 0.34 0.59 0.68 3.17
LLMCRS 0.16 0.53 0.67 3.73 0.15 0.22 0.30 4.92 0.23 0.52 0.64 3.55
InteRecAgent 0.10 0.24 0.41 4.76 0.23 0.44 0.54 3.93 0.15 0.37 0.48 4.31
MACRec 0.04 0.19 0.46 4.89 0.20 0.40 0.52 4.09 0.19 0.39 0.61 4.00
Ours 0.27 0.68 0.81 3.13 0.29 0.52 0.65 3.50 0.52 0.78 0.88 2.27
"""
TABLE_3 = """
Ours 0.27 0.68 0.81 3.13 0.29 0.52 0.65 3.50 0.52 0.78 0.88 2.27
w/o_Action-First 0.24 0.57 0.75 3.47 0.17 0.46 0.47 4.40 0.37 0.67 0.73 2.95
w/o_LLM2RS 0.22 0.54 0.66 3.64 0.12 0.25 0.32 4.85 0.36 0.61 0.68 3.18
w/o_LLM-refine 0.06 0.26 0.36 4.84 0.09 0.23 0.37 5.02 0.28 0.49 0.56 3.74
"""


@pytest.mark.parametrize(("name", "text"), [("table2", TABLE_2), ("table3", TABLE_3)])
def test_every_number_of_af_irs_is_there_as_printed(name, text):
    table = published.read(f"af_irs/{name}")
    found = {
        (row.dataset, row.row, metric): number.text
        for row in table.rows
        for metric, number in row.numbers.items()
    }
    lines = [line.split() for line in text.split("\n") if line]
    expected = {
        (dataset, name.replace("_", " "), metric): values[4 * d + m]
        for name, *values in lines
        for d, dataset in enumerate(DATASETS)
        for m, metric in enumerate(METRICS)
    }
    assert found == expected
    assert table.metrics == METRICS


# The same of DESIRE.
DESIRE = ["sr@15", "at_fail_t", "relevance", "persuasiveness", "convincing_acceptance"]
DESIRE_3 = """
EAR 0.429 12.88 3.51 22.97 - 0.967 5.74 3.92 11.67 -
UNICORN 0.535 11.82 3.87 21.45 - 0.985 2.32 4.07 10.76 -
InterCRS 0.431 13.45 4.12 68.51 56.25 0.561 7.26 4.51 53.76 40.57
ChatCRS 0.479 12.91 4.21 60.31 52.70 0.756 6.61 4.69 65.19 48.21
MACRS 0.544 14.47 4.62 65.49 59.87 0.791 6.25 4.74 73.87 61.46
DESIRE_(LLaMA-7B) 0.562 13.22 4.68 68.25 62.89 0.835 5.95 4.87 72.76 66.59
DESIRE_(GPT-3.5-Turbo) 0.583 12.76 4.70 70.28 69.41 0.937 5.78 4.89 79.16 75.96
DESIRE_(GPT-4-Turbo) 0.601 11.78 4.75 72.56 70.98 0.974 5.21 4.91 82.27 79.03
"""
DESIRE_4 = """
w/o_desire_reasoning 0.327 12.85 4.68 69.51 52.77 0.712 7.98 4.79 76.55 52.98
w/o_exploration_action 0.491 14.78 4.32 69.90 63.79 0.869 8.12 4.65 77.21 68.56
w/o_persuasive_strategy 0.578 12.95 4.54 65.78 60.21 0.913 6.65 4.82 75.13 67.81
DESIRE 0.583 12.76 4.70 70.28 69.41 0.937 5.78 4.89 79.16 75.96
"""
DESIRE_5 = """
persuasiveness 49.2‡ 36.7 14.1 61.3 24.5 14.4 37.8 41.9 20.3
trustworthiness 62.1‡ 20.6 17.4 58.4‡ 19.8 21.7 47.4† 32.8 19.8
groundedness 51.9† 31.2 16.9 42.2 40.6 17.2 37.4 32.5 30.1
overall 64.1‡ 23.8 12.1 56.2† 31.9 11.9 49.5‡ 30.6 19.9
"""


@pytest.mark.parametrize(("name", "text"), [("table3", DESIRE_3), ("table4", DESIRE_4)])
def test_every_number_of_desire_is_there_as_printed(name, text):
    table = published.read(f"desire/{name}")
    found = {
        (row.dataset, row.row.replace(" ", "_")): {m: f.text for m, f in row.numbers.items()}
        for row in table.rows
    }
    lines = [line.split() for line in text.split("\n") if line]
    assert found == {
        (dataset, row): {
            metric: value
            for metric, value in zip(DESIRE, values[5 * d : 5 * d + 5], strict=True)
            if value != "-"
        }
        for row, *values in lines
        for d, dataset in enumerate(["LastFM", "Yelp"])
    }
    assert table.metrics == ["sr@15", "at_fail_t", "relevance"]


def test_the_marks_of_desires_table_5_are_printed_as_in_the_paper():
    table = published.read("desire/table5")
    found = {
        (row.row, metric): number.marked
        for row in table.rows
        for metric, number in row.numbers.items()
    }
    rows = ["InterCRS", "ChatCRS", "MACRS"]
    outcomes = ["win", "loss", "tie"]
    assert found == {
        (rows[n // 3], f"{dimension}_{outcomes[n % 3]}"): value
        for dimension, *values in (line.split() for line in DESIRE_5.split("\n") if line)
        for n, value in enumerate(values)
    }
    assert table.metrics == []
    assert table.marks == {"p<0.1": "p < 0.1", "p<0.05": "p < 0.05"}


# The paper's own lines of CSI: SR and SWR of each group, and overall.
CSI = ["Active", "Neutral", "Passive", "Rational", "Dependent", "Intuitive", "overall_macro"]
CSI_3 = """
ChatCRS 0.300 0.277 0.253 0.201 0.243 0.192 0.300 0.044 0.300 0.089 0.320 0.125 0.286 0.154
MACRS 0.310 0.266 0.241 0.514 0.432 0.267 0.359 0.688 0.324 0.200 0.336 0.250 0.334 0.364
PC-CRS 0.236 0.761 0.340 0.745 0.180 0.741 0.367 0.667 0.300 0.767 0.260 0.638 0.280 0.719
CSI_w/o_Profile 0.367 0.781 0.349 0.615 0.467 0.671 0.295 0.526 0.291 0.548 0.314 0.621 0.347 0.627
CSI 0.507 0.821 0.450 0.879 0.527 0.818 0.460 0.829 0.503 0.834 0.420 0.909 0.478 0.849
ChatCRS 0.117 0.191 0.187 0.099 0.117 0.194 0.167 0.062 0.164 0.137 0.163 0.137 0.152 0.136
MACRS 0.211 0.111 0.366 0.229 0.196 0.241 0.280 0.114 0.195 0.167 0.246 0.156 0.249 0.170
PC-CRS 0.160 0.775 0.153 0.767 0.160 0.775 0.175 0.785 0.175 0.680 0.187 0.643 0.168 0.737
CSI_w/o_Profile 0.449 0.530 0.487 0.472 0.607 0.455 0.404 0.456 0.497 0.521 0.404 0.566 0.501 0.500
CSI 0.500 0.767 0.460 0.843 0.607 0.803 0.457 0.817 0.557 0.803 0.440 0.715 0.503 0.791
"""
CSI_4 = "0.53 0.89 0.47 0.80 0.47 0.43 0.46 0.85 0.47 0.83"


def test_every_number_of_csi_is_there_as_printed():
    table = published.read("csi/table3")
    lines = [line.split() for line in CSI_3.split("\n") if line]
    found = [
        [row.row.replace(" ", "_"), *(f.text for f in row.numbers.values())] for row in table.rows
    ]
    assert found == lines
    assert [row.dataset for row in table.rows] == ["Clothing"] * 5 + ["Electronics"] * 5
    assert table.metrics == [f"{m}[{group}]" for group in CSI for m in ("sr@10", "swr")]
    rows = published.read("csi/table4").rows
    assert [f.text for row in rows for f in row.numbers.values()] == CSI_4.split()


def test_what_the_paper_says_of_its_gains_follows_from_the_numbers():
    rows = {(r.dataset, r.row): r.numbers for r in published.read("af_irs/table2").rows}
    for dataset, more, fewer in [  # section 5.2
        ("ML-1M", 2.53, 7.9),
        ("Amazon-Beauty", 20.37, 10.9),
        ("Steam", 29.41, 28.4),
    ]:
        others = [numbers for place, numbers in rows.items() if place[0] == dataset]
        ours = rows[dataset, "Ours"]
        others.remove(ours)
        best = max(f["sr@5"].value for f in others)
        assert round(100 * (ours["sr@5"].value / best - 1), 2) == more
        least = min(f["at_fail_plus_1"].value for f in others)
        assert round(100 * (1 - ours["at_fail_plus_1"].value / least), 1) == fewer


def test_only_the_papers_own_method_is_marked_significant():
    for row in published.read("af_irs/table2").rows:
        for number in row.numbers.values():
            assert ("significant" in number.marks) == (row.row == "Ours")


# The same of LatentCRS.
LATENTCRS_2 = """
CRM 0.1165 0.0690 0.3273 0.1279 0.0024 0.0014 0.0090 0.0032 0.0089 0.0055 0.0297 0.0111
UNICORN 0.1215 0.0734 0.3086 0.1274 0.1138 0.0753 0.2317 0.1099 0.0839 0.0518 0.1911 0.0833
CRIF 0.0784 0.0489 0.2363 0.0926 0.0427 0.0267 0.1058 0.0443 0.0157 0.0100 0.0442 0.0180
LatentCRS_B 0.1437 0.0921 0.3305 0.1449 0.1378 0.0964 0.2598 0.1310 0.0485 0.0326 0.1083 0.0494
"""
LATENTCRS_3 = """
Llama_3.1-8B 0.054 0.0396 0.092 0.0507 0.020 0.0143 0.034 0.0182 0.012 0.0074 0.016 0.0085
Gemini_1.5_pro 0.068 0.0414 0.096 0.0604 0.034 0.0216 0.062 0.0409 0.018 0.0136 0.088 0.0433
GPT4 0.064 0.0421 0.102 0.0622 0.032 0.0204 0.058 0.0400 0.028 0.0204 0.104 0.0476
Chat-Rec 0.086 0.0546 0.150 0.0950 0.038 0.0268 0.080 0.0630 0.016 0.0111 0.108 0.0787
InteRecAgent 0.006 0.0043 0.022 0.0087 0.014 0.0086 0.024 0.0118 0.018 0.0129 0.030 0.0163
LatentCRS_B 0.142 0.0879 0.340 0.1426 0.140 0.1008 0.250 0.1326 0.040 0.0270 0.106 0.0454
LatentCRS_F 0.180 0.1209 0.318 0.1604 0.146 0.1072 0.230 0.1347 0.058 0.0375 0.126 0.0573
LatentCRS_V 0.160 0.1139 0.320 0.1582 0.180 0.1386 0.246 0.1592 0.048 0.0302 0.108 0.0489
"""
LATENTCRS_4 = """
CRM 0.413 - - 0.013 - - 0.042 - -
UNICORN 0.248 0.378 4.174 0.184 0.260 4.362 0.174 0.232 4.406
CRIF 0.266 0.448 4.064 0.126 0.216 4.578 0.130 0.208 4.610
Llama_3.1-8B 0.188 0.540 3.624 0.208 0.276 4.668 0.00 0.258 4.832
Gemini_1.5_pro 0.224 0.580 3.484 0.248 0.384 4.108 0.170 0.498 4.412
GPT4 0.246 0.602 3.472 0.236 0.398 4.246 0.184 0.548 4.254
Chat-Rec 0.212 0.686 3.618 0.224 0.724 3.760 0.146 0.558 4.202
InteRecAgent 0.070 0.230 4.754 0.156 0.292 4.492 0.102 0.230 4.754
LatentCRS_B 0.388 0.482 3.760 0.264 0.336 4.078 0.100 0.142 4.642
LatentCRS_F 0.472 0.562 3.424 0.286 0.356 4.042 0.190 0.258 4.236
LatentCRS_V 0.532 0.650 3.298 0.378 0.426 3.706 0.182 0.220 4.422
"""
LATENTCRS_5 = """
LatentCRS_B 0.1468 0.0918 0.3333 0.1446 0.1378 0.0964 0.2598 0.1310 0.0485 0.0326 0.1083 0.0494
w/o_Inference 0.0232 0.0147 0.0678 0.0271 0.0309 0.0204 0.0595 0.0283 0.0240 0.0150 0.0667 0.0269
direct_KL_Align 0.0847 0.0518 0.2256 0.0911 0.0728 0.0472 0.1740 0.0756 0.0258 0.0165 0.0689 0.0285
w/o_Recloss 0.0698 0.0755 0.2073 0.0805 0.1006 0.0700 0.2092 0.1098 0.0241 0.0132 0.0650 0.0264
"""
LATENTCRS_6 = """
Llama_3.1-8B 119.51 148.20 127.20 199.83 124.26 211.57
Gemini_1.5_pro 120.49 140.56 112.43 188.75 126.89 223.91
GPT4 118.95 152.81 106.85 181.36 129.88 235.46
LatentCRS_B 85.50 1.00 75.44 1.00 91.90 1.00
LatentCRS_F 317.50 35.59 781.44 50.76 2086.89 70.70
LatentCRS_V 810.26 98.63 2117.60 96.72 2178.55 111.98
"""

RANKED = ["recall@5", "ndcg@5", "recall@20", "ndcg@20"]


@pytest.mark.parametrize(
    ("table", "text", "metrics"),
    [
        ("table2", LATENTCRS_2, RANKED),
        ("table3", LATENTCRS_3, RANKED),
        ("table4", LATENTCRS_4, ["sr@3", "sr@5", "at_fail_t"]),
        ("table5", LATENTCRS_5, RANKED),
        ("table6", LATENTCRS_6, ["input_tokens", "output_tokens"]),
    ],
)
def test_every_number_of_latentcrs_is_there_as_printed(table, text, metrics):
    found = {
        (row.dataset, row.row.replace(" ", "_"), metric): number.text
        for row in published.read(f"latentcrs/{table}").rows
        for metric, number in row.numbers.items()
    }
    lines = [line.split() for line in text.split("\n") if line]
    wide = len(metrics)
    expected = {}
    for *name, values in ((*line[: -3 * wide], line[-3 * wide :]) for line in lines):
        for n, value in enumerate(values):
            dataset = ["Movielens-1M", "VideoGames", "CDs"][n // wide]
            row = "_".join(name).replace("w/o_Inference", "w/o_Inference_Model")  # to fit the line
            expected[dataset, row, metrics[n % wide]] = value
    assert found == {place: value for place, value in expected.items() if value != "-"}


def test_the_numbers_of_latentcrs_that_cannot_be_are_found():
    def rows(table):
        return [
            (row.dataset, row.row, {m: f.text for m, f in row.numbers.items()})
            for row in published.read(f"latentcrs/{table}").rows
        ]

    turns = [(d, r) for d, r, numbers in rows("table4") if impossible(numbers, 5)]
    assert sorted(turns) == [
        ("Movielens-1M", "Chat-Rec"),
        ("Movielens-1M", "GPT4"),
        ("Movielens-1M", "Gemini 1.5 pro"),
        ("Movielens-1M", "Llama 3.1-8B"),
        ("VideoGames", "Llama 3.1-8B"),
    ]
    ranks = [
        (table, d, r)
        for table in ("table2", "table3", "table5")
        for d, r, numbers in rows(table)
        if impossible_ranks(numbers)
    ]
    assert ranks == [("table5", "Movielens-1M", "w/o Recloss")]


PARTIAL = {
    ("latentcrs/table4", "CRM"),  # its dialogues have 3 turns, so two cells are blank
    # Each panel of the figure has one metric.
    ("rso/fig5", "w/o fact retriever"),
    ("rso/fig5", "w/o planner"),
    ("rso/fig5", "w/o preference reasoner"),
}


@pytest.mark.parametrize("name", published.names())
def test_every_table_uses_words_that_exist(name):
    table = published.read(name)
    assert [parse_metric(metric).name for metric in table.metrics] == table.metrics
    assert {row.dataset for row in table.rows} == set(table.datasets)
    assert {row.row for row in table.rows} == set(table.agents)
    plain = {metric.partition("[")[0] for metric in table.metrics}
    assert set(table.remarks) <= plain | {metric.partition("@")[0] for metric in plain}
    for row in table.rows:
        assert set(table.metrics) <= set(row.numbers) or (name, row.row) in PARTIAL
        assert set(row.numbers) <= {*table.metrics, *table.without_metric}
        assert {mark for number in row.numbers.values() for mark in number.marks} <= {
            *published.SIGNS,
            "underlined",
        }
        paths = set(row.settings) - {"backbone", "temperature", "cases", "repetitions"}
        assert {path.split(".")[0] for path in paths} <= set(CellConfig.model_fields)
        for path in paths:
            head, _, option = path.partition(".")
            if head in ("cases", "limits"):
                kind = CellConfig.model_fields[head].annotation
                assert option in TypeAdapter(kind).json_schema()["properties"]


# Agents of published rows that crsweep does not have.
NOT_BUILT = {"scpr"}


@pytest.mark.parametrize(
    "wanted",
    [agent for name in published.names() for agent in published.read(name).agents.values()],
    ids=lambda wanted: "-".join(map(str, wanted.values())),
)
def test_a_row_matches_an_agent_with_such_options(wanted):
    if wanted["name"] in NOT_BUILT:
        assert find_spec(f"agents.{wanted['name']}") is None
        return
    cls = plugins.load("agents", wanted["name"], "agent")
    options = {key: value for key, value in wanted.items() if key != "name"}
    options |= {"url": "http://127.0.0.1:8080/respond"} if wanted["name"] == "http" else {}
    if options.get("planner"):  # the dialogues that it is fine-tuned on are not at hand
        options["planner"] = {**options["planner"], "warm_up": False}
    assert plugins.build_options(cls.Options, options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("af_irs/tabel2", "no published table is called 'af_irs/tabel2'; did you mean 'af_irs/tab"),
        ("af_irs", "(known: af_irs/table2, af_irs/table3, "),
        ("../af_irs/table2", "(known: af_irs/table2, af_irs/table3, "),
        ("af_irs/fig5", "Figure 5 is a plot without numbers"),
        ("af_irs/table1", "`crsweep plan` prints them"),
        ("desire/fig6", "Figure 6 is a plot without numbers"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(name, expected):
    with pytest.raises(UsageError) as caught:
        published.read(name)
    assert expected in caught.value.message
