"""Who imports whom, imports inside functions included and those for type checkers left out.

`pyproject.toml` has contracts for the rooms. These tests hold for any room there will ever be.
"""

import graphlib
from collections.abc import Iterator

import grimp
import pytest

from agents.core import plugins
from agents.policies.core.network import POLICIES
from agents.recommenders.core import RECOMMENDERS
from analysis.metrics.core import METRICS
from runner.entry import PACKAGES
from simulators.core.critic import CRITICS
from simulators.core.judge import JUDGES
from sweeps.cells import SUCCESS
from sweeps.sources import DOMAINS
from sweeps.speakers import AGENTS, USERS
from tests.conftest import ROOT
from workers.models import BACKENDS

PLUGINS = (
    *(AGENTS, POLICIES, RECOMMENDERS, USERS, DOMAINS, SUCCESS, CRITICS, JUDGES, BACKENDS),
    METRICS,
)


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module -> the modules of the project that it imports."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    return {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }


def folder_of(module: str) -> str:
    is_folder = (ROOT / module.replace(".", "/") / "__init__.py").is_file()
    return module if is_folder else module.rpartition(".")[0]


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def across(imports: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Every import, as (who, whom)."""
    return ((module, other) for module, found in imports.items() for other in found)


def test_imports_inside_functions_count(imports):
    assert "runner.cli.main" in imports["runner.entry"]


def test_no_modules_import_each_other_in_a_circle(imports):
    list(graphlib.TopologicalSorter(imports).static_order())  # CycleError shows the circle


def test_no_worker_needs_what_reads_sweep_files(imports):
    """OmegaConf would cost each worker and each training a tenth of a second."""
    reached, new = set(), {module for module in imports if is_within(module, "workers")}
    while new:
        reached |= new
        new = set().union(*(imports[module] for module in new)) - reached
    assert "sweeps.plan" in reached
    assert "sweeps.load" not in reached


def test_no_two_folders_import_each_other(imports):
    # The `__init__` of a package is what it offers to others; its own folder never imports it.
    between = {
        (folder_of(module), folder_of(other))
        for module, other in across(imports)
        if module not in PACKAGES
    }
    both = sorted((a, b) for a, b in between if a < b and (b, a) in between)
    assert both == []


@pytest.mark.parametrize("package", PLUGINS)
def test_plug_ins_import_no_other_plug_in_of_their_folder(imports, package):
    names = {name: f"{package}.{name}" for name in plugins.names(package)}
    found = [
        (module, other)
        for module, other in across(imports)
        for mine in names.values()
        if is_within(other, mine) and is_within(module, package) and not is_within(module, mine)
    ]
    assert found == []
    assert any(is_within(module, mine) for module in imports for mine in names.values())
