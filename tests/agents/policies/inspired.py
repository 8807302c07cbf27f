"""A made-up folder in INSPIRED's layout, whose labels follow from the seeker's last words."""

import json
import random
from pathlib import Path

CUES = {
    "hello": "Offer Help",
    "funny": "Opinion Inquiry",
    "scary": "Experience Inquiry",
    "thanks": "Acknowledgment",
    "who plays": "Credibility",
}


def write_inspired(folder: Path, *, train: int = 12, valid: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(0)
    for part, count in (("train", train), ("valid", valid), ("test", 2)):
        lines = [json.dumps(dialogue(f"{part}-{number}", drawn)) for number in range(count)]
        (folder / f"inspired-{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def dialogue(name: str, drawn: random.Random) -> dict[str, object]:
    said = []
    for _ in range(5):
        cue = drawn.choice(sorted(CUES))
        words = f"well, {cue} and {drawn.choice(['yes', 'no', 'maybe'])}"
        said.append({"text": words, "speaker": "SEEKER", "strategy": "NaN"})
        said.append({"text": "I see", "speaker": "RECOMMENDER", "strategy": CUES[cue]})
    return {"dialog_id": name, "dialog": said}
