"""Names such as `agents` are common: a package that shadows one of ours is named, not used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli import main as cli
from runner.core.exit_codes import ExitCode
from runner.entry import main, shadowing_error
from tests.conftest import ROOT


def test_this_checkout_is_not_shadowed():
    assert shadowing_error(ROOT) is None


def test_a_package_that_shadows_ours_is_named_with_its_distribution(tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    info = tmp_path / "other_agents-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-agents\nVersion: 1.0\n")
    (info / "RECORD").write_text("agents/__init__.py,,\n")
    script = Path(sys.executable).parent / "crsweep"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([script, "--help"], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "the package 'agents' comes from" in done.stderr
    assert "installed by other-agents" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["plann"], "no such command: 'plann'; did you mean 'plan'?"),
        (["xyzzy"], "no such command: 'xyzzy' ("),
        (["sweep.yaml"], "expected a command, found sweep.yaml; did you mean `"),
        (["cache", "prun"], "no such command: 'prun'; did you mean 'prune'?"),
        (["plan"], "missing argument 'SWEEP' (see `"),
        (["table"], "missing argument 'DIR'"),
        (["sql", "out"], "missing argument 'QUERY'"),
        (["compare", "out"], "missing option '--axis'"),
        (["plan", "x.yaml", "--jsn"], "no such option: --jsn; did you mean '--json'?"),
        (["plan", "x.yaml", "--gpus", "x"], "invalid value for '--gpus': expected a whole number"),
        (["plan", "x.yaml", "--gpus", "0"], "invalid value for '--gpus': expected at least 1"),
        (["run", "x.yaml", "--retry"], "option '--retry' requires an argument"),
        (["table", "out", "--format", "htm"], "'htm' is not one of 'text', 'csv'"),
        (["status", "out", "more"], "got unexpected extra argument(s) (more)"),
        (["plan", "/missing.yaml"], "there is no sweep file /missing.yaml"),
        (["status", "~no-such-user"], "there is no home folder ~no-such-user"),
        (["table", "pyproject.toml"], "expected the output folder of a sweep, found the file"),
        (["table", "agnts"], "there is no folder agnts; did you mean 'agents'?"),
        (["table", "agents"], "agents contains no sweep (there is no manifest.json in it)"),
        (["status", "ftp://x"], "expected a local path, file:// or s3://, found ftp://"),
    ],
)
def test_invalid_commands_are_refused_in_one_line(words, expected, capsys):
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert expected in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("words", "code"), [([], 2), (["cache"], 2), (["--help"], 0)])
def test_help_is_printed_where_nothing_is_asked(words, code, capsys):
    assert cli.main(words) == code
    printed = capsys.readouterr()
    assert "Usage: crsweep" in printed.out
    assert printed.err == ""


def test_help_wraps_at_the_width_of_the_terminal_only(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["run", "--help"]) == 0
    assert "but a later step (printing) failed." in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plan", "doctor", "render"])
def test_an_interrupt_leaves_no_traceback(command, monkeypatch, capsys):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.load.parse_document", interrupted)
    monkeypatch.setattr(sys, "argv", ["crsweep", command, "sweeps/quickstart.yaml"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == ExitCode.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


def test_closed_standard_streams_are_opened_to_the_null_device():
    code = (
        "import os, sys; from runner.entry import open_standard_streams as f; f(); "
        "print(input, flush=True); print('x', file=sys.stderr, flush=True); "
        "os.write(1, b'x'); sys.exit(40 + len(sys.stdin.read()) + (os.dup(0) < 3))"
    )
    shell = f'{sys.executable} -c "$0" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, code], cwd=ROOT).returncode == 40


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], []])
def test_help_that_cannot_be_printed_is_one_line(words, monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(words) == 1
    assert capsys.readouterr().err == "error: No space left on device\n"
