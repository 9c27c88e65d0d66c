"""Each rule of ``defang``, and the ordinary text that it leaves unchanged."""

import re

import pytest

from smart_accounts.mail.defang import RULES, defang

CASES = [
    ("dot in a domain", "evil.example/x", "evil[.]example/x"),
    ("dot in a domain", "a.b.co.uk", "a.b[.]co[.]uk"),
    ("dot in a domain", "Booking.com Ltd", "Booking[.]com Ltd"),
    ("dot in a domain", "evil.com-now", "evil[.]com-now"),
    ("dot in a domain", "evil.com_now", "evil[.]com_now"),
    ("dot in a domain", "evil.comを見て", "evil[.]comを見て"),
    ("dot in a domain", "evil.COM", "evil[.]COM"),
    ("dot in a domain", "Co.kg", "Co[.]kg"),
    ("dot in a domain", "x.Co.KG", "x[.]Co[.]KG"),
    ("dot in a domain", "Co.KG/x", "Co[.]KG/x"),
    ("dot in a domain", "例え.テスト", "例え[.]テスト"),
    ("dot in a domain", "i❤.ws", "i❤[.]ws"),
    ("dot in a domain", "evil.рф", "evil[.]рф"),
    ("dot in a domain", "शिक्षा.भारत", "शिक्षा[.]भारत"),
    ("dot in a domain", "xn--e1a.xn--p1ai", "xn--e1a[.]xn--p1ai"),
    ("dot in a domain", "evil\u2024example", "evil[\u2024]example"),
    ("dot in a domain", "evil\ufe52example", "evil[\ufe52]example"),
    ("dot in a domain", "evil.\u200dexample", "evil[.]\u200dexample"),
    ("dot in a domain", "evil.\u200f\u200eexample", "evil[.]\u200f\u200eexample"),
    ("dot in a domain", "evil.or\u200dg", "evil[.]or\u200dg"),
    ("dot in a domain", "evil.\u200eorg", "evil[.]\u200eorg"),
    ("dot in a domain", "evil.or\uff47", "evil[.]or\uff47"),
    ("dot in a domain", "evil.\u017fe", "evil[.]\u017fe"),
    ("dot in a domain", "evil.web.za", "evil[.]web[.]za"),
    ("ideographic dot after Latin", "evil。example", "evil[。]example"),
    ("ideographic dot after Latin", "evil｡example", "evil[｡]example"),
    ("ideographic dot after Latin", "evil\uff0eexample/x", "evil[\uff0e]example/x"),
    ("ideographic dot after Latin", "evil。рф", "evil[。]рф"),
    ("ideographic dot before Latin", "例え。com", "例え[。]com"),
    ("dot after www or ftp", "www.3com", "www[.]3com"),
    ("dot after www or ftp", "FTP.3com", "FTP[.]3com"),
    ("IPv4 address", "10.0.0.1/admin", "10[.]0[.]0[.]1/admin"),
    ("IPv4 address", "http://10.0.0.1/x", "http[:]//10[.]0[.]0[.]1/x"),
    ("colon before two slashes", "https://evil.example/x", "https[:]//evil[.]example/x"),
    ("colon before two slashes", "HTTP://EVIL", "HTTP[:]//EVIL"),
    ("colon before two slashes", "file:///etc", "file[:]///etc"),
    ("colon before two slashes", "http:\\\\evil", "http[:][\\]\\evil"),
    ("colon before two slashes", "https\uff1a//evil", "https[\uff1a]//evil"),
    ("colon after a scheme", "mailto:eve@evil.example", "mailto[:]eve[@]evil[.]example"),
    ("colon after a scheme", "tel:+4912345", "tel[:]+4912345"),
    ("colon after a scheme", "SMS:12345", "SMS[:]12345"),
    ("colon after a scheme", "callto:eve", "callto[:]eve"),
    ("colon after a scheme", "skype:eve", "skype[:]eve"),
    ("colon after a scheme", "news:eve", "news[:]eve"),
    ("two backslashes", "\\\\server\\share", "[\\]\\server\\share"),
    ("at sign in an address", "eve@localhost", "eve[@]localhost"),
    ("at sign in an address", "ada\uff20evil.example", "ada[\uff20]evil[.]example"),
    ("encoded word", "=?utf-8?q?hi?=", "=[?]utf-8?q?hi?="),
]


@pytest.mark.parametrize(("rule", "text", "defanged"), CASES)
def test_links_are_broken(rule: str, text: str, defanged: str) -> None:
    assert defang(text) == defanged
    pattern = {each.name: each.pattern for each in RULES}[rule]
    assert re.search(pattern, text, re.IGNORECASE)


def test_each_rule_has_a_case() -> None:
    assert {rule for rule, _, _ in CASES} == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    "text",
    [
        "3.5 and 1,024.75",
        "e.g. this, i.e. that",
        "The end. Next one: yes/no?",
        "At 14:05 on 25.11.2026, version 1.2.3",
        "Section 1.2.3.4.5",
        "wait...what",
        "St. Gallen & Co. KG, Dr. J. R. Smith Ph.D.",
        "次の文です。日本語のメモ。",
        "and/or @ 5 EUR",
        "Note: see below, Kund:innen, C:\\temp",
        "Tel: 12345, hotel:bar",
        "Dr.Oetker GmbH & Co.KG, St.Gallen",
        "Dr.Oetker\u2019s soup, Dr.Oetker\u2013Bielefeld",
        "Müller & Co.KG.",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert defang(text) == text
