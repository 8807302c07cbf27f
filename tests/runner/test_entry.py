"""Names such as `agents` are common: a package that shadows one of ours is named, not used."""

import os
import subprocess
import sys
from pathlib import Path

from runner.entry import shadowed
from tests.conftest import ROOT


def test_this_checkout_is_not_shadowed():
    assert shadowed(ROOT) is None


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
