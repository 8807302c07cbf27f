"""`make bench`: every benchmark, one after the other.

Memory is measured for up to 100,000 episodes. To measure it for 1,000,000, which takes 45 minutes
on 2 cores, run `python -m tests.bench.scale --memory 10000 1000000`.
"""

import subprocess
import sys

BENCHES = (
    ("episodes", "--episodes", "10000"),
    ("scale", "--plan", "1000000"),
    ("scale", "--memory", "10000", "100000"),
    ("analysis",),
    ("store",),
    ("cache",),
    ("cache_stores",),
    ("throughput",),
    ("throughput", "--dialogues", "8000", "--concurrency", "1024", "--limit", "8000"),
    ("call",),
    ("call", "--dialogues", "3000", "--concurrency", "1024"),
    ("cached",),
    ("slots",),
    ("many_nodes",),
    ("judging",),
    ("resume", "--episodes", "1000000"),
    ("vllm_throughput",),
    ("affinity",),
    ("titles",),
    ("coverage",),
    ("viewer",),
)

for name, *words in BENCHES:
    subprocess.run([sys.executable, "-m", f"tests.bench.{name}", *words], check=True)
