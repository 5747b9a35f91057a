"""API keys: made once and shown once, kept as hashes in a file that the service reads again when it changes."""

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
from litestar.types import Scope

from tegakari.schemas.errors import ConfigError, KeyScopeError, NoKeyError, NotFoundError
from tegakari.schemas.keys import KEY_SCOPES, ApiKey, KeyFile, KeyScope
from tegakari.store.disk.durable import write_atomically

_KEY = re.compile(r"tgk_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")

_RELOAD_SECONDS = 1.0

log = structlog.get_logger()


def create_key(
    file: Path,
    name: str,
    scope: KeyScope,
    *,
    days: int | None = None,
    requests_per_second: float | None = None,
) -> tuple[str, ApiKey]:
    """Make a key and keep its hash.

    Args:
        file: of keys; made where it is not there, readable by its owner alone.
        name: whose it is.
        scope: what it may do.
        days: until it expires; None: never.
        requests_per_second: its own limit.

    Returns:
        the key, which is kept nowhere, and what is kept of it.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    id_ = secrets.token_hex(4)
    key = f"tgk_{id_}_{secrets.token_urlsafe(32)}"
    now = datetime.now(UTC)
    kept = ApiKey(
        id=id_,
        name=name,
        scope=scope,
        sha256=_digest(key),
        created=now.isoformat(timespec="seconds"),
        expires=(now + timedelta(days=days)).isoformat(timespec="seconds") if days is not None else None,
        requests_per_second=requests_per_second,
    )
    with _changing(file) as keys:
        keys.append(kept)
    return key, kept


def revoke_key(file: Path, id_: str) -> ApiKey:
    """Take a key out of the file; a running service refuses it within a second or two.

    Raises:
        NotFoundError: there is no such key.
        ConfigError: the file cannot be read or written.
    """
    with _changing(file) as keys:
        for key in keys:
            if key.id == id_:
                keys.remove(key)
                return key
        raise NotFoundError(f"no key {id_!r} in {file}", field="id", fix="`tegakari keys list` shows the ids")


def read_keys(file: Path) -> list[ApiKey]:
    """The keys of a file; none where there is no file.

    Raises:
        ConfigError: the file cannot be read, or is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=KeyFile).keys
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", field="service.keys") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} is no file of keys: {error}",
            field="service.keys",
            fix="restore it, or delete it and make new keys",
        ) from None


@contextmanager
def _changing(file: Path) -> Iterator[list[ApiKey]]:
    """Change the list of keys; one process at a time."""
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
        before = os.umask(0o077)
        try:
            write_atomically(file, content)
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror}", field="service.keys") from None
        finally:
            os.umask(before)
    finally:
        os.close(lock)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys that a service knows. As long as there is a file of keys, every request needs one of it."""

    def __init__(self, file: Path | None) -> None:
        """Read the file.

        Raises:
            ConfigError: it is damaged.
        """
        self._file = file
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}
        self._next_look = 0.0
        self._look()

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        if self._file is not None and time.monotonic() > self._next_look:
            try:
                self._look()
            except ConfigError as error:  # the keys known so far stay good
                log.warning("keys not read", error=str(error))
        return self._seen is not None

    def _look(self) -> None:
        self._next_look = time.monotonic() + _RELOAD_SECONDS
        if self._file is None:
            return
        try:
            found = self._file.stat()
        except FileNotFoundError:
            # Once there were keys, a file that is gone must not open the doors.
            self._keys = {}
            return
        if (found.st_mtime_ns, found.st_ino) != self._seen:
            self._keys = {key.id: key for key in read_keys(self._file)}
            self._seen = found.st_mtime_ns, found.st_ino

    def check(self, authorization: str, api_key: str) -> ApiKey:
        """Find the key that a request carries.

        Args:
            authorization: its header `Authorization: Bearer KEY`, or nothing.
            api_key: its header `X-API-Key: KEY`, or nothing.

        Raises:
            NoKeyError: it carries none that is good.
        """
        kind, _, value = authorization.partition(" ")
        sent = value.strip() if kind.lower() == "bearer" else api_key.strip()
        if not sent:
            raise NoKeyError(
                "this server asks for an API key",
                field="Authorization",
                fix="send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            )
        match = _KEY.fullmatch(sent)
        known = self._keys.get(match[1]) if match else None
        # Compared even where the id is unknown, so that the time says nothing.
        same = hmac.compare_digest(_digest(sent), known.sha256 if known else "0" * 64)
        if not known or not same:
            raise NoKeyError("the API key is not known here", field="Authorization", fix="check it; it may be revoked")
        if known.expires is not None and datetime.fromisoformat(known.expires) <= datetime.now(UTC):
            raise NoKeyError(f"the API key expired on {known.expires}", field="Authorization", fix="ask for a new one")
        return known


def require_scope(scope: Scope) -> None:
    """Refuse a key that may not do this: reading needs `read`, everything else what the route's `scope` says.

    Raises:
        KeyScopeError: naming the scope.
    """
    key: ApiKey | None = scope["state"].get("key")
    if key is None:
        return
    handler: BaseRouteHandler = scope["route_handler"]
    needed: KeyScope = handler.opt.get("scope", "read" if scope.get("method") == "GET" else "compute")
    if KEY_SCOPES.index(key.scope) < KEY_SCOPES.index(needed):
        raise KeyScopeError(
            f"the key {key.id} has scope {key.scope}, this needs {needed}", field="Authorization", fix="use another key"
        )
