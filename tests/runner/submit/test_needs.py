"""Which extras a sweep needs where it is sent."""

import pytest

from agents.core.errors import UsageError
from runner.submit.needs import extras_of
from sweeps.load import load
from tests.sweep_files import write_sweep


@pytest.mark.parametrize(
    ("agents", "trains"),
    [
        (["zero_shot", "react"], False),
        ([{"name": "intercrs", "recommender": "popularity"}], False),
        (["zero_shot", {"name": "intercrs", "recommender": "sasrec"}], True),
        ([{"name": "latentcrs", "recommender": "item_knn"}], True),
        (["tests.prepared_agent"], False),
    ],
)
def test_what_agents_need_prepared_says_whether_they_train(tmp_path, agents, trains):
    path = write_sweep(tmp_path, grid={"agent": agents, "seed": [0, 1]})
    assert ("train" in extras_of(load(path))) is trains


def test_the_backend_of_a_model_brings_its_extra(tmp_path):
    t5 = {"backend": "sentence_transformers", "model": str(tmp_path)}
    path = write_sweep(tmp_path, models={"strong": {"backend": "rules"}, "t5": t5})
    found = extras_of(load(path, ["grid.roles.agent=[strong]"]))
    assert found == ["cluster", "sentence-transformers"]


def test_an_option_that_is_an_axis_counts_and_a_wrong_agent_is_named(tmp_path):
    path = write_sweep(
        tmp_path, agent="intercrs", grid={"agent.recommender": ["popularity", "iclrec"]}
    )
    assert extras_of(load(path)) == ["cluster", "train"]
    with pytest.raises(UsageError, match="no agent is called 'intercsr'"):
        extras_of(load(write_sweep(tmp_path, grid={"agent": ["intercsr"]})))
