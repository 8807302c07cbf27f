"""`make test`: the tests in two rows side by side, one of them those with a real vLLM.

Engines make their tests wait half of the time. Two rows of one pytest each, since tests of a row
may each want the whole machine. Words are handed to both: `python -m tests -x`.
"""

import subprocess
import sys
from threading import Thread

import pytest

_ROWS = {"vllm": ("-m", "vllm", "-v"), "others": ("-m", "not vllm", "-q")}
_FINE = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _show(name: str, row: subprocess.Popen[str]) -> None:
    assert row.stdout is not None
    for line in row.stdout:
        print(f"{name:>6} | {line}", end="", flush=True)


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
