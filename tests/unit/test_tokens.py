"""Link tokens: always the same for one link, different for any other, and tied to their key."""

import pytest

from smart_accounts.tokens import LinkTokens, token_hash
from tests.support.keys import NEW_KEY, OLD_KEY

LINKS = [(NEW_KEY, "one", 1), (NEW_KEY, "one", 2), (NEW_KEY, "two", 1), (OLD_KEY, "one", 1)]


def test_token_is_the_same_each_time_and_different_for_each_link() -> None:
    tokens = LinkTokens([NEW_KEY])
    assert tokens.candidates("one", 1) == tokens.candidates("one", 1)
    derived = {LinkTokens([key]).candidates(id_, ordinal)[0] for key, id_, ordinal in LINKS}
    assert len(derived) == len(LINKS)


@pytest.mark.parametrize(
    ("keys", "is_genuine"),
    [([OLD_KEY], True), ([NEW_KEY, OLD_KEY], True), ([NEW_KEY], False)],
)
def test_token_works_until_its_key_is_removed(keys: list[str], is_genuine: bool) -> None:
    token = LinkTokens([OLD_KEY]).candidates("one", 1)[0]
    assert LinkTokens(keys).is_genuine(token, "one", 1) is is_genuine
    assert not LinkTokens(keys).is_genuine(token, "one", 2)


def test_hash_is_not_the_token() -> None:
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
