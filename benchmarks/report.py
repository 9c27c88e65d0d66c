"""What ``make bench`` prints about the whole job: a table, or JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.judge import BARS, Spread, of, reason_not_to_judge, usual
from benchmarks.load import IN_FLIGHT
from benchmarks.variants import VARIANTS, Round

PROCESSES = ("server", "worker", "database", "sink")


def table(rounds: Sequence[Round]) -> str:
    """Return the result as Markdown. Each value is the median of the rounds, with its range."""
    lines = [
        "| variant | requests/s | CPU ms per request | " + " | ".join(PROCESSES) + " |"
        " accept p50 ms | accept p99 ms | events | Actions |",
        "|" + " --- |" * (7 + len(PROCESSES)),
    ]
    lines += [f"| {' | '.join(_cells(of(rounds, each.name)))} |" for each in VARIANTS]
    return "\n".join([*lines, "", *_judgement(rounds)])


def _cells(own: Sequence[Round]) -> list[str]:
    return [
        own[0].variant,
        Spread.of(each.requests_per_second for each in own).show(1),
        Spread.of(each.cpu_total for each in own).show(0),
        *(
            f"{Spread.of(each.cpu[name] for each in own).median:.0f}" if name in own[0].cpu else ""
            for name in PROCESSES
        ),
        Spread.of(each.accept_p50 for each in own).show(0),
        Spread.of(each.accept_p99 for each in own).show(0),
        _numbers(each.events for each in own),
        _numbers(each.actions for each in own),
    ]


def _numbers(counted: Iterable[Mapping[int, int]]) -> str:
    """Return the usual number, and how many requests had another one."""
    total: Counter[int] = sum(map(Counter, counted), Counter())
    if not total:
        return ""
    others = total.total() - total[usual(total)]
    return f"{usual(total)}" + (f" ({others} of {total.total()} differ)" if others else "")


def _judgement(rounds: Sequence[Round]) -> list[str]:
    if reason := reason_not_to_judge(rounds):
        return [f"Not judged. {reason}"]
    lines = ["| compared within each round | median (range) | bar | |", "| --- | --- | --- | --- |"]
    for bar in BARS:
        found = bar.pairs(rounds)
        verdict = "reached" if bar.is_reached(found.median) else "NOT REACHED"
        lines.append(f"| {bar.name} | {found.show(2)} | {bar.condition} | {verdict} |")
    return lines


def as_json(rounds: Sequence[Round], requests: int) -> str:
    reason = reason_not_to_judge(rounds)
    result: dict[str, Any] = {
        "requests_per_round": requests,
        "in_flight": IN_FLIGHT,
        "rounds": [asdict(each) for each in rounds],
        "not_judged": reason,
        "compared": {} if reason else {bar.name: _compared(bar.pairs(rounds)) for bar in BARS},
    }
    return json.dumps(result, indent=2, ensure_ascii=False)


def _compared(found: Spread) -> dict[str, float]:
    return asdict(found)
