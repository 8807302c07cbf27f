"""Fine-tuning on labelled dialogues: what it reads, what it learns, and how it resumes."""

import builtins
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from agents.core.errors import DataError
from agents.policies.core.baselines import scores
from agents.policies.core.dialogues import data_digest, examples
from agents.policies.core.labels import INSPIRED, labels_of, merged
from agents.policies.core.options import PolicyOptions
from agents.policies.core.recipes import FineTuned, Untrained
from tests.agents.policies.inspired import write_inspired

SMALL = {"name": "transformer", "width": 16, "heads": 2, "blocks": 1, "context": 16}


def recipe_of(folder: Path, **given: object) -> FineTuned:
    sft = {"lr": 0.01, "epochs": 8, **given}
    options = PolicyOptions.model_validate({"network": SMALL, "dialogues": str(folder), "sft": sft})
    found = options.recipe()
    assert isinstance(found, FineTuned)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_inspired(tmp_path_factory.mktemp("inspired"), train=24)


@pytest.fixture(scope="module")
def steps(folder):
    return list(recipe_of(folder).fit(None, 0))


def test_a_state_is_what_was_said_before_a_labelled_utterance(folder):
    first, second, *_ = examples(folder, "train")
    assert first.state.startswith("user: well, ") and "\n" not in first.state
    assert second.state.startswith(first.state + "\nrecommender: I see\nuser: ")
    assert first.label in INSPIRED
    assert len(examples(folder, "train")) == 24 * 5


def test_it_learns_what_words_decide_and_reports_baselines(steps):
    report = steps[-1].result.data["report"]
    accuracy = report["epochs"][-1]["accuracy"]
    assert accuracy >= 0.9
    assert accuracy > report["majority"]["accuracy"]
    assert report["tf_idf_regression"]["accuracy"] >= 0.9
    assert report["train"] == 120 and report["held_out"] == 20
    assert len(report["epochs"]) == 8
    assert steps[-1].note.startswith(steps[-2].note + " (the most frequent label 0.")
    assert "; TF-IDF regression 1." in steps[-1].note


def test_it_resumes_from_a_state_as_if_it_had_not_stopped(folder, steps):
    recipe = recipe_of(folder)
    again = list(recipe.fit(None, 0, steps[2].state))
    assert len(again) == len(steps) - 3
    assert again[-1].result.digest() == steps[-1].result.digest()
    other = list(recipe.fit(None, 1))
    assert other[-1].result.digest() != steps[-1].result.digest()


def test_what_is_loaded_decides_by_what_was_learned(folder, steps):
    policy = recipe_of(folder).load(steps[-1].result, None)
    state = "user: well, who plays and yes"
    assert policy.decide([state], [0], "argmax")[0].label == "Credibility"


def test_the_test_part_is_never_opened(folder, monkeypatch):
    opened = []
    for module, name in ((builtins, "open"), (io, "open")):  # pathlib uses the second
        real = getattr(module, name)

        def watched(file, *args, real=real, **given):
            opened.append(str(file))
            return real(file, *args, **given)

        monkeypatch.setattr(module, name, watched)
    list(recipe_of(folder, epochs=1).fit(None, 0))
    read = {Path(name).name for name in opened if str(folder) in name}
    assert read == {"inspired-train.txt", "inspired-valid.txt"}


def test_only_the_content_of_the_data_counts_for_identity(folder, tmp_path):
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    for part in ("train", "valid"):
        name = f"inspired-{part}.txt"
        (elsewhere / name).write_text((folder / name).read_text())
    assert recipe_of(folder).identity() == recipe_of(elsewhere).identity()
    other = write_inspired(tmp_path / "other", train=3)
    assert data_digest(other) != data_digest(folder)
    assert recipe_of(folder).identity() != recipe_of(other).identity()
    assert recipe_of(folder).identity() != recipe_of(folder, lr=0.02).identity()
    json.dumps(recipe_of(folder).identity())


def test_the_preference_confirmation_of_the_data_is_merged_for_table_1():
    assert len(labels_of("inspired")) == 14 and len(labels_of("table1")) == 13
    assert merged("Preference Confirmation", "table1") == "Transparency"
    assert merged("Preference Confirmation", "inspired") == "Preference Confirmation"


def test_data_that_is_missing_or_malformed_is_named(tmp_path):
    with pytest.raises(ValidationError, match="set `dialogues` to the folder of INSPIRED"):
        PolicyOptions()
    with pytest.raises(ValidationError, match=r"there is no file .*inspired-train\.txt"):
        PolicyOptions(dialogues=str(tmp_path))
    folder = write_inspired(tmp_path)
    line = {"text": "Hi", "speaker": "RECOMMENDER", "strategy": "Credibilty"}
    (folder / "inspired-train.txt").write_text(json.dumps({"dialog_id": "a", "dialog": [line]}))
    with pytest.raises(DataError, match="line 1: unknown strategy 'Credibilty'; did you mean"):
        examples(folder, "train")
    (folder / "inspired-train.txt").write_text("\n{}\n")
    with pytest.raises(DataError, match="line 2: expected an object with `dialog_id`"):
        examples(folder, "train")


def test_an_untrained_policy_needs_no_data():
    recipe = PolicyOptions(stage="untrained").recipe()
    assert isinstance(recipe, Untrained)
    *_, last = recipe.fit(None, 0)
    found = recipe.load(last.result, None)
    assert np.allclose(found.probabilities(["user: hi"]), 1 / 14, atol=0.05)


def test_accuracy_and_macro_f1_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score

    drawn = np.random.default_rng(0)
    true, found = drawn.integers(0, 5, 50), drawn.integers(0, 4, 50)
    ours = scores(true, found, 5)
    assert ours.accuracy == pytest.approx(accuracy_score(true, found))
    assert ours.macro_f1 == pytest.approx(f1_score(true, found, average="macro"))
