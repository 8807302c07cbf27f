"""Whole dialogues of both free-form users, played by the rules on both published splits."""

import pytest

from runner.rehearsal.dialogues import rehearse
from simulators.core.leaks import Secret
from tests.fixtures_scpr import write_lastfm, write_yelp
from tests.sweep_files import plan_of, write_sweep

WRITE = {"lastfm": write_lastfm, "yelp": write_yelp}
PERFECT = {"backend": "rules", "skill": 1.0, "knowledge": 1.0}


def played(tmp_path, domain, simulator, *, targets="each", model=PERFECT, agents=("zero_shot",)):
    plan = plan_of(
        write_sweep(
            tmp_path,
            domain={"name": domain, "path": str(WRITE[domain](tmp_path / domain)),
                    "targets": targets},
            cases={"sample": 12},
            models={"rules": model},
            roles={"user": "rules", "agent": "rules"},
            simulator=simulator,
            grid={"agent": list(agents)},
            limits={"max_turns": 15, "shown_items": 5, "episode_tokens": 10**6},
        )
    )  # fmt: skip
    return plan, rehearse(plan, range(len(plan.cells)), 12)


@pytest.mark.parametrize("domain", WRITE)
@pytest.mark.parametrize("targets", ["each", "all"])
@pytest.mark.parametrize("decides", ["model", "rule"])
@pytest.mark.parametrize("user", ["ievalm", "concept"])
def test_dialogues_end_with_an_acceptance_that_is_right(tmp_path, domain, targets, decides, user):
    plan, attempts = played(tmp_path, domain, {"name": user, "decides": decides}, targets=targets)
    catalogue = plan.sources[0].domain.catalogue
    assert len(attempts) == 12
    for attempt in attempts:
        assert attempt.error is None
        said = [attempt.transcript.opening, *(turn.user for turn in attempt.transcript.turns)]
        assert attempt.transcript.stop_reason == "accepted"
        knew = said[0].extra["knew"]
        accepted = said[-1].accepted
        if user == "ievalm":
            assert knew["targets"] == [target.id for target in attempt.case.hidden.targets]
            assert accepted in attempt.case.hidden.targets
        else:
            own = {f"{name}: {v}" for name, values in accepted.attributes.items() for v in values}
            assert set(knew["facts"]) <= own
            assert len(knew["facts"]) <= 3
        assert said[-1].extra["why"]
        assert not any(turn.extra["leak"] for turn in said)
        for turn in said[:-1]:
            for target in attempt.case.hidden.targets:
                assert Secret.of(target, catalogue).leak(turn.text) is None


@pytest.mark.parametrize("user", ["ievalm", "concept"])
def test_a_user_opens_alike_before_every_agent(tmp_path, user):
    weak = {"backend": "rules", "skill": 0.5, "knowledge": 0.5}
    agents = ("zero_shot", "react", "chatcrs")
    _, attempts = played(tmp_path, "lastfm", user, model=weak, agents=agents)
    openings: dict[str, set[str]] = {}
    for attempt in attempts:
        assert attempt.error is None
        opening = attempt.transcript.opening
        openings.setdefault(attempt.case.visible.case_id, set()).add(
            f"{opening.text} {opening.extra}"
        )
    assert len(openings) == 12
    assert all(len(found) == 1 for found in openings.values())
    assert len(set.union(*openings.values())) > 6
