"""``make bench``: measure the whole job of a request, from the start to the last email.

A partner requests an account, the customer gets an email and accepts, and the last email is sent.
The product is compared with floors, which do less, and with a peer, which does the same without
Temporal. All programs share this machine, so only ratios within one run mean anything.
"""

import random
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.judge import reason_not_to_judge
from benchmarks.plot import plot
from benchmarks.report import as_json, table
from benchmarks.servers import postgresql, run
from benchmarks.variants import VARIANTS, Round, measure

NOT_JUDGED = 4


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each variant.")] = 3,
    requests: Annotated[int, typer.Option(min=1, help="Requests in each round.")] = 160,
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before each round.")] = 32,
    seed: Annotated[int | None, typer.Option(help="Repeats the order of the variants.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a picture (SVG).")] = None,
) -> None:
    """Measure the whole job: the product, two floors and a peer, in shuffled order."""
    order = random.Random(seed)  # noqa: S311 - it only shuffles
    measured = run(measure_all(rounds, requests, warm_up, order))
    print(table(measured), file=sys.stderr if json else sys.stdout)
    if json:
        print(as_json(measured, requests))
    if picture:
        picture.write_text(plot(measured))
    if reason_not_to_judge(measured):
        raise typer.Exit(NOT_JUDGED)


async def measure_all(
    rounds: int, requests: int, warm_up: int, order: random.Random
) -> list[Round]:
    measured: list[Round] = []
    async with postgresql() as postgres:
        for number in range(1, rounds + 1):
            # In a new order each time, so that no variant always has the same neighbours.
            for variant in order.sample(VARIANTS, len(VARIANTS)):
                found = await measure(variant, postgres, requests, warm_up)
                measured.append(found)
                speed = f"{found.requests_per_second:.1f} requests/s"
                progress = f"round {number} of {rounds}: {variant.name} {speed}"
                print(progress, file=sys.stderr, flush=True)
    return measured


if __name__ == "__main__":
    typer.run(main)
