"""D4RL's files: find the file of an id, download it and verify it.

Ids, addresses, sizes and checksums are in `d4rl_files.tsv` (source: tensorflow/datasets, file
`checksums.tsv` of its D4RL sets; ids from D4RL `d4rl/infos.py`). `antmaze-*-v1` is not among them:
D4RL withdrew those files, and no checksum was published.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock

from enoto_jax.types import InputError

TIMEOUT_S = 30.0
_BLOCK = 1 << 20


class RemoteFile(NamedTuple):
    """One file of D4RL."""

    task: str
    url: str
    size: int  # bytes
    sha256: str
    name: str


@cache
def catalogue() -> dict[str, RemoteFile]:
    """Return every known D4RL file by its id."""
    lines = Path(__file__).with_name("d4rl_files.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {
        task: RemoteFile(task, url, int(size), sha, name) for task, url, size, sha, name in rows
    }


def cache_dir() -> Path:
    """Return D4RL's own cache: `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def resolve(task: str, *, download: bool = True) -> Path:
    """Return the verified file of a D4RL id, downloading it if it is not in the cache.

    Args:
      task: A D4RL id, such as `hopper-medium-v2`.
      download: Whether the file may be downloaded.

    Raises:
      InputError: The id is unknown, or the file cannot be downloaded or is not the right one.
    """
    if task not in catalogue():
        near = difflib.get_close_matches(task.lower(), catalogue(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "ids look like hopper-medium-v2"
        raise InputError(
            f"{task}: no such D4RL task; {hint} (a file's path ends in .hdf5, .h5 or .npz)"
        )
    remote = catalogue()[task]
    path = cache_dir() / remote.name
    try:
        if not path.exists():
            if not download:
                raise InputError(f"{task}: not in the cache; {_by_hand(remote, path)}")
            _fetch(remote, path)
        _verify(path, remote)
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{task}: cannot be downloaded ({reason}); {_by_hand(remote, path)}"
        ) from error
    return path


def _by_hand(remote: RemoteFile, path: Path) -> str:
    return f"fetch {remote.url} and put it at {path}"


def _fetch(remote: RemoteFile, path: Path) -> None:
    """Download to `<name>.part`, verify it, and only then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _alone(path):
        if path.exists():  # another process downloaded it while this one waited
            return
        with open(part, "ab") as file:
            _complete(remote, file)
        if (found := _sha256(part)) != remote.sha256:
            part.unlink()
            raise InputError(
                f"{remote.task}: the file from {remote.url} has SHA-256 {found[:12]}... instead of "
                f"{remote.sha256[:12]}... and was removed; try again, or get the file elsewhere"
            )
        _record(path, remote)
        os.replace(part, path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock a file of the cache; a second process waits until the first is done."""
    lock = path.with_name(path.name + ".lock")
    # A soft lock (a file that merely exists) would outlive a killed process and block the next.
    with FileLock(lock, fallback_to_soft=False):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # a waiting process notices, and creates a new one


def _complete(remote: RemoteFile, file: BinaryIO) -> None:
    """Append what is missing, resuming after broken connections."""
    if file.tell() > remote.size:
        file.truncate(0)
    while (have := file.seek(0, os.SEEK_END)) < remote.size:
        try:
            _receive(remote, file, have)
        except (OSError, HTTPException):  # a broken connection is resumed ...
            if file.tell() <= have:  # ... as long as it made progress
                raise


def _receive(remote: RemoteFile, file: BinaryIO, have: int) -> None:
    """Append what one connection delivers, from byte `have` on if the server supports ranges."""
    request = Request(remote.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()  # it keeps the connection open
        raise
    with response:
        if have and response.status != 206:
            file.truncate(0)
        while file.seek(0, os.SEEK_END) < remote.size and (block := response.read(_BLOCK)):
            file.write(block)
            _progress(remote, file.tell())
    if file.tell() <= have:
        raise ConnectionError(f"the connection ended after {file.tell()} of {remote.size} bytes")


def _progress(remote: RemoteFile, have: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if have >= remote.size else ""
        share = f"{100 * have // remote.size} % of {remote.size / 1e6:.0f} MB"
        print(f"\r{remote.name}: {share}", end=end, file=sys.stderr, flush=True)


def _verify(path: Path, remote: RemoteFile) -> None:
    """Check size and SHA-256; the digest is recorded next to the file and computed only once."""
    if (size := path.stat().st_size) != remote.size:
        raise InputError(
            f"{path}: has {size} bytes, but D4RL's {remote.task} has {remote.size}; remove it, "
            f"then {_by_hand(remote, path)}"
        )
    if _recorded(path, remote):
        return
    if (found := _sha256(path)) != remote.sha256:
        raise InputError(
            f"{path}: has SHA-256 {found[:12]}..., but D4RL's {remote.task} has "
            f"{remote.sha256[:12]}...; remove it, then {_by_hand(remote, path)}"
        )
    try:
        _record(path, remote)
    except OSError:
        pass  # in a read-only cache the file is hashed every time


def _side(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record(path: Path, remote: RemoteFile) -> None:
    _side(path).write_text(f"{remote.sha256}  {remote.name}\n")  # in the format of sha256sum -c


def _recorded(path: Path, remote: RemoteFile) -> bool:
    """Whether the expected digest was recorded after the file was last written."""
    try:
        fresh = _side(path).stat().st_mtime_ns >= path.stat().st_mtime_ns
        return fresh and _side(path).read_text().startswith(remote.sha256)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
