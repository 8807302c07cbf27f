"""`make bench`: every benchmark, one after the other."""

import subprocess
import sys

BENCHES = (
    ("episodes", "--episodes", "10000", "--runs", "3"),
    ("scale", "--plan", "1000000"),
    ("scale", "--memory", "10000", "100000"),
    ("analysis",),
    ("store",),
    ("cache",),
    ("throughput",),
    ("throughput", "--dialogues", "8000", "--concurrency", "1024", "--limit", "8000", "--runs", "3"),
    ("cached",),
    ("slots",),
    ("resume", "--episodes", "1000000"),
    ("vllm_throughput",),
    ("affinity",),
)

for name, *words in BENCHES:
    subprocess.run([sys.executable, "-m", f"tests.bench.{name}", *words], check=True)
