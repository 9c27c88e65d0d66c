"""Only private networks can be opened to webhooks."""

import pytest
from pydantic import ValidationError

from tests.support.web_settings import web_settings

PUBLIC = "https://accounts.example"
WRONG = (
    "10.1.2.3/16 10.1 inside 0.0.0.0/0 ::/0 8.8.8.0/24 10.0.0.0/7 127.0.0.0/8 169.254.0.0/16"
    " fe80::/10 10.1.0.0/16,169.254.169.254 ::ffff:10.1.0.0/112"
)


@pytest.mark.parametrize("value", WRONG.split())
def test_wrong_networks(value: str) -> None:
    with pytest.raises(ValidationError, match=r"must be (networks, such as|inside) ") as error:
        web_settings(PUBLIC, webhook_allowed_networks=value)
    assert error.value.error_count() == 1


def test_private_networks() -> None:
    assert web_settings(PUBLIC).webhook_allowed_networks == ()
    for value, networks in {
        "": [],
        " 10.1.0.0/16, fd00:7::/32,192.168.7.7,": ["10.1.0.0/16", "fd00:7::/32", "192.168.7.7/32"],
    }.items():
        settings = web_settings(PUBLIC, webhook_allowed_networks=value)
        assert list(map(str, settings.webhook_allowed_networks)) == networks
