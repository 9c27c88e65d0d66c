"""The list of erased mailboxes, by which they are erased again after a restore.

It is a file outside the database, because a backup of the database does not know what was erased
after it. Each line has the time of an erasure, the id of a key, and the keyed hash of one mailbox:

    2026-11-26T10:15:00.123456+00:00 3f2a9c1d 9b74c9897bac770ffc029102a200c5de...

What a person does later is not erased again. A line with a day alone counts for the whole day.

The hash is an HMAC-SHA256 with one of the secret keys. Without the key, nobody can test whether an
address is on the list. If that key is no longer among the secret keys, the line cannot be used.
"""

import errno
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from smart_accounts.errors import BadSetting

SETTING = "SMART_ACCOUNTS_ERASED_LIST"
_LINE = re.compile(r"(\d{4}-\d\d-\d\d[0-9T:.+]*) ([0-9a-f]{8}) ([0-9a-f]{64})", re.ASCII)


class ErasedList:
    """The file at ``path``. ``keys`` are the secret keys, newest first."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self._path = path
        self._keys = {_key_id(key): key for key in keys}
        self._erased: dict[tuple[str, str], datetime] = {}
        self._unreadable = self._of_other_keys = 0
        for line in self._read().splitlines():
            found = _LINE.fullmatch(line)
            at = _moment(found[1]) if found else None
            if not found or at is None:
                self._unreadable += bool(line.strip())
            elif found[2] not in self._keys:
                self._of_other_keys += 1
            else:
                self._note((found[2], found[3]), at)

    def check_exists(self) -> None:
        """Check that there is a list. After a restore, a wrong path would erase nobody.

        Raises:
            BadSetting: there is no file.
        """
        if not self._path.exists():
            raise BadSetting(f"{SETTING}: there is no file {self._path}")

    def has(self, its_mailbox: str) -> bool:
        return self.erased_at(its_mailbox) is not None

    def erased_at(self, its_mailbox: str) -> datetime | None:
        """Return when the mailbox was last erased, or None if it is not on the list."""
        hashes = ((key_id, _hash(key, its_mailbox)) for key_id, key in self._keys.items())
        return max((self._erased[each] for each in hashes if each in self._erased), default=None)

    def problems(self) -> list[str]:
        """Return what must be fixed before everyone on the list can be found."""
        found = []
        if self._of_other_keys:
            found.append(
                "Lines of the list that were made with a secret key that is not set now:"
                f" {self._of_other_keys}. Add the key to SMART_ACCOUNTS_SECRET_KEYS for this"
                " command, after the others."
            )
        if self._unreadable:
            found.append(f"Damaged lines of the list: {self._unreadable}.")
        return found

    def add(self, mailboxes: Iterable[str]) -> None:
        """Add mailboxes that are erased now. Returns once they are on the disk.

        Raises:
            BadSetting: the file cannot be written.
        """
        key_id, key = next(iter(self._keys.items()))
        now = datetime.now(UTC)
        moment = now.isoformat(timespec="microseconds")
        hashes = [_hash(key, each) for each in mailboxes]
        new = [f"{moment} {key_id} {each}\n" for each in hashes]
        known = self._read()
        # A process that was killed may have left half a line.
        is_cut_off = bool(known) and not known.endswith("\n")
        try:
            self._append("\n" * is_cut_off + "".join(new))
        except OSError as error:
            raise _unusable(error) from None
        for each in hashes:
            self._note((key_id, each), now)

    def _note(self, hashed: tuple[str, str], at: datetime) -> None:
        self._erased[hashed] = max(at, self._erased.get(hashed, at))

    def _append(self, text: str) -> None:
        content = text.encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(file, content) < len(content):  # the disk or a quota is full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file may be new
        finally:
            os.close(folder)

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _unusable(error) from None


def _moment(text: str) -> datetime | None:
    """Return the time on a line: the end of the day if it has no time of day."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC) + timedelta(days=1)


def _key_id(key: str) -> str:
    return hmac.digest(key.encode(), b"erased-list", hashlib.sha256).hex()[:8]


def _hash(key: str, its_mailbox: str) -> str:
    return hmac.digest(key.encode(), f"erased:{its_mailbox}".encode(), hashlib.sha256).hex()


def _unusable(error: OSError) -> BadSetting:
    return BadSetting(f"{SETTING}: the file cannot be used: {error.strerror}")
