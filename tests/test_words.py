"""What strangers wrote commands no terminal."""

from __future__ import annotations

import pytest

from scratchcard.words import one_line, printable, unknown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ümlauts, 数字 and 🏳️‍🌈", "plain text, ümlauts, 数字 and 🏳️‍🌈"),
        ("two\n\tlines", "two\n\tlines"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("good\rbad", r"good\rbad"),
        ("back\x08space\x7f", r"back\x08space\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("user\u202etxt.exe\u2066", r"user\u202etxt.exe\u2066"),
        ("\u200f\ufeff\u2028", r"\u200f\ufeff\u2028"),
        ("half \ud800", r"half \ud800"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_what_could_command_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_a_sentence_is_one_line_of_bounded_length() -> None:
    assert one_line("one\n two\r\n\x1b three") == r"one two \x1b three"
    assert len(one_line("x" * 10**6)) < 4100


def test_a_name_of_any_kind_can_be_unknown() -> None:
    assert unknown("arm", 3, ["fresh-init"]) == "unknown arm 3; known: fresh-init"
    assert "did you mean 'fresh-init'" in unknown("arm", "fresh_init", ["fresh-init"])
