"""`make test`: the tests in two rows side by side, one of them with a real Ray or vLLM.

Those wait for processes half of their time. Two rows of one pytest each, because no two clusters
may start and be killed on one machine at once. Words are handed to both: `python -m tests -x`.
"""

import subprocess
import sys
from threading import Thread

import pytest

_ROWS = {"quick": ("-m", "not ray and not vllm", "-q"), "ray, vllm": ("-m", "ray or vllm", "-v")}
_FINE = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _show(name: str, row: subprocess.Popen[str]) -> None:
    assert row.stdout is not None
    for line in row.stdout:
        print(f"{name:>9} | {line}", end="", flush=True)


def main(words: list[str]) -> int:
    rows = {
        name: subprocess.Popen(
            [sys.executable, "-m", "pytest", *chosen, *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        for name, chosen in _ROWS.items()
    }  # fmt: skip
    readers = [Thread(target=_show, args=row) for row in rows.items()]
    for reader in readers:
        reader.start()
    try:
        codes = [row.wait() for row in rows.values()]
    except KeyboardInterrupt:  # the terminal has told both of it
        codes = [row.wait() for row in rows.values()]
    for reader in readers:
        reader.join()
    if all(code == pytest.ExitCode.NO_TESTS_COLLECTED for code in codes):
        return codes[0]
    return next((code for code in codes if code not in _FINE), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
