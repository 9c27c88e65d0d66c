"""``make token``, and what the API of the local stack does with the provider's tokens."""

import asyncio
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from smart_accounts.local.__main__ import main
from smart_accounts.local.access_token import access_token
from smart_accounts.local.configuration import ROOT, configure
from tests.support.api import REQUESTS, create_request
from tests.support.local_stack import STACK_COMMAND, RunningStack, new_environment, run
from tests.support.ports import stack_ports

pytestmark = pytest.mark.server

DOCUMENT = (ROOT / "docs/api.md").read_text()
SHOWS_PENDING = (
    'curl -sS "$api/smart-account-acme.example" -H "Authorization: Bearer $TOKEN" | grep -q pending'
)
REDIRECT_URI = "http://127.0.0.1/"
# Use the environment of the tests, and do not install it again even if .venv/.ready is old.
MAKE = ("make", "--old-file=.venv/.ready", f"BIN={Path(sys.executable).parent}", "--silent")


def block(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found
    return found.group(1)


class Token(Protocol):
    """Runs the command ``token`` in this process, because a new one takes two seconds."""

    async def __call__(self, *person: str, **values: str) -> tuple[int, str, str]: ...


@pytest.fixture
def token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Token:
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - new_environment().keys():
        monkeypatch.delenv(name)

    async def run_command(*person: str, **values: str) -> tuple[int, str, str]:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["local", "token", *person])
        code = await asyncio.to_thread(main)
        return code, *capsys.readouterr()

    return run_command


def authorization(printed_token: str) -> dict[str, str]:
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", printed_token)
    return {"Authorization": f"Bearer {printed_token}"}


async def test_commands_of_the_document_work(stack: RunningStack) -> None:
    script = (block("token") + block("api")).replace("make --silent", shlex.join(MAKE))
    script = script.replace("http://127.0.0.1:8000", stack.url("WEB_PORT"))
    script = script.replace("curl -sS", "curl -sS -w '\\n'")
    # A person pauses between the commands, so the worker has time to store the request.
    listing = "curl -sS -w '\\n' \"$api?"
    assert listing in script
    script = script.replace(listing, f"until {SHOWS_PENDING}; do sleep 0.2; done; {listing}")
    script = script.replace("acme.example", "granite.example")  # test_upgrade.py has the other
    status, out, err = await run(
        "bash", "-euc", script, OIDC_PORT=str(stack.ports["OIDC_PORT"]), MAKELEVEL="1"
    )
    assert (status, err) == (0, "")
    created, listed, shown, withdrawn = map(json.loads, out.splitlines())
    assert created["account_domain"] == "granite.example"
    assert listed["items"][0]["request_id"] == created["request_id"]
    assert shown["status"] == "pending"
    assert (withdrawn["request_id"], withdrawn["status"]) == (created["request_id"], "withdrawn")


async def test_token_identifies_the_person(stack: RunningStack, tmp_path: Path) -> None:
    port = {"OIDC_PORT": str(stack.ports["OIDC_PORT"])}
    configuration = configure(tmp_path, port)
    pat, kim, oda = [
        authorization(await access_token(configuration, name))
        for name in ("Pat Lee", "Kim Roy", "Oda Ray")
    ]
    status, printed, err = await run(*STACK_COMMAND, "token", cwd=tmp_path, **port)
    assert (status, err) == (0, "")
    default = authorization(printed.removesuffix("\n"))
    request = {"account_name": "Quay Traders", "customer_email": "ada@quay.example"}
    async with httpx.AsyncClient(base_url=stack.url("WEB_PORT"), headers=kim) as http:
        assert (await create_request(http, request, "quay")).status_code == 201
        path = f"{REQUESTS}/smart-account-quay.example"
        shown = [
            (await http.get(path, headers=headers)).status_code
            for headers in (pat, default, kim, oda)
        ]
        assert shown == [404, 404, 200, 200]


async def test_tokens_of_the_web_pages_are_rejected_by_the_api(stack: RunningStack) -> None:
    provider = f"{stack.url('OIDC_PORT')}/oauth2"
    authorization_request = {
        "response_type": "code",
        "client_id": "smart-accounts",
        "redirect_uri": REDIRECT_URI,
        "scope": "openid email profile smart-accounts",
    }
    async with httpx.AsyncClient() as http:
        redirect = await http.post(
            f"{provider}/authorize", params=authorization_request, data={"sub": "Pat Lee"}
        )
        assert redirect.next_request
        form = {
            "grant_type": "authorization_code",
            "code": redirect.next_request.url.params["code"],
            "redirect_uri": REDIRECT_URI,
        }
        credentials = ("smart-accounts", "any")
        tokens = (await http.post(f"{provider}/token", data=form, auth=credentials)).json()
        for name in ("id_token", "access_token"):
            response = await http.get(
                f"{stack.url('WEB_PORT')}/api/v1/requests",
                headers={"Authorization": f"Bearer {tokens[name]}"},
            )
            assert response.status_code == 403
            assert response.json()["detail"] == "The token lacks the scope smart-accounts."


async def test_unknown_person_gets_no_token(token: Token) -> None:
    status, out, err = await token("Eve")
    assert (status, out) == (2, "")
    assert err == "unknown person 'Eve'; choose one of Pat Lee, Kim Roy, Oda Ray\n"


async def test_make_quotes_the_name() -> None:
    status, out, err = await run(*MAKE, "token", "PERSON=Eve O'Neil")
    assert (status, out) == (2, "")  # make exits with 2 for every error
    assert err.startswith('unknown person "Eve O\'Neil"; choose one of Pat Lee')


async def test_too_many_arguments_show_the_usage(token: Token) -> None:
    status, out, err = await token("Kim", "Roy")
    assert (status, out) == (2, "")
    assert err == "usage: python -m smart_accounts.local run|demo|token [PERSON]\n"


def not_running(port: int) -> str:
    return (
        f"no identity provider is running at http://127.0.0.1:{port}; "
        "start it with make run, or set OIDC_PORT to its port\n"
    )


async def test_missing_provider_is_reported_in_one_line(token: Token) -> None:
    port = stack_ports()["OIDC_PORT"]
    assert await token(OIDC_PORT=str(port)) == (3, "", not_running(port))


@pytest.mark.parametrize(
    "response", ["404 Not Found\r\n\r\n", "200 OK\r\n\r\n[]", "302 Found\r\n\r\n"]
)
async def test_another_server_on_the_port_is_no_provider(token: Token, response: str) -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.0 {response}".encode())
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await token(OIDC_PORT=str(port)) == (3, "", not_running(port))


async def test_real_provider_is_not_contacted(token: Token) -> None:
    issuer = {"SMART_ACCOUNTS_OIDC_ISSUER": "https://login.example"}
    status, out, err = await token(**issuer)
    assert (status, out) == (3, "")
    assert err == "the stack uses another identity provider; get the token there\n"
