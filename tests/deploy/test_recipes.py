"""What holds for every recipe."""

from tests.conftest import ROOT


def test_every_recipe_has_a_page_and_tests():
    recipes = sorted(path.name for path in (ROOT / "deploy").iterdir() if path.is_dir())
    assert len(recipes) >= 4
    for name in recipes:
        assert (ROOT / "deploy" / name / "README.md").is_file(), name
        assert (ROOT / "tests/deploy" / f"test_{name}.py").is_file(), name
        assert f"deploy/{name}" in (ROOT / "docs/cluster.md").read_text(), name
