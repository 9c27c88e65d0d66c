"""Settings from the files that ``…_FILE`` variables name, and errors of the ``.env`` file."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from smart_accounts.errors import BadSetting


def read_files(
    prefix: str, fields: Iterable[str], given: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Return the values in the files of ``…_FILE`` variables. All names are in lower case.

    Raises:
        BadSetting: a file cannot be read, or its setting has a value of its own too. The message
            does not quote the path, because somebody may have put the secret itself there.
    """
    values: dict[str, str | None] = {}
    problems = []
    for field in fields:
        name = f"{prefix}{field}".lower()
        path = given.get(f"{name}_file")
        if not path:
            continue
        if given.get(name):
            problems.append(f"{name.upper()}: is also set by {name.upper()}_FILE; keep only one")
            continue
        try:
            # Without the mark that editors on Windows put before the text.
            value = Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            problems.append(f"{name.upper()}_FILE: {_not_readable(error)}")
        else:
            if value:  # an empty file counts as not set, as an empty variable does
                values[name] = value
    if problems:
        raise BadSetting("bad settings: " + "; ".join(problems))
    return values


@contextmanager
def reading_dotenv() -> Iterator[None]:
    """Raise ``BadSetting`` if the ``.env`` file cannot be read."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise BadSetting(f"bad settings: .env: {_not_readable(error)}") from None


def _not_readable(error: OSError | UnicodeError) -> str:
    reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
    return f"cannot read the file ({reason})"
