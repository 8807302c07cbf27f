"""Cells and cases are chosen by number, cases also by id."""

import pytest

from agents.core.errors import UsageError
from runner.commands.selection import case_of
from tests.sweep_files import plan_of, write_sweep


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    return plan_of(write_sweep(folder, cases={"sample": 12})).sources[0]


class Numbered:
    """A source whose cases have numbers as ids."""

    ids = ("7", "2", "0")

    def __len__(self):
        return len(self.ids)

    def case_id(self, position):
        return self.ids[position]


def test_a_case_is_chosen_by_its_number_or_its_id(source):
    assert case_of(source, "11") == (11, "")
    assert case_of(source, source.case_id(3)) == (3, "")


def test_a_number_that_is_also_the_id_of_another_case_is_a_number_and_the_remark_says_so():
    assert case_of(Numbered(), "7") == (0, "")
    position, remark = case_of(Numbered(), "2")
    assert position == 2
    assert remark == "--case 2 is read as a number; the case with the id 2 has the number 1"


@pytest.mark.parametrize("given", ["12", "-1", "u", "١"])
def test_an_unknown_case_is_refused(source, given):
    with pytest.raises(UsageError, match="expected a number from 0 to 11, or the id of a case"):
        case_of(source, given)


def test_an_id_that_is_nearly_one_of_the_sample_gets_a_close_match(source):
    with pytest.raises(UsageError, match=f"did you mean '{source.case_id(3)}'"):
        case_of(source, source.case_id(3) + "x")
