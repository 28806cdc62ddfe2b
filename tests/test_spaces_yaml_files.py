from pathlib import Path
from typing import Any

import pytest

from spaces.errors import UserError
from spaces.yaml_files import did_you_mean, parse_yaml, path_from, read_yaml_mapping, write_yaml


def mistake_in(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "a.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1e-3", 1e-3), ("1.e-3", 1e-3), (".5e2", 50.0), ("1E5", 1e5), ("-2e+1", -20.0)),
        *(("1.0e-3", 1e-3), ("0.1", 0.1), ("3", 3), ("-3", -3)),
    ],
)
def test_numbers_are_numbers_with_or_without_a_dot(text: str, number: float):
    found = parse_yaml(text, "")
    assert (type(found), found) == (type(number), number)


@pytest.mark.parametrize("text", ["e3", "1e", "1e5x", "v1.2.3", "'1e5'", '"3"'])
def test_words_are_words(text: str):
    assert isinstance(parse_yaml(text, ""), str)


@pytest.mark.parametrize(
    "value",
    ["1e5", "12345e6789", "1.5", "3", "true", "null", "", "é", "a: b", 1e-5, 3, True, None, [1]],
)
def test_what_is_written_is_read_back_as_it_was(value: Any):
    found = parse_yaml(write_yaml({"a": value}), "")["a"]
    assert (type(found), found) == (type(value), value)


def test_what_is_written_keeps_its_order():
    assert list(parse_yaml(write_yaml({"b": 1, "a": 2}), "")) == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3", "a.yaml:3:1: a is written twice"),
        ("a:\n  b: 1\n  b: 2", "a.yaml:3:3: b is written twice"),
        ("a: {b: 1, b: 2}", "a.yaml:1:11: b is written twice"),
        ("? [a]\n: 1", "a.yaml:1:3: a key must be a word"),
        ("? {a: 1}\n: 1", "a.yaml:1:3: a key must be a word"),
        ("a:\n\tb: 1", "a.yaml:2:1: found character '\\t' that cannot start any token"),
        ("a: [1, 2", "a.yaml:1:9: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n  b: 2", "a.yaml:2:4: mapping values are not allowed here"),
        ("--- 1\n--- 2", "a.yaml:2:1: but found another document"),
        ("[" * 1200, "a.yaml: nested too deeply"),
        ("a: 2020-13-45", "a.yaml: month must be in 1..12"),
    ],
)
def test_what_does_not_parse_has_a_line_with_its_place(text: str, line: str):
    assert mistake_in(text) == line


@pytest.mark.parametrize(
    "tag", ["python/object:os.system", "python/object/apply:os.system", "python/name:os.system"]
)
def test_yaml_that_would_run_code_is_refused_in_one_line(tag: str):
    assert mistake_in(f"a: !!{tag} [ls]").startswith("a.yaml:1:4: could not determine")


@pytest.mark.parametrize(
    "text", ["!!map [1]", "!!map x", "!!bool x", "!!timestamp x", "!!int x", "!!float x", "\0"]
)
def test_other_tags_that_do_not_fit_are_refused_in_one_line(text: str):
    assert mistake_in(f"a: {text}").startswith("a.yaml")


def test_merge_keys_and_anchors_work():
    text = "base: &base {model: resnet18, epochs: 3}\nother: {<<: *base, epochs: 5}"
    assert parse_yaml(text, "")["other"] == {"model": "resnet18", "epochs": 5}


def test_a_file_holds_one_mapping(tmp_path: Path):
    path = tmp_path / "a.yaml"
    for text, found in (("- 1", "a list"), ("word", "a str"), ("", "nothing"), ("# x", "nothing")):
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            read_yaml_mapping(path)
        assert str(caught.value) == f"{path}: expected `name: value` lines, found {found}"
    path.write_text("2: a\ntrue: b")
    assert read_yaml_mapping(path) == {"2": "a", "True": "b"}


def test_files_that_can_not_be_read_have_a_line(tmp_path: Path):
    path = tmp_path / "a.yaml"
    with pytest.raises(UserError, match=r"a.yaml: there is no such file$"):
        read_yaml_mapping(path)
    with pytest.raises(UserError, match=r": Is a directory$"):
        read_yaml_mapping(tmp_path)
    path.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"a.yaml: is not UTF-8 text \(byte 6\)$"):
        read_yaml_mapping(path)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x")
    assert read_yaml_mapping(path) == {"name": "x"}


def test_paths_start_at_the_folder_of_their_file(tmp_path: Path):
    assert path_from("a/../b", tmp_path) == tmp_path / "b"
    assert path_from("/a", tmp_path) == Path("/a")


def test_the_nearest_word_is_offered_where_one_is_near():
    assert did_you_mean("trails", ["trials", "hours"]) == "; did you mean trials?"
    assert did_you_mean("xyz", ["trials", "hours"]) == ""
