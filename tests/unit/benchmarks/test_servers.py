import asyncio
import subprocess
import sys
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib

from benchmarks.mail_sink import serve
from benchmarks.servers import MailSink, cpu_seconds
from tests.support.ports import find_free_port

PARENT = """
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-S", "-c", burn])
print("ended", flush=True)
sys.stdin.read()
"""


def test_cpu_time_of_a_child_that_has_ended_counts() -> None:
    command = [sys.executable, "-S", "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        parent.stdout.readline()
        assert cpu_seconds(parent.pid) >= 0.3


async def test_each_email_must_arrive_exactly_once(tmp_path: Path) -> None:
    port, file = find_free_port(), tmp_path / "emails.txt"
    serving = asyncio.create_task(serve(port, file))
    sink = MailSink(0, port, file)
    while True:
        with suppress(aiosmtplib.SMTPConnectError):
            async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as connection:
                await connection.send_message(email("<1.activation@a.example>"))
                waiting = asyncio.create_task(sink.until_arrived("1", 2))
                await asyncio.sleep(0)
                assert not waiting.done()
                await connection.send_message(email("<1.request-received@a.example>"))
                await waiting
                assert sink.problem(2) is None
                assert sink.problem(3) == "2 emails instead of 3, and 0 more copies of them"
                await connection.send_message(email("<1.activation@a.example>"))
                assert sink.problem(2) == "2 emails instead of 2, and 1 more copies of them"
                break
        await asyncio.sleep(0.01)
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


def email(id_: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "a@a.example", "b@b.example"
    message["Message-ID"] = id_
    message.set_content("Hello")
    return message
