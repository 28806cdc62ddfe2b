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
        ("[" * 1200, "a.yaml:1:41: [0][0][0]: nested too deeply"),
        ("a: {b: " + "[" * 400, "a.yaml:1:46: a.b[0]: nested too deeply"),
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
    with pytest.raises(UserError, match=r": is a folder, not a file$"):
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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: {hours: 1:30}", "a.yaml:1:12: a.hours: YAML 1.1 reads 1:30 in base 60; write one"),
        ("a: 1:30:10.5", "a.yaml:1:4: a: YAML 1.1 reads 1:30:10.5 in base 60; write one number"),
        ("a: [1, 010]", "a.yaml:1:8: a[1]: YAML 1.1 reads 010 in base 8; write the number without"),
        ("a: 08", "a.yaml:1:4: a: YAML 1.1 reads 08 in base 8; write the number without the lead"),
        (
            "a: On",
            "a.yaml:1:4: a: YAML 1.1 reads On as true or false; write true or false",
        ),
        ("no: 1", "a.yaml:1:1: YAML 1.1 reads no as true or false"),
        ("a: 0x1F", "a.yaml:1:4: a: write 0x1F as a decimal number, or '0x1F' for the word"),
        ("a: 0b11", "a.yaml:1:4: a: write 0b11 as a decimal number"),
        ("a: 1_000", "a.yaml:1:4: a: write 1_000 without underscores, or '1_000' for the word"),
        ("a: 1_0.5", "a.yaml:1:4: a: write 1_0.5 without underscores"),
    ],
)
def test_words_that_yaml_1_1_reads_otherwise_are_refused(text: str, line: str):
    assert mistake_in(text).startswith(line)


@pytest.mark.parametrize("word", ["yes", "on", "1:30", "010", "1_000", "0x10", "2024-01-01"])
def test_words_in_quotes_stay_words_and_are_written_so_that_they_do(word: str):
    assert parse_yaml(f"a: '{word}'", "")["a"] == word
    assert parse_yaml(write_yaml({"a": word, word: 1}), "") == {"a": word, word: 1}


def test_a_date_is_a_word():
    assert parse_yaml("a: 2024-13-45\nb: 2024-01-01", "") == {"a": "2024-13-45", "b": "2024-01-01"}


def test_aliases_that_grow_without_end_are_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert mistake_in("\n".join(lines)) == (
        "a.yaml:5:5: a4: grows to more than 100,000 values by its aliases"
    )
    merged = ["a0: &a0 {x: 1}"]
    merged += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 30)]
    assert "grows to more than" in mistake_in("\n".join(merged))
    assert mistake_in("a: &a {b: [1, *a]}") == "a.yaml:1:15: a.b[1]: contains itself"


def test_what_is_no_text_is_refused():
    assert mistake_in('a: {b: "\\ud83d"}') == (
        "a.yaml:1:8: a.b: holds half of a surrogate pair, no character"
    )
    assert mistake_in('"a\\nb": 1') == "a.yaml:1:1: a key must be a word, not 'a\\nb'"
    for tag in ("binary aGk=", "set {a}", "omap [a: 1]", "timestamp 2024-01-01"):
        assert "could not determine a constructor" in mistake_in(f"a: !!{tag}")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n" * 100_000)
    with pytest.raises(UserError, match=r"has 500,000 bytes, too many for a file"):
        read_yaml_mapping(path)


def test_long_words_are_cut():
    line = mistake_in(f"{'x' * 5000}: 1\n? {'x' * 5000}\n: 2")
    assert len(line) < 200
    assert did_you_mean("x" * 100_000, ["trials"]) == ""
