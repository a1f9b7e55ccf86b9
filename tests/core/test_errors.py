"""What an error about an option says."""

import pickle
from pathlib import Path

import pytest

from precomp_sdk import OptionError
from precomp_sdk.errors import file_trouble, reason_of


@pytest.mark.parametrize(
    ("choices", "got", "message"),
    [
        (["a", "bee"], "be", "it, option 'x': expected 'a' or 'bee'; got 'be'. Did you mean 'bee'?"),
        (["a", "b", "c"], "zzz", "it, option 'x': expected 'a', 'b' or 'c'; got 'zzz'. Choose one of them."),
        (["only"], None, "it, option 'x': expected 'only'; got None. Choose one of them."),
        ([1, 2, 4], 3, "it, option 'x': expected 1, 2 or 4; got 3. Did you mean 2 or 4?"),
        ([1, 2, 4], 100.5, "it, option 'x': expected 1, 2 or 4; got 100.5. Did you mean 4?"),
        ([0, 1], "0", "it, option 'x': expected 0 or 1; got '0'. Write it without quotes."),
        ([0, 1], "7", "it, option 'x': expected 0 or 1; got '7'. Choose one of them."),
        ([True, False], 3, "it, option 'x': expected True or False; got 3. Choose one of them."),
    ],
)
def test_a_wrong_choice_names_the_nearest(choices, got, message):
    assert str(OptionError.choice("it", "x", choices, got)) == message


def test_a_wrong_number_names_the_range():
    assert str(OptionError.number("it", "x", "1 or more", -1)) == (
        "it, option 'x': expected 1 or more; got -1. Set it to 1 or more, or leave it out for its default."
    )
    assert str(OptionError.number("", "x", "1 or more", "0.5")) == (
        "option 'x': expected 1 or more; got '0.5', which is text. Write it without quotes."
    )
    assert "got 'many'. Set it" in str(OptionError.number("it", "x", "1 or more", "many"))


def test_a_long_value_is_cut():
    message = str(OptionError.number("it", "x", "1 or more", list(range(1000))))
    assert "[0, 1, 2," in message
    assert len(message) < 250


def test_the_errors_travel_between_processes():
    error = OptionError.choice("it", "x", [1, 2], 3)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            FileNotFoundError(2, "none", "x\n.png"),
            "'x\\n.png': expected a file or folder that exists",
        ),
        (NotADirectoryError(20, "Not a directory", Path("a/b")), "'a/b': expected a folder wherever the path goes on"),
        (
            OSError(28, "full", "a", None, "b"),
            "'a' and 'b': expected room on the disk; got a full disk",
        ),
        (OSError(12345, "odd \x1b"), "a file: expected to read or write it; got odd \\x1b."),
        (OSError("only words"), "a file: expected to read or write it; got only words."),
    ],
)
def test_an_error_of_the_system_is_a_sentence(error, sentence):
    assert file_trouble(error).startswith(sentence)
    assert "Errno" not in file_trouble(error)


def test_what_others_raise_is_one_line():
    assert reason_of(PermissionError(13, "Permission denied", "x")) == "Permission denied"
    assert reason_of(ValueError("a\n b\x1b")) == "ValueError: a b\\x1b"
    assert reason_of(ValueError()) == "ValueError"
