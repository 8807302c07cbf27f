"""Which judge of pairs a metric reads."""

import pytest

from agents.core.errors import UsageError
from analysis.metrics.core import JudgeWanted, KnownJudge, judged_by, parse_metric

PAIRWISE = KnownJudge("pairwise", "pairwise", ("groundedness", "overall"), of_pairs=True)
PROACTIVE = KnownJudge("sales", "proactiveness", ("questionability", "overall"), of_pairs=True)
RELEVANCE = KnownJudge("relevance", "relevance", ("overall",))


def test_a_metric_of_pairs_reads_any_judge_of_pairs_that_is_asked_about_its_dimension():
    def reader(name: str, *judges: KnownJudge) -> JudgeWanted:
        found = judged_by(parse_metric(name), judges).judge
        assert found is not None
        return found

    assert reader("win_rate@overall", PROACTIVE) == ("proactiveness", "sales", "overall")
    both = (RELEVANCE, PAIRWISE, PROACTIVE)
    assert reader("win_rate@questionability", *both).label == "sales"
    assert reader("order_bias@groundedness", *both).label == "pairwise"
    assert reader("win_rate@overall:sales", *both).plugin == "proactiveness"
    with pytest.raises(
        UsageError, match=r"several judges compare pairs \(pairwise, sales\); .*:pair"
    ):
        reader("win_rate@overall", *both)
    with pytest.raises(UsageError, match="reads the verdicts of a judge of pairs, which is not in"):
        reader("win_rate@overall", RELEVANCE)
    with pytest.raises(UsageError, match="no dimension 'overal'; did you mean 'overall'"):
        reader("win_rate@overal", PROACTIVE)
