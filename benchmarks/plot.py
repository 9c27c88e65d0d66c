"""A picture of the rounds: how many requests per second, and which process uses the CPU."""

from collections.abc import Sequence
from html import escape

from benchmarks.judge import Spread, of
from benchmarks.variants import VARIANTS, Round

COLOURS = {"server": "#3b6ea5", "worker": "#d98e32", "database": "#5a9367", "sink": "#a0a0a0"}
LABELS = 150  # the width of the names at the left
WIDTH = 330  # of each of the two bars
BAR, ROW, TOP = 18, 32, 56


def plot(rounds: Sequence[Round]) -> str:
    """Return the picture as SVG."""
    most_speed = max(each.requests_per_second for each in rounds)
    most_cpu = max(each.cpu_total for each in rounds)
    height = TOP + ROW * len(VARIANTS) + 8
    parts = [
        _text(LABELS, 20, "requests per second (median, smallest and largest)"),
        _text(LABELS + WIDTH + 70, 20, "CPU ms per request (median)"),
        *_legend(LABELS + WIDTH + 70),
    ]
    for row, variant in enumerate(VARIANTS):
        y, own = TOP + row * ROW, of(rounds, variant.name)
        parts.append(_text(LABELS - 8, y + 14, variant.name, anchor="end"))
        parts += _speed(own, y, WIDTH / most_speed)
        parts += _cpu(own, y, WIDTH / most_cpu)
    width = LABELS + 2 * WIDTH + 130
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="13">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _speed(own: Sequence[Round], y: int, scale: float) -> list[str]:
    speed = Spread.of(each.requests_per_second for each in own)
    middle = y + BAR / 2
    low, high = LABELS + speed.low * scale, LABELS + speed.high * scale
    return [
        _rectangle(LABELS, y, speed.median * scale, "#3b6ea5"),
        (
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"'
            ' stroke="#222222" stroke-width="2"/>'
        ),
        _text(high + 6, y + 14, f"{speed.median:.1f}"),
    ]


def _cpu(own: Sequence[Round], y: int, scale: float) -> list[str]:
    parts, x = [], float(LABELS + WIDTH + 70)
    for name, colour in COLOURS.items():
        if name in own[0].cpu:
            width = Spread.of(each.cpu[name] for each in own).median * scale
            parts.append(_rectangle(x, y, width, colour))
            x += width
    total = Spread.of(each.cpu_total for each in own).median
    return [*parts, _text(x + 6, y + 14, f"{total:.0f}")]


def _legend(x: int) -> list[str]:
    parts = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        left = x + number * 84
        parts += [_rectangle(left, 30, 12, colour, height=12), _text(left + 16, 41, name)]
    return parts


def _rectangle(x: float, y: float, width: float, colour: str, *, height: int = BAR) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'
