"""Links: the same again, unlike any other, dead with their key."""

import pytest

from smart_accounts.tokens import LinkTokens, token_hash

OLD, NEW = "old-key-of-at-least-thirty-two-characters", "new-key-of-at-least-thirty-two-characters"


def test_link_is_the_same_again_and_unlike_any_other() -> None:
    tokens = LinkTokens([NEW])
    assert tokens.candidates("one", 1) == tokens.candidates("one", 1)
    others = {LinkTokens([key]).candidates(*which)[0] for key, which in OTHERS}
    assert len(others) == len(OTHERS)


OTHERS = [(NEW, ("one", 1)), (NEW, ("one", 2)), (NEW, ("two", 1)), (OLD, ("one", 1))]


@pytest.mark.parametrize(("keys", "genuine"), [([OLD], True), ([NEW, OLD], True), ([NEW], False)])
def test_rotation(keys: list[str], genuine: bool) -> None:
    token = LinkTokens([OLD]).candidates("one", 1)[0]
    assert LinkTokens(keys).is_genuine(token, "one", 1) is genuine
    assert not LinkTokens(keys).is_genuine(token, "one", 2)


def test_hash_is_not_the_token() -> None:
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
