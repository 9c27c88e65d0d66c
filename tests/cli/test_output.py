"""Text from outside on a terminal."""

from smart_accounts.cli.output import text


def test_control_characters_are_replaced_and_direction_marks_are_kept() -> None:
    assert text("\u200fכהנא\x1b[1m").plain == "\u200fכהנא\ufffd[1m"
