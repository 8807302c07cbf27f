"""Made-up files in the layouts of INSPIRED and ReDial as RSO's authors published them."""

import json
from pathlib import Path
from typing import Any

MOVIES = {
    "7": {"name": "Silent River (1971)", "genre": ["Drama"], "plot": "A flood &amp; its end.",
          "director": ["Ann Lee"], "writer": [], "star": ["Bo Ek", "Cy Poe"]},
    "8": {"name": "Heat  Wave (1995)", "genre": ["action", "thriller"], "plot": "", "director": [],
          "writer": ["Dee Roe"], "star": []},
    "9": {"title": "Alien Garden", "year": 1979, "genre": "Horror, Action", "long_plot": "Plants.",
          "actors": "Bo Ek"},
    "10": {"name": "silent river (1971)", "genre": ["comedy"]},
}  # fmt: skip
GRAPH = {"0": [[1, 4], [0, 3]], "1": [[0, 5], [1, 6], [0, 7]]}
ENTITIES = {"Silent River (1971)": 0, "Heat Wave (1995)": 1, "drama": 3, "Bo Ek": 4, "action": 5,
            "Dee Roe": 6, "scary": 7}  # fmt: skip
RELATIONS = {"genre": 0, "star": 1}
_ASKED = ["age_group", "gender", "race", "degree", "job", "marital_status", "political_view",
          "religion"]  # fmt: skip
_SCALES = ["Extrovert", "Agreeable", "Conscientious", "Neurotic", "Open", "Conformity", "Tradition",
           "Benevolence", "Universalism", "Self-Direction", "Stimulation", "Hedonism",
           "Achievement", "Power", "Security", "Rational", "Feeling"]  # fmt: skip


def write_json(path: Path, found: Any) -> None:
    path.write_text(json.dumps(found))


def write_lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_movies(folder: Path, *, graph: bool = True) -> None:
    write_json(folder / "id2info.json", MOVIES)
    if graph:
        write_json(folder / "kg.json", GRAPH)
        write_json(folder / "entity2id.json", ENTITIES)
        write_json(folder / "relation2id.json", RELATIONS)


def write_people(folder: Path) -> None:
    """u1 has everything, u2 (whose line has slipped) and u3 only scales."""
    rows = [
        ["a", "u1", "18 - 24", "Female", "Other", "Master", "Employed", "Married", "Moderate", ""],
        ["b", "u2", "Male", "Other", "Master", "Employed", "Married", "Moderate", "Jewish", "x"],
        ["c", "u1", "25 - 34", "Female", "Other", "Master", "Employed", "Married", "Liberal", ""],
    ]
    head = ["survey", "seeker_id", *_ASKED]
    lines = ["\t".join(row) for row in [head, *rows]]
    (folder / "seeker_demographic.tsv").write_text("\n".join(lines) + "\n")
    scales = [5, 1, 3, 2.5, 4, 6, 1, 3, 4, 5, 2, 3, 3, 3, 3, 4, 2]
    lines = ["\t".join(["User_ID", *_SCALES])]
    lines += ["\t".join([user, *map(str, scales)]) for user in ("u1", "u2", "u3", "u4")]
    (folder / "seeker_personality.tsv").write_text("\n".join(lines) + "\n")


def write_inspired(folder: Path) -> None:
    """Two dialogues to train on, one to validate, two to test: one of them without a genre."""
    said = [{"text": "hello", "speaker": "RECOMMENDER", "strategy": "Offer Help"}]

    def row(name: str, user: str, **more: Any) -> dict[str, Any]:
        return {"dialog_id": name, "dialog": said, "user_id": user, **more}

    write_lines(
        folder / "inspired-train.txt",
        [row("t1", "u3", genre_dict=["drama", "war"]), row("t2", "u4", genre_dict=["western"])],
    )
    write_lines(folder / "inspired-valid.txt", [row("v1", "u2")])
    write_lines(folder / "inspired-test.txt", [row("x1", "u1"), row("x2", "u2")])
    wanted = [{"dialog_id": "x1", "user_id": "u1", "genre_dict": ["Horror", "drama"]},
              {"dialog_id": "x2", "user_id": "u2", "genre_dict": []}]  # fmt: skip
    write_lines(folder / "dialog_ids2user_id_and_genre_dict.jsonl", wanted)


def write_redial(folder: Path) -> None:
    """Two tested dialogues, of which one recommends a movie; four others, one tested too."""
    write_movies(folder)
    wanted = [{"dialog_id": "20001", "user_id": "u1", "genre_dict": ["drama", "crime"]},
              {"dialog_id": "20002", "user_id": "u1", "genre_dict": ["action"]}]  # fmt: skip
    write_lines(folder / "dialog_ids2user_id_and_genre_dict.jsonl", wanted)
    write_lines(folder / "redial-test.txt", [{**row, "dialog": ["Hi"]} for row in wanted])
    turns = [{"dialog_id": "20001", "rec": ["Heat Wave (1995)"]},
             {"dialog_id": "20001", "rec": ["silent  River (1971)", "Unlisted (2000)"]},
             {"dialog_id": "20002", "rec": ["Unlisted (2000)"]},
             {"dialog_id": "3", "rec": ["Alien Garden (1979)"]}]  # fmt: skip
    write_lines(folder / "test_data_processed.jsonl", turns)
    disliked = {"a": {"liked": 0}, "b": {"liked": 1}}
    valid = [
        {"conversationId": "1", "initiatorQuestions": disliked,
         "movieMentions": {"a": "Silent River (1971)", "b": "Heat Wave  (1995)"}},
        {"conversationId": "2", "initiatorQuestions": [], "movieMentions": {"a": "Unlisted"}},
        {"conversationId": "3", "initiatorQuestions": [], "movieMentions": {
            "a": "Heat Wave (1995)", "b": "Alien Garden (1979)", "c": None}},
        {"conversationId": "20002", "initiatorQuestions": [],
         "movieMentions": {"a": "Silent River (1971)"}},
    ]  # fmt: skip
    write_lines(folder / "valid_data.jsonl", valid)
