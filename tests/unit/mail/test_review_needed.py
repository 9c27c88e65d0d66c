"""The email that tells the operators which requests wait for a review."""

from dataclasses import replace

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.store.records import StoredRequest
from tests.support.emails import REQUEST, Page, ReceivedEmail, both_parts, composer, receive

OPERATORS = "operators@service.example"
ODD = "The customer's address is not at the account's domain."
IN_REVIEW = replace(REQUEST, status=Status.IN_REVIEW, needs_attention=(ODD,), needs_review=True)
OTHER = replace(IN_REVIEW, account_name="Evil <b>www.evil.example</b>", account_domain="b.example")


def compose(*requests: StoredRequest) -> ReceivedEmail:
    return receive(composer().compose_review_needed("the-run-id", requests, to=OPERATORS))


@pytest.mark.parametrize(
    ("requests", "subject"),
    [
        ((IN_REVIEW,), "A request waits for your review"),
        ((IN_REVIEW, OTHER), "2 requests wait for your review"),
    ],
)
def test_subject_counts_the_requests(requests: tuple[StoredRequest, ...], subject: str) -> None:
    message = compose(*requests).message
    assert (message["Subject"], message["To"]) == (subject, OPERATORS)
    assert message["X-Smart-Account-Mail"] == "review-needed"
    assert message["Message-ID"] == "<the-run-id.review-needed@accounts.example>"


def test_each_request_is_listed_with_its_reasons() -> None:
    for part in both_parts(compose(IN_REVIEW, OTHER)):
        for words in ("acme.example", "b.example", ODD, "Pat Lee of Partner Ltd"):
            assert words in part
        assert "Lapses on 2026-09-10 14:05 UTC" in part


def test_company_that_the_requester_stated_is_marked() -> None:
    for is_stated in (True, False):
        for part in both_parts(compose(replace(IN_REVIEW, company_is_stated=is_stated))):
            assert ("(as stated by the requester, pat@" in " ".join(part.split())) is is_stated


def test_written_text_is_neither_markup_nor_a_link() -> None:
    page = Page(compose(OTHER).html)
    assert "b" not in page.tags
    assert "www.evil.example" not in page.text
    ours = {"https://accounts.example/requests?status=in_review", "https://help.example/ask"}
    assert page.links == ours
