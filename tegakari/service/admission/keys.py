"""API keys: printed once when created, stored as hashes in a file that the service reloads when it changes."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog
from litestar.handlers.base import BaseRouteHandler

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import ConfigError, KeyScopeError, NoKeyError, NotFoundError
from tegakari.schemas.keys import KEY_SCOPES, ApiKey, KeyFile, KeyScope
from tegakari.store.disk.contents import read_bounded
from tegakari.store.disk.durable import is_temporary, write_atomically
from tegakari.store.disk.layout import entries

_KEY = re.compile(r"tgk_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")

_RELOAD_SECONDS = 1.0

MAX_FILE = 16 * 2**20
"""Maximum size of the file of keys in bytes."""

log = structlog.get_logger()


def create_key(
    file: Path,
    name: str,
    scope: KeyScope,
    *,
    days: int | None = None,
    requests_per_second: float | None = None,
) -> tuple[str, ApiKey]:
    """Create a key and store its hash.

    Args:
        file: of keys; created if missing, readable by its owner alone.
        name: of the key's user.
        scope: of the requests that it permits.
        days: until it expires; None: never.
        requests_per_second: limit of this key; None: the configured one.

    Returns:
        the key, which is stored nowhere, and its record in the file.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    id_ = secrets.token_hex(4)
    key = f"tgk_{id_}_{secrets.token_urlsafe(32)}"
    now = datetime.now(UTC)
    record = ApiKey(
        id=id_,
        name=name,
        scope=scope,
        sha256=_digest(key),
        created=now.isoformat(timespec="seconds"),
        expires=(now + timedelta(days=days)).isoformat(timespec="seconds") if days is not None else None,
        requests_per_second=requests_per_second,
    )
    with _edit_keys(file) as keys:
        keys.append(record)
    return key, record


def revoke_key(file: Path, id_: str) -> ApiKey:
    """Remove a key from the file; a running service refuses it within two seconds.

    Raises:
        NotFoundError: no key has the id.
        ConfigError: the file cannot be read or written.
    """
    with _edit_keys(file) as keys:
        for key in keys:
            if key.id == id_:
                keys.remove(key)
                return key
        raise NotFoundError(f"no key {id_!r} in {file}", field="id", fix="`tegakari keys list` shows the ids")


def read_keys(file: Path) -> list[ApiKey]:
    """The keys of a file; none if it does not exist.

    Raises:
        ConfigError: the file cannot be read, or is damaged.
    """
    try:
        return decode_json(read_bounded(file.resolve(), MAX_FILE), KeyFile).keys
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", field="service.keys") from None
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{file} is not a file of keys: {error}",
            field="service.keys",
            fix="restore the file, or delete it and create new keys",
        ) from None


@contextmanager
def _edit_keys(file: Path) -> Iterator[list[ApiKey]]:
    """Lock the file, and write the list of keys when the block ends without an error."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(file.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}", field="service.keys") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(read_keys(file))
        yield keys
        content = msgspec.json.format(msgspec.json.encode(KeyFile(keys=keys)), indent=1) + b"\n"
        for entry in entries(file.parent):  # nobody else writes the file: killed processes left these
            if is_temporary(entry) and entry.name.startswith(f".{file.name}."):
                entry.unlink(missing_ok=True)
        umask = os.umask(0o077)
        try:
            write_atomically(file, content)
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror}", field="service.keys") from None
        finally:
            os.umask(umask)
    finally:
        os.close(lock)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys of a running service. Once the file of keys exists, every request needs one of its keys.

    The file is read again when it changes. A damaged file leaves the current keys valid; deleting it revokes all keys.
    """

    def __init__(self, file: Path | None) -> None:
        """Read the file.

        Raises:
            ConfigError: it is damaged.
        """
        self._file = file
        self._version: tuple[int, int] | None = None
        """modification time and inode of the file as it was read"""
        self._keys: dict[str, ApiKey] = {}
        self._next_reload = 0.0
        self._reload()

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        if self._file is not None and time.monotonic() > self._next_reload:
            try:
                self._reload()
            except ConfigError as error:  # the current keys stay valid
                log.warning("keys not reloaded", error=str(error))
        return self._version is not None

    def _reload(self) -> None:
        self._next_reload = time.monotonic() + _RELOAD_SECONDS
        if self._file is None:
            return
        try:
            status = self._file.stat()
        except FileNotFoundError:
            # Deleting the file must not make the service public: `required` stays true.
            self._keys = {}
            return
        version = status.st_mtime_ns, status.st_ino
        if version != self._version:
            self._keys = {key.id: key for key in read_keys(self._file)}
            self._version = version

    def check(self, authorization: str, api_key: str) -> ApiKey:
        """The record of the key that a request carries.

        Args:
            authorization: value of the header `Authorization: Bearer KEY`; empty if missing.
            api_key: value of the header `X-API-Key: KEY`; empty if missing.

        Raises:
            NoKeyError: the request carries no key, or one that is unknown, revoked or expired.
        """
        kind, _, value = authorization.partition(" ")
        key = value.strip() if kind.lower() == "bearer" else api_key.strip()
        if not key:
            raise NoKeyError(
                "this server requires an API key",
                field="Authorization",
                fix="send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            )
        match = _KEY.fullmatch(key)
        record = self._keys.get(match[1]) if match else None
        # Compared even for an unknown id, so that the response time reveals no ids.
        same = hmac.compare_digest(_digest(key), record.sha256 if record else "0" * 64)
        if not record or not same:
            raise NoKeyError(
                "the API key is unknown to this server", field="Authorization", fix="check the key; it may be revoked"
            )
        if record.expires is not None and datetime.fromisoformat(record.expires) <= datetime.now(UTC):
            raise NoKeyError(f"the API key expired on {record.expires}", field="Authorization", fix="get a new key")
        return record


def require_scope(key: ApiKey | None, route: BaseRouteHandler, method: str) -> None:
    """Check the scope of a request's key: GET needs `read`; other methods the route's option `scope`, else `compute`.

    Args:
        key: of the request; None: the service has no keys.
        route: its handler.
        method: its HTTP method.

    Raises:
        KeyScopeError: the key's scope does not include it.
    """
    if key is None:
        return
    needed: KeyScope = route.opt.get("scope", "read" if method == "GET" else "compute")
    if KEY_SCOPES.index(key.scope) < KEY_SCOPES.index(needed):
        raise KeyScopeError(
            f"the key {key.id} has scope {key.scope}, the request needs {needed}",
            field="Authorization",
            fix=f"use a key with scope {needed}",
        )
