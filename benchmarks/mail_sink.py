"""A mail server that takes every email and writes the ``Message-ID`` of each into a file.

Usage: ``python -m benchmarks.mail_sink PORT FILE``
"""

import asyncio
import re
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import TextIO

MAX_EMAIL = 2**20
MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


async def serve(port: int, file: Path) -> None:
    with file.open("a", buffering=1) as received:

        async def converse(reader: StreamReader, writer: StreamWriter) -> None:
            await _converse(reader, writer, received)

        server = await asyncio.start_server(converse, "127.0.0.1", port, limit=MAX_EMAIL)
        print("ready", flush=True)
        async with server:
            await server.serve_forever()


async def _converse(reader: StreamReader, writer: StreamWriter, received: TextIO) -> None:
    writer.write(b"220 sink\r\n")
    while command := (await reader.readline()).strip().upper():
        if command == b"DATA":
            writer.write(b"354 go on\r\n")
            email = await reader.readuntil(b"\r\n.\r\n")
            found = MESSAGE_ID.search(email)
            assert found
            received.write(found[1].decode() + "\n")
        if command == b"QUIT":
            writer.write(b"221 bye\r\n")
            break
        writer.write(b"250 ok\r\n")
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
