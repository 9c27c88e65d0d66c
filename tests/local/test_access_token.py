"""``make token``, and what the API of ``make run`` makes of the local provider's tokens."""

import asyncio
import json
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import httpx
import pytest

from smart_accounts.local.access_token import access_token
from smart_accounts.local.configuration import ROOT, free_ports, make_plan

pytestmark = pytest.mark.server

DOCUMENT = (ROOT / "docs/api.md").read_text()
LISTED = (
    'curl -sS "$api/smart-account-acme.example" -H "Authorization: Bearer $TOKEN" | grep -q pending'
)
BACK = "http://127.0.0.1/"
# The environment is there already, whatever its age: here it is that of the tests.
MAKE = ("make", "--old-file=.venv/.ready", f"BIN={Path(sys.executable).parent}", "--silent")


def block(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found
    return found.group(1)


async def run(*command: str | Path, cwd: Path = ROOT, **values: str) -> tuple[int, str, str]:
    """Run to the end with none of our settings; return exit status, output and errors."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "SMART_"))}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=clean | values, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def token(home: Path, *person: str, **values: str) -> tuple[int, str, str]:
    command = (sys.executable, "-m", "smart_accounts.local", "token", *person)
    return await run(*command, cwd=home, **values)


def bearer(printed: str) -> dict[str, str]:
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", printed)
    return {"Authorization": f"Bearer {printed}"}


async def test_the_document_s_lines_work_as_they_stand(stack: Any) -> None:
    script = (block("token") + block("api")).replace("make --silent", shlex.join(MAKE))
    script = script.replace("http://127.0.0.1:8000", stack.url("WEB_PORT"))
    # A person pauses between the lines, and the worker stores the request.
    script = script.replace("curl -sS", "curl -sS -w '\\n'")
    listing = "curl -sS -w '\\n' \"$api?"
    assert listing in script
    script = script.replace(listing, f"until {LISTED}; do sleep 0.2; done; {listing}")
    status, out, err = await run(
        "bash", "-euc", script, OIDC_PORT=str(stack.ports["OIDC_PORT"]), MAKELEVEL="1"
    )
    assert (status, err) == (0, "")
    made, listed, shown, withdrawn = map(json.loads, out.splitlines())
    assert made["account_domain"] == "acme.example"
    assert listed["items"][0]["request_id"] == made["request_id"]
    assert shown["status"] == "pending"
    assert (withdrawn["request_id"], withdrawn["status"]) == (made["request_id"], "withdrawn")


async def test_each_person_is_who_they_are(stack: Any, tmp_path: Path) -> None:
    at_the_stack = {"OIDC_PORT": str(stack.ports["OIDC_PORT"])}
    plan = make_plan(tmp_path, at_the_stack)
    pat, kim, oda = [
        bearer(await access_token(plan, name)) for name in ("Pat Lee", "Kim Roy", "Oda Ray")
    ]
    status, printed, err = await token(tmp_path, **at_the_stack)
    assert (status, err) == (0, "")
    nobody_named = bearer(printed.removesuffix("\n"))
    url = f"{stack.url('WEB_PORT')}/api/v1/requests"
    request = {"account_name": "Quay Traders", "customer_email": "ada@quay.example"}
    async with httpx.AsyncClient() as http:
        made = await http.post(url, json=request, headers=kim)
        assert made.status_code == 201
        one = f"{url}/smart-account-quay.example"
        everyone = (pat, nobody_named, kim, oda)
        seen = [(await http.get(one, headers=each)).status_code for each in everyone]
        assert seen == [404, 404, 200, 200]


async def test_what_the_pages_get_from_the_provider_does_not_open_the_api(stack: Any) -> None:
    provider = f"{stack.url('OIDC_PORT')}/oauth2"
    asked = {
        "response_type": "code",
        "client_id": "smart-accounts",
        "redirect_uri": BACK,
        "scope": "openid email profile smart-accounts",
    }
    async with httpx.AsyncClient() as http:
        back = await http.post(f"{provider}/authorize", params=asked, data={"sub": "Pat Lee"})
        assert back.next_request
        form = {
            "grant_type": "authorization_code",
            "code": back.next_request.url.params["code"],
            "redirect_uri": BACK,
        }
        auth = ("smart-accounts", "any")
        tokens = (await http.post(f"{provider}/token", data=form, auth=auth)).json()
        for name in ("id_token", "access_token"):
            answer = await http.get(
                f"{stack.url('WEB_PORT')}/api/v1/requests",
                headers={"Authorization": f"Bearer {tokens[name]}"},
            )
            assert answer.status_code == 403
            assert answer.json()["detail"] == "The token lacks the scope smart-accounts."


async def test_somebody_unknown_gets_no_token(tmp_path: Path) -> None:
    status, out, err = await token(tmp_path, "Eve")
    assert (status, out) == (2, "")
    assert err == "nobody here is called 'Eve', only Pat Lee, Kim Roy, Oda Ray\n"


async def test_make_hands_the_person_over_whole() -> None:
    status, out, err = await run(*MAKE, "token", "PERSON=Eve O'Neil")
    assert (status, out) == (2, "")  # make's own status
    assert err.startswith('nobody here is called "Eve O\'Neil", only Pat Lee')


async def test_too_many_words_are_told_how_to_use_it(tmp_path: Path) -> None:
    status, out, err = await token(tmp_path, "Kim", "Roy")
    assert (status, out) == (2, "")
    assert err == "usage: python -m smart_accounts.local run|demo|token [PERSON]\n"


def away(port: int) -> str:
    return (
        f"no identity provider answers at http://127.0.0.1:{port}: "
        "make run starts it, OIDC_PORT says where\n"
    )


async def test_without_a_provider_there_is_one_line(tmp_path: Path) -> None:
    port = free_ports()["OIDC_PORT"]
    assert await token(tmp_path, OIDC_PORT=str(port)) == (3, "", away(port))


@pytest.mark.parametrize(
    "answer", ["404 Not Found\r\n\r\n", "200 OK\r\n\r\n[]", "302 Found\r\n\r\n"]
)
async def test_something_else_in_its_place_is_none(tmp_path: Path, answer: str) -> None:
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.0 {answer}".encode())
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await token(tmp_path, OIDC_PORT=str(port)) == (3, "", away(port))


async def test_another_provider_is_not_asked(tmp_path: Path) -> None:
    issuer = {"SMART_ACCOUNTS_OIDC_ISSUER": "https://login.example"}
    status, out, err = await token(tmp_path, **issuer)
    assert (status, out) == (3, "")
    assert err == "the identity provider is not the local one: get a token from yours\n"
