import pytest

from spaces.constraints import (
    Constraint,
    read_constraint,
    read_study_constraint,
    split_constraints,
    write_column,
)
from spaces.errors import UserError

NAMES = [
    "cat", "great dane", "salt, fine", "x >= 0.5", 'say "hi"', "this and that", "[red]a[/red]",
    "<b>cub</b>", "a\\b", "größe", "рысь", "=", "recall:cat", " padded ", "a\tb", "'quoted'",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_any_name_can_be_bounded_in_a_line(name: str):
    bound = Constraint(column=f"recall:{name}", sign=">=", bound=0.9)
    assert read_constraint(str(bound)) == bound
    line = f"accuracy>=0.5, {bound} and size_mb <= 20"
    assert [read_constraint(part) for part in split_constraints(line)] == [
        Constraint(column="accuracy", sign=">=", bound=0.5),
        bound,
        Constraint(column="size_mb", sign="<=", bound=20),
    ]
    assert read_study_constraint(f"recall:{name}", ">= 90%") == bound


@pytest.mark.parametrize("name", ["cat", "great dane", "Hyla_arborea", "n02085936", "o'neill"])
def test_an_ordinary_class_needs_no_quotes(name: str):
    assert write_column(f"recall:{name}") == f"recall:{name}"
    assert read_constraint(f"recall:{name} >= 0.5") is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recall:>=0.5", "recall: is not a number of a trial; use accuracy, .*recall:CLASS"),
        ("recal:cat>=0.5", None),
        ("recall:cat=0.5", "use >= or <="),
        ("recall:cat>=50", "is a fraction from 0 to 1; write 0.5"),
        (r'recall:"\x">=0.5', "is not a text in JSON"),
        ("balanced_acuracy>=0.5", "did you mean balanced_accuracy"),
    ],
)
def test_a_wrong_bound_has_a_line(line: str, message: str | None):
    if message is None:
        assert read_constraint(line) is None
        return
    with pytest.raises(UserError, match=message):
        read_constraint(line)
