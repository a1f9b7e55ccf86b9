"""What strangers write is shown escaped."""

import pytest

from precomp_sdk import ConformanceError, DatasetError
from precomp_sdk.errors import printable

HOSTILE = ["\x1b[2J", "\x9b31m", "a\nb", "a\rb", "\u2028", "\u202e", "\u200b", "\x07", "\udcff", "\ufeff", "\ue000"]


@pytest.mark.parametrize("text", HOSTILE)
def test_controls_and_line_ends_are_escaped(text):
    shown = printable(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape") == text  # nothing is lost
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["", "plain", "caf\u00e9", "\u65e5\u672c", "a\u00a0b", "\\x1b", "\U0001f600"])
def test_what_shows_as_itself_stays(text):
    assert printable(text) == text


def test_lines_of_our_own_are_kept():
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_is_one_line_whatever_it_quotes(text):
    message = str(DatasetError(where=f"file {text}", expected=text, got=text, remedy=text))
    assert message.isprintable()
    assert printable(text) in message


def test_an_error_keeps_what_it_quotes():
    assert DatasetError(where="a\nb", expected="x", got="y", remedy="z").where == "a\nb"


def test_a_report_of_promises_keeps_its_lines():
    message = str(ConformanceError(where="kit", expected="none", got="2 failures:\n  C1\x1b\n  C2", remedy="Mend."))
    assert message.splitlines() == ["kit: expected none; got 2 failures:", "  C1\\x1b", "  C2. Mend."]
