"""What the rounds say: medians, paired ratios, and whether each bar is reached."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from benchmarks.variants import (
    DBOS,
    FLOOR_SHAPE,
    FLOOR_WAIT,
    PRODUCT_POSTGRESQL,
    PRODUCT_SQLITE,
    Round,
)

MOST_SPREAD = 1.5
"""How much the rounds of a floor may differ. More means that the machine was too unsteady."""
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        known = list(values)
        return cls(median(known), min(known), max(known))

    def show(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Bar:
    """A value that the rounds of two variants must reach."""

    name: str
    first: str
    second: str
    compare: Callable[[Round, Round], float]
    least: float | None = None
    most: float | None = None

    def pairs(self, rounds: Sequence[Round]) -> Spread:
        """Compare the two variants within each round, because the machine's speed changes."""
        pairs = zip(of(rounds, self.first), of(rounds, self.second), strict=True)
        return Spread.of(self.compare(first, second) for first, second in pairs)

    def is_reached(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    @property
    def condition(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


def _throughput(first: Round, second: Round) -> float:
    return first.requests_per_second / second.requests_per_second


def _cpu(first: Round, second: Round) -> float:
    return first.cpu_total / second.cpu_total


def usual(counted: Mapping[int, int]) -> int:
    """Return the number that occurred most. An email that took too long adds events."""
    return max(counted, key=lambda number: counted[number])


BARS = (
    Bar(
        "throughput: product (PostgreSQL) / DBOS",
        *(PRODUCT_POSTGRESQL.name, DBOS.name),
        _throughput,
        least=1.2,
    ),
    Bar(
        "throughput: product (PostgreSQL) / floor-wait",
        *(PRODUCT_POSTGRESQL.name, FLOOR_WAIT.name),
        _throughput,
        least=0.65,
    ),
    Bar(
        "CPU of our effects, ms per request: product's worker (PostgreSQL) minus floor-shape's",
        *(PRODUCT_POSTGRESQL.name, FLOOR_SHAPE.name),
        lambda product, floor: product.cpu["worker"] - floor.cpu["worker"],
        most=45,
    ),
    Bar(
        "accept p99: product, SQLite / PostgreSQL",
        *(PRODUCT_SQLITE.name, PRODUCT_POSTGRESQL.name),
        lambda first, second: first.accept_p99 / second.accept_p99,
        most=1.3,
    ),
    Bar(
        "events of one accepted request: product (PostgreSQL)",
        *(PRODUCT_POSTGRESQL.name, PRODUCT_POSTGRESQL.name),
        lambda product, _: usual(product.events),
        most=16,
    ),
    Bar(
        "Actions of one accepted request: product (PostgreSQL)",
        *(PRODUCT_POSTGRESQL.name, PRODUCT_POSTGRESQL.name),
        lambda product, _: usual(product.actions),
        most=6,
    ),
)


def of(rounds: Sequence[Round], variant: str) -> list[Round]:
    return [each for each in rounds if each.variant == variant]


def reason_not_to_judge(rounds: Sequence[Round]) -> str | None:
    """Return why these rounds prove nothing, otherwise None."""
    for floor in (FLOOR_WAIT.name, FLOOR_SHAPE.name):
        speeds = [each.requests_per_second for each in of(rounds, floor)]
        if len(speeds) < FEWEST_PAIRS:
            return f"There are only {len(speeds)} rounds. {FEWEST_PAIRS} are needed."
        if max(speeds) > MOST_SPREAD * min(speeds):
            return (
                f"The fastest round of {floor} is {max(speeds) / min(speeds):.2f} times as fast as"
                f" the slowest, and {MOST_SPREAD:g} is allowed. The machine was too busy."
            )
    return None
