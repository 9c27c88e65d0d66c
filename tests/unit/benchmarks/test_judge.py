import json
from dataclasses import replace
from itertools import product
from xml.etree import ElementTree as ET

import pytest

from benchmarks.judge import BARS, reason_not_to_judge
from benchmarks.load import percentile
from benchmarks.plot import plot
from benchmarks.report import as_json, table
from benchmarks.variants import VARIANTS, Round

SPEEDS = {
    "floor-wait": 10.0,
    "floor-shape": 9.0,
    "product-postgresql": 8.0,
    "product-sqlite": 7.0,
    "dbos": 5.0,
}
MACHINE = (1.0, 1.2, 0.9)
"""How fast the machine is in each round."""


def rounds() -> list[Round]:
    return [
        Round(
            variant=variant.name,
            requests_per_second=SPEEDS[variant.name] * speed,
            cpu={"worker": 40.0 if variant.emails else 10.0},
            accept_p50=500.0,
            accept_p99=900.0,
            events={16: 40} if variant.name.startswith("product") else {},
            actions={6: 40} if variant.name.startswith("product") else {},
        )
        for speed, variant in product(MACHINE, VARIANTS)
    ]


def test_ratios_are_of_the_same_round() -> None:
    throughput = BARS[0].pairs(rounds())
    # The machine's speed changes by a third, and the ratio by nothing.
    assert (throughput.median, throughput.low, throughput.high) == pytest.approx((1.6, 1.6, 1.6))


def test_each_bar_is_judged() -> None:
    printed = table(rounds())
    assert printed.count("| reached |") == len(BARS)
    worse = [
        replace(each, events={16: 1, 19: 39}) if each.variant == "product-postgresql" else each
        for each in rounds()
    ]
    assert "| 19.00 (19.00 to 19.00) | ≤ 16 | NOT REACHED |" in table(worse)
    assert "| 19 (3 of 120 differ) | 6 |" in table(worse)


@pytest.mark.parametrize("floor", ["floor-wait", "floor-shape"])
def test_rounds_of_an_unsteady_machine_are_not_judged(floor: str) -> None:
    unsteady = rounds()
    at = next(n for n, each in enumerate(unsteady) if each.variant == floor)
    unsteady[at] = replace(unsteady[at], requests_per_second=SPEEDS[floor] * 0.7)
    printed = table(unsteady)
    assert f"Not judged. The fastest round of {floor} is 1.71 times as fast" in printed
    assert "reached" not in printed.lower()
    assert json.loads(as_json(unsteady, 160))["compared"] == {}


def test_two_rounds_are_not_judged() -> None:
    assert reason_not_to_judge(rounds()) is None
    assert "only 2 rounds" in (reason_not_to_judge(rounds()[: 2 * len(VARIANTS)]) or "")


def test_picture_is_svg_and_names_each_variant() -> None:
    picture = ET.fromstring(plot(rounds()))
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert texts >= {variant.name for variant in VARIANTS}


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 201)]
    assert percentile(values, 0.5) == 100
    assert percentile(values, 0.99) == 198
    assert percentile([7.0], 0.99) == 7
