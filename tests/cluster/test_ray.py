"""What --ray promises: the same runs elsewhere, one line for what does not fit, and that no kill loses a trial."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, SMALL, SWEPT, Gankit, process, read, refused, with_few
from test_sweep import planted

from gankit.cluster import connection, engine, worker
from gankit.cluster.transfer import changed, received
from gankit.config.request import RunRequest
from gankit.config.resolve import resolve
from gankit.errors import UserError

TWO = ("--vary", "gamma=0.3,0.7")
QUICK = """
from gankit.builtin import artifacts

for artifact in (artifacts.Losses, artifacts.Animation, artifacts.Report):
    artifact.finish = artifact.refresh = lambda self: None
"""  # a plugin for runs in other processes: they draw nothing


# Refusals. They need no Ray and no cluster.


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray, as far as a refusal looks for it."""
    monkeypatch.setattr(connection, "find_spec", lambda name: "there")


@pytest.mark.parametrize("command", [("sweep", *SWEPT, *TWO), ("compare", "began", "ebgan", *DATA)])
def test_without_ray_the_extra_is_named(
    command: tuple[Any, ...], gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    refused(gankit(*command, "--ray", "local", "--out", "s"), "--ray local", "gankit[ray]")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("with_ray")
@pytest.mark.parametrize("address", ["cluster", "auto", "host:", ":6379", "host:99999", "http://host:80/x"])
def test_an_address_of_another_form_is_refused(address: str, gankit: Gankit) -> None:
    refused(gankit("sweep", *SWEPT, *TWO, "--ray", address), "HOST:PORT")


def answering(answer: bytes | None) -> Iterator[int]:
    """The port of a server that says `answer` to whoever comes, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            held = []
            while True:
                try:
                    guest, _ = server.accept()
                except OSError:
                    return
                held.append(guest)
                guest.sendall(answer or b"")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.usefixtures("with_ray")
@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, ("does not answer", "no answer")), (b"HTTP/1.1 400 Bad Request\r\n\r\n", ("is no Ray",))],
)
def test_an_address_that_is_no_ray_is_told_in_one_line(
    scheme: str,
    answer: bytes | None,
    words: tuple[str, ...],
    gankit: Gankit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.2)
    for port in answering(answer):
        refused(gankit("sweep", *SWEPT, *TWO, "--ray", f"{scheme}127.0.0.1:{port}", "--out", "s"), *words)
    assert connection.PATIENCE + 4.0 < 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("with_ray")
def test_an_address_where_nothing_listens_is_told_in_one_line(gankit: Gankit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused(gankit("sweep", *SWEPT, *TWO, "--ray", f"127.0.0.1:{port}"), "does not answer", "refused")


# A machine of the cluster looks at itself.


def terms(folder: Path, **changed: Any) -> dict[str, Any]:
    from gankit.catalogue import Catalogue
    from gankit.training.start import open_data
    from gankit.training.watcher import Watcher

    config = resolve("began", RunRequest(data=str(folder), image_size=16, batch_size=4, precision="fp32"), Catalogue())
    digest = open_data(config, Catalogue(), Watcher()).digest
    configs = [config.model_dump(mode="json") | changed]
    return {"plugins": [], "gpus": False, "configs": configs, "digest": digest, "versions": worker.versions()}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (30 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def test_a_machine_says_why_it_cannot_train_the_same(pictures: Path) -> None:
    asked = terms(pictures)
    assert worker.objection(asked) == ""
    assert "precision = fp32, which depend on the machine" in worker.objection(terms(pictures, precision="bf16"))
    older = {**worker.versions(), "torch": "1.0"}  # of the driver: a machine may join after its look at the versions
    assert worker.objection(asked | {"versions": older}) == f"it has torch {worker.versions()['torch']} (not 1.0)"
    shutil.copy(pictures / "3.png", pictures / "9.png")
    (pictures / "0.png").unlink()
    assert worker.objection(asked) == f"it finds other pictures in {pictures}"
    shutil.rmtree(pictures)
    assert str(pictures) in worker.objection(asked)
    assert "gone.py" in worker.objection(asked | {"plugins": ["/nowhere/gone.py"]})


def test_a_signal_does_not_wait_for_the_pause_that_a_slow_answer_sets() -> None:
    """The answer is under way when the signal comes; the next question, which carries it, comes at once."""
    run = engine.Remote.__new__(engine.Remote)
    run.signal, run.next = 0, 0.0
    run._told(None, {}, [])
    assert run.next > time.monotonic()
    run.signal = signal.SIGINT
    run._told(None, {}, [])
    assert run.next == 0


@pytest.mark.parametrize(
    ("machines", "jobs", "gpus", "expected"),
    [
        ([(8, 0), (4, 0)], None, True, (2, 4, 0)),  # CPUs alone: one run each, as many cores as the smallest has
        ([(8, 0), (8, 0)], 4, True, (4, 4, 0)),
        ([(2, 0)], 3, True, (3, 0.66, 0)),  # more runs than cores share them
        ([(16, 0), (32, 4), (32, 2)], None, True, (6, 10, 1)),  # one for each GPU, and none without
        ([(32, 4)], 8, True, (8, 4, 0.5)),  # two share one
        ([(32, 4)], 5, True, (5, 6, 0.5)),
        ([(16, 0), (32, 4)], None, False, (2, 16, 0)),  # --device cpu
        ([(0, 0), (4, 0)], None, True, (1, 4, 0)),  # a head that takes no work
    ],
)
def test_runs_share_the_machines_equally(
    machines: list[tuple[int, int]], jobs: int | None, gpus: bool, expected: tuple[float, ...]
) -> None:
    class Fake:
        def nodes(self) -> list[dict[str, Any]]:
            return [
                {"Alive": True, "NodeID": str(n), "NodeManagerHostname": "m", "Resources": {"CPU": cpu, "GPU": gpu}}
                for n, (cpu, gpu) in enumerate(machines)
            ]

    cluster = engine.Cluster(Fake(), True, [])
    found = cluster._divide(jobs, gpus)
    assert (found, cluster.resources["num_cpus"], cluster.resources["num_gpus"]) == expected


# Files that are brought back.


def test_a_run_is_copied_there_and_back_and_only_what_changed_travels(run: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.log").write_text("said\n")
    there = tmp_path / "there"
    there.mkdir()
    files, gone = changed(tmp_path, "copy", {})
    received(there, "copy", files, gone)
    known = {name: stamp for name, (stamp, _) in files.items()}
    assert {path.relative_to(run) for path in run.rglob("*")} == {
        path.relative_to(there / "copy") for path in (there / "copy").rglob("*")
    }
    assert changed(there, "copy", known) == ({}, [])
    with open(there / "copy" / "metrics.jsonl", "a") as lines:
        lines.write("more\n")
    last = sorted((there / "copy" / "checkpoints").iterdir())[-1]
    last.rename(last.with_name("000099"))
    files, gone = changed(there, "copy", known)
    assert {name.split("/")[1] for name in files} == {"metrics.jsonl", "checkpoints"}
    received(tmp_path, "copy", files, gone)
    assert (run / "metrics.jsonl").read_text().endswith("more\n")
    assert not (run / "checkpoints" / last.name).exists()
    assert (run / "checkpoints" / "000099").is_dir()


@pytest.mark.parametrize(
    "name", ["../x", "copy/../../x", "/etc/x", "other/x", "other.log", "copy", "copy\\x", "copy/../other/x", ""]
)
def test_a_strange_path_is_not_written(name: str, run: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="not in its run"):
        received(tmp_path, "copy", {"copy/fine": ((1, 1), b"x"), name: ((1, 1), b"x")})
    with pytest.raises(UserError, match="not in its run"):
        received(tmp_path, "copy", {}, [name])
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_written_or_removed_through_a_link(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "000001.png").write_text("mine")
    shutil.rmtree(run / "samples")
    (run / "samples").symlink_to(outside)
    with pytest.raises(UserError, match="is a link"):
        received(tmp_path, "copy", {"copy/samples/000001.png": ((1, 1), b"x")})
    with pytest.raises(UserError, match="is a link"):
        received(tmp_path, "copy", {}, ["copy/samples/000001.png"])
    assert (outside / "000001.png").read_text() == "mine"


def test_half_a_checkpoint_does_not_travel(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gankit.cluster import transfer

    real = transfer.read
    last = sorted((run / "checkpoints").iterdir())[-1]

    def read_and_lose(root: Path, path: str, most: int) -> bytes:
        content = real(root, path, most)
        if f"checkpoints/{last.name}/" in path:  # the rotation comes in between
            shutil.rmtree(last)
        return content

    monkeypatch.setattr(transfer, "read", read_and_lose)
    files, _ = changed(run.parent, run.name, {})
    assert not any(last.name in name for name in files if "checkpoints" in name)
    assert f"{run.name}/result.json" in files


def test_a_worker_may_name_a_file_as_gone_that_never_came(run: Path) -> None:
    remote = object.__new__(engine.Remote)
    remote.path, remote.known, remote.signal = run, {f"{run.name}/metrics.jsonl": (1, 1)}, 0
    remote._told(None, {}, [f"{run.name}/invented.png", f"{run.name}/metrics.jsonl"])
    assert remote.known == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_of_another_user_keeps_no_worker_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs, old = tmp_path / "gankit-run-theirs" / "held", tmp_path / "gankit-run-old" / "held"
    for held in (theirs, old):
        held.parent.mkdir()
    os.mkfifo(theirs)
    old.touch()
    os.utime(old, (0, 0))
    made: list[Any] = []
    waiting = threading.Thread(target=lambda: made.append(worker._own_folder()), daemon=True)
    waiting.start()
    waiting.join(20)
    if waiting.is_alive():
        os.close(os.open(theirs, os.O_WRONLY))
        waiting.join()
        pytest.fail("it waits for a writer")
    ((folder, held_now),) = made
    held_now.close()
    assert {path.name for path in tmp_path.iterdir()} == {theirs.parent.name, Path(folder).name}


# A cluster.


NODES = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
    time.sleep(0.2)
"""
APART = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


Start = Callable[..., subprocess.Popen[str]]


@dataclass
class Cluster:
    """Two machines, as processes on the loopback; the second sees nothing of the folder `hidden`."""

    address: str
    client: str  # the address for other machines
    hidden: Path
    start: Callable[..., subprocess.Popen[bytes]]

    def await_machines(self, count: int, *processes: subprocess.Popen[bytes]) -> None:
        command = [sys.executable, "-c", NODES, self.address, str(count)]
        look: dict[str, Any] = {"env": authorised(), "capture_output": True, "timeout": 300, "check": False}
        until(lambda: not subprocess.run(command, **look).returncode, *processes)


def authorised(**more: str) -> dict[str, str]:
    """The environment of what may talk to the cluster."""
    return {**os.environ, "RAY_AUTH_MODE": "token", **more}  # a driver finds out that it needs one


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(condition: Any, *processes: subprocess.Popen[Any]) -> None:
    """Wait until something is so, as long as the processes live."""
    while not condition():
        for one in processes:
            assert one.poll() is None, one.communicate()
        time.sleep(0.05)


def answers(address: str) -> bool:
    try:
        connection.reachable(address)
    except UserError:
        return False
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="no Ray: pip install 'gankit[ray]'")
    hidden = tmp_path_factory.mktemp("hidden")
    if subprocess.run([*APART, hidden, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system hides no folder from a process (unshare)")
    place = Path(tempfile.mkdtemp(prefix="gankit-test-"))  # a short path: there are sockets in it
    address, client = (f"127.0.0.1:{port()}" for _ in range(2))
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: object, before: Sequence[object] = (), **environment: str) -> subprocess.Popen[bytes]:
        ray = (sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0", "--block")
        command = (*before, *ray, "--object-store-memory=100000000", "--disable-usage-stats", *flags)
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(list(map(str, command)), env=authorised(**environment), **quiet))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        made = Cluster(address, f"ray://{client}", hidden, start)
        try:
            ports = (f"--port={address.split(':')[1]}", f"--ray-client-server-port={client.split(':')[1]}")
            head = start("--head", *ports, "--include-dashboard=false", f"--temp-dir={place}")
            until(lambda: answers(address), head)
            start(f"--address={address}", before=(*APART, hidden))
            made.await_machines(2, *started)
            yield made
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()
            shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `gankit` as a process that does not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        started.append(process(*arguments, cwd=tmp_path, **options))
        return started[-1]

    yield start_one
    for one in started:
        one.kill()
        one.wait()


def told(folder: Path) -> list[Any]:
    """The trials without what depends on the clock or on rounding in another order."""
    return [
        (trial["values"], trial["state"], pytest.approx(trial["value"], rel=1e-3))
        for trial in read(folder / "sweep.json")["trials"]
    ]


def quick(folder: Path) -> tuple[str, str]:
    (folder / "quick.py").write_text(QUICK)
    return ("--plugin", str(folder / "quick.py"))


def workers(word: str) -> dict[int, int]:
    """The processes of runs on workers, each with its parent, the actor. `word`: of their command."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines() if "gankit.cluster.worker" in line and word in line]
    return {int(pid): int(parent) for pid, parent, _ in rows}


def saved(run: Path) -> int:
    """The last checkpoint of a run, or 0."""
    return max((int(path.name) for path in run.glob("checkpoints/[0-9]*")), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("search", ["grid", "random", "optuna"])
def test_twelve_trials_on_two_machines_are_those_of_this_machine(
    search: str,
    cluster: Cluster,
    start: Start,
    gankit: Gankit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undrawn: None,
) -> None:
    if search == "optuna":
        pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    if search == "grid":
        vary = ("--vary", "gamma=0.3,0.5,0.7", "--vary", "learning_rate=1e-4,2e-4,4e-4,8e-4")
    else:
        vary = ("--vary", "gamma=uniform:0.3,0.7", "--trials", "12")
    asked = ("sweep", *SWEPT, *vary, "--search", search)
    folder = cluster.hidden / search
    working = start(*asked, *quick(tmp_path), "--ray", cluster.address, "--out", folder)
    said, errors = working.communicate()
    assert (working.returncode, errors) == (0, "")
    assert "2 machines" in said
    assert "1 of them cannot write into it, and their run folders are brought back" in said
    found = read(folder / "sweep.json")["trials"]
    assert [trial["state"] for trial in found] == ["complete"] * 12
    commands = [read(folder / trial["runs"][0]["folder"] / "environment.json")["command"] for trial in found]
    apart = ["gankit-run-" in command for command in commands]
    assert 0 < sum(apart) < 12
    for trial in found:
        run = folder / trial["runs"][0]["folder"]
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 6
        assert (saved(run), (run / "samples" / "000006.png").exists()) == (6, True)
        assert "step 6/6" in Path(f"{run}.log").read_text()
    assert not list(folder.glob(".ray-*"))
    if search != "optuna":  # which knows less when two trials train at once
        with_few(monkeypatch)
        assert gankit(*asked, "--out", "here").code == 0
        assert told(folder) == told(tmp_path / "here")


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_driver_cost_no_trial(
    cluster: Cluster, start: Start, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    asked = ("sweep", *SWEPT, *TWO, "--steps", 150, "--checkpoint-every", 2, "--sample-every", 150)
    folder = cluster.hidden / "killed"
    on_cluster = (*asked, *quick(tmp_path), "--ray", cluster.address, "--out", folder)
    runs = [folder / "runs" / f"trial-00{number}-seed-0" for number in (1, 2)]
    broken = start(*on_cluster)
    until(lambda: all(saved(run) >= 4 for run in runs), broken)
    ((one, actor),) = workers("gankit-run-").items()  # the run that is brought back
    os.kill(actor, signal.SIGKILL)
    until(lambda: workers("gankit-run-").keys() - {one}, broken)
    until(lambda: not workers("gankit-run-").keys() & {one}, broken)  # no orphan
    broken.kill()
    said, _ = broken.communicate()
    assert "its worker is lost" in said
    assert said.count("goes on; its output") == 1
    until(lambda: not workers("trial-00"))
    before = [saved(run) for run in runs]
    assert min(before) >= 4
    working = start(*on_cluster)
    said, errors = working.communicate()
    assert (working.returncode, errors) == (0, "")
    assert "goes on" in said
    for run in runs:
        assert Path(f"{run}.log").read_text().count("run folder: ") == 1
        assert [line.count('"step": 150') for line in (run / "metrics.jsonl").read_text().splitlines()].count(1) == 1
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 150
    with_few(monkeypatch)
    assert gankit(*asked, "--out", "whole").code == 0
    assert told(folder) == told(tmp_path / "whole")


@pytest.mark.slow
def test_on_this_machine_ctrl_c_saves_and_the_sweep_goes_on_without_ray(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="no Ray: pip install 'gankit[ray]'")
    asked = ("sweep", *SWEPT, *TWO, *quick(tmp_path), "--steps", 60, "--checkpoint-every", 20, "--out", "s")
    before = set(Path(tempfile.gettempdir()).glob("gankit-*"))
    broken = start(*asked, "--ray", "local", start_new_session=True)
    run = tmp_path / "s" / "runs" / "trial-001-seed-0"
    until(lambda: (run / "metrics.jsonl").exists(), broken)
    os.killpg(broken.pid, signal.SIGINT)  # as a terminal does
    said, errors = broken.communicate()
    assert (broken.returncode, errors) == (130, "")
    assert "1 machine for the runs of" in said
    assert "go on with the same command" in said
    assert read(run / "result.json")["outcome"] == "interrupted"
    assert saved(run) == read(run / "result.json")["steps"]
    assert set(Path(tempfile.gettempdir()).glob("gankit-*")) == before
    going_on = start(*asked)
    said, errors = going_on.communicate()
    assert (going_on.returncode, errors) == (0, "")
    assert [trial["state"] for trial in read(tmp_path / "s" / "sweep.json")["trials"]] == ["complete"] * 2


@pytest.mark.slow
def test_a_trial_that_falls_behind_ends_on_a_cluster_of_other_machines_as_here(
    cluster: Cluster, start: Start, tmp_path: Path
) -> None:
    pytest.importorskip("optuna", reason="no optuna: pip install 'gankit[sweep]'")
    asked = ("sweep", *SWEPT, *planted(tmp_path, 2, sleep=1.0), "--vary", "gamma=0.9,0.2", "--steps", 45)
    folder = cluster.hidden / "early"
    early = ("--stop-early", "--checkpoint-every", 100, "--jobs", 1, *quick(tmp_path), "--out", folder)
    working = start(*asked, *early, "--ray", cluster.client)
    said, errors = working.communicate()
    assert (working.returncode, errors) == (0, "")
    assert "trial 2 falls behind the others: it ends" in said
    found = read(folder / "sweep.json")
    assert [trial["state"] for trial in found["trials"]] == ["complete", "ended early"]
    (behind,) = found["trials"][1]["runs"]
    assert 5 <= behind["steps"] < 45
    assert saved(folder / behind["folder"]) == behind["steps"]


@pytest.mark.slow
def test_a_machine_with_another_version_is_named_and_nothing_is_trained(
    cluster: Cluster, start: Start, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "gankit-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: gankit\nVersion: 0.0.1\n")
    third = cluster.start(
        f"--address={cluster.address}",
        PYTHONPATH=os.pathsep.join([str(other.parent), os.environ.get("PYTHONPATH", "")]),
    )
    try:
        cluster.await_machines(3, third)
        refusing = start("sweep", *SWEPT, *TWO, "--ray", cluster.address, "--out", "s")
        said, errors = refusing.communicate()
        assert refusing.returncode == 2, said
        (line,) = errors.splitlines()
        assert "has gankit 0.0.1" in line
        assert "install the same versions on all" in line
        assert not (tmp_path / "s").exists()
    finally:
        third.terminate()
        third.wait()
        cluster.await_machines(2)


@pytest.mark.slow
def test_a_comparison_takes_the_same_road(cluster: Cluster, start: Start, tmp_path: Path) -> None:
    asked = ("compare", "began", "ebgan", "--seeds", 1, "--samples", 50, *DATA, "--data", "demo:200", *SMALL)
    folder = cluster.hidden / "compared"
    working = start(*asked, "--steps", 6, *quick(tmp_path), "--ray", cluster.address, "--out", folder)
    said, errors = working.communicate()
    assert (working.returncode, errors) == (0, "")
    assert "1 of them cannot write into it" in said
    rows = read(folder / "comparison.json")["runs"]
    assert [(row["outcome"], row["steps"]) for row in rows] == [("finished", 6)] * 2
    assert all(row["measures"] for row in rows)
