"""The cache of D4RL files, against a server on this machine."""

import hashlib
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from enoto_jax.data import download
from tests.helpers import largest_file, python, refused_in_a_line

CONTENT = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    """Serve `server.content`, at most `server.limit` bytes per connection."""

    def do_GET(self):
        server, start = self.server, 0
        requested = self.headers.get("Range")
        server.requests.append(requested)
        if len(server.requests) == 2 and server.pause:
            server.pause.wait(60)
        if server.fails:
            return self.send_error(404)
        if requested and server.resumes:
            start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start:][: server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.limit, server.requests = CONTENT, len(CONTENT), []
    server.resumes, server.fails, server.pause = True, False, None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "TIMEOUT_S", 5.0)
    use(monkeypatch, f"http://127.0.0.1:{server.server_port}/tiny.hdf5")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def use(monkeypatch, url):
    sha = hashlib.sha256(CONTENT).hexdigest()
    remote = download.RemoteFile("tiny-v2", url, len(CONTENT), sha, "tiny.hdf5")
    monkeypatch.setattr(download, "catalogue", lambda: {"tiny-v2": remote})


def refused(message, **options):
    with refused_in_a_line(message):
        download.resolve("tiny-v2", **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fetches_once_and_leaves_a_checkable_record(server, tmp_path):
    path = download.resolve("tiny-v2")
    assert path == tmp_path / "cache" / "tiny.hdf5" and path.read_bytes() == CONTENT
    assert names(path.parent) == ["tiny.hdf5", "tiny.hdf5.sha256"]
    record = f"{hashlib.sha256(CONTENT).hexdigest()}  tiny.hdf5\n"
    assert (path.parent / "tiny.hdf5.sha256").read_text() == record
    assert download.resolve("tiny-v2", download=False) == path
    assert server.requests == [None]


def test_resumes_what_an_earlier_run_left(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.hdf5.part").write_bytes(CONTENT[:1000])
    assert download.resolve("tiny-v2").read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]


def test_broken_connections_are_taken_up_again(server):
    server.limit = 100_000
    assert download.resolve("tiny-v2").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]


def test_server_that_cannot_resume_starts_again(server, tmp_path):
    server.resumes = False
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.hdf5.part").write_bytes(b"?" * 1000)
    assert download.resolve("tiny-v2").read_bytes() == CONTENT


def test_complete_or_overlong_part_is_not_trusted(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.hdf5.part").write_bytes(CONTENT + b"more")
    assert download.resolve("tiny-v2").read_bytes() == CONTENT


def test_connection_that_brings_nothing_is_given_up_and_keeps_the_part(server, tmp_path):
    server.limit = 0
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.hdf5.part").write_bytes(CONTENT[:1000])
    refused(
        r"tiny-v2: cannot be downloaded \(.*; fetch http://.*/tiny.hdf5 and put it at .*/tiny.hdf5$"
    )
    assert names(tmp_path / "cache") == ["tiny.hdf5.part"]
    assert (tmp_path / "cache" / "tiny.hdf5.part").read_bytes() == CONTENT[:1000]


def test_wrong_content_is_removed(server, tmp_path):
    server.content = CONTENT[::-1]
    refused(r"has SHA-256 [0-9a-f]{12}... instead of .* was removed")
    assert names(tmp_path / "cache") == []


def test_missing_page(server):
    server.fails = True
    refused(r"cannot be downloaded \(HTTP Error 404: Not Found\); fetch http://")


def test_no_network(server, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening, so nothing can answer
        use(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}/tiny.hdf5")
        refused(
            r"cannot be downloaded \(.*refused.*\); fetch http://127.0.0.1:\d+/tiny.hdf5 and put it"
        )


def test_two_processes_fetch_it_once(server):
    server.limit = 50_000  # several connections, which could interleave
    with ThreadPoolExecutor(2) as pool:  # the lock also excludes threads
        paths = list(pool.map(download.resolve, ["tiny-v2", "tiny-v2"]))
    assert paths[0].read_bytes() == CONTENT
    assert len(server.requests) == 6
    assert names(paths[0].parent) == ["tiny.hdf5", "tiny.hdf5.sha256"]


FETCH = """
import sys
from enoto_jax.data import download
remote = download.RemoteFile("tiny-v2", sys.argv[1], int(sys.argv[2]), sys.argv[3], "tiny.hdf5")
download.catalogue = lambda: {"tiny-v2": remote}
download.resolve("tiny-v2")
"""


def test_a_killed_download_neither_locks_the_next_out_nor_loses_what_it_had(server, tmp_path):
    server.limit, server.pause = 100_000, threading.Event()
    url = f"http://127.0.0.1:{server.server_port}/tiny.hdf5"
    sha = hashlib.sha256(CONTENT).hexdigest()
    other = python("-c", FETCH, url, str(len(CONTENT)), sha)
    deadline = time.monotonic() + 60
    while len(server.requests) < 2 and time.monotonic() < deadline:  # the second is held
        time.sleep(0.02)
    assert "tiny.hdf5.lock" in names(tmp_path / "cache")
    other.kill()
    other.communicate()
    server.pause.set()
    assert download.resolve("tiny-v2").read_bytes() == CONTENT
    assert server.requests[:3] == [None, "bytes=100000-", "bytes=100000-"]
    assert names(tmp_path / "cache") == ["tiny.hdf5", "tiny.hdf5.sha256"]


def test_without_permission_nothing_is_fetched(server):
    refused(r"tiny-v2: not in the cache; fetch http://.* and put it at ", download=False)
    assert server.requests == []


def test_users_own_copy_is_verified_once(server, tmp_path, monkeypatch):
    path = tmp_path / "cache" / "tiny.hdf5"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    hashed = []
    digest = download._sha256
    monkeypatch.setattr(download, "_sha256", lambda path: hashed.append(path) or digest(path))
    download.resolve("tiny-v2")
    download.resolve("tiny-v2")
    assert hashed == [path] and server.requests == []
    path.write_bytes(b"?" + CONTENT[1:])  # changed later: same size, newer than the record
    os.utime(path, ns=(2**62, 2**62))
    refused("tiny.hdf5: has SHA-256 .* D4RL's tiny-v2 has .*; remove it, then fetch")


def test_users_file_of_the_wrong_size_is_refused(server, tmp_path):
    path = tmp_path / "cache" / "tiny.hdf5"
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    refused(
        r"tiny.hdf5: has 255999 bytes, but D4RL's tiny-v2 has 256000; remove it, then fetch http"
    )
    assert path.exists()


def test_cache_that_cannot_be_made_is_refused(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "file" / "cache"))
    refused(r"cannot be downloaded \(.*Not a directory")


def test_full_disk_keeps_what_has_come(server, tmp_path):
    with largest_file(100_000):
        refused(
            r"tiny-v2: cannot be downloaded \(.*File too large.*; fetch http://.* and put it at "
        )
    assert names(tmp_path / "cache") == ["tiny.hdf5.part"]
    assert download.resolve("tiny-v2").read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=100000-"


def test_names_of_the_catalogue_stay_in_the_cache():
    for file in download.catalogue().values():
        assert re.fullmatch(r"[\w.-]+", file.name) and not file.name.startswith(".")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_dir() == tmp_path / ".d4rl" / "datasets"


@pytest.mark.parametrize(
    "task, name",
    [
        ("hopper-medium-replay-v0", "hopper_mixed.hdf5"),
        ("walker2d-medium-replay-v0", "walker_mixed.hdf5"),
        ("walker2d-medium-expert-v0", "walker2d_medium_expert.hdf5"),
        ("halfcheetah-full-replay-v1", "halfcheetah_full_replay-v1.hdf5"),
        ("hopper-medium-v2", "hopper_medium-v2.hdf5"),
        ("antmaze-umaze-v0", "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5"),
        (
            "antmaze-medium-play-v2",
            "Ant_maze_big-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5",
        ),
        (
            "antmaze-large-diverse-v2",
            "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse_fixed.hdf5",
        ),
    ],
)
def test_ids_mean_d4rls_files(task, name):
    assert download.catalogue()[task].name == name


def test_catalogue_is_complete_and_unambiguous():
    files = download.catalogue()
    kinds = ["random", "medium", "expert", "medium-replay", "medium-expert"]
    mazes = ["umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play"]
    expected = {
        f"{env}-{kind}-{version}"
        for env in ("hopper", "halfcheetah", "walker2d", "ant")
        for version in ("v0", "v1", "v2")
        for kind in (kinds if version == "v0" else [*kinds, "full-replay"])
    } | {f"antmaze-{maze}-{v}" for maze in [*mazes, "large-diverse"] for v in ("v0", "v2")}
    assert set(files) == expected
    assert len({file.name for file in files.values()}) == len(files)  # one cache for all versions
    assert len({file.sha256 for file in files.values()}) == len(files)
    for file in files.values():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size > 10**6
        assert file.url.endswith("/" + file.name)
