"""Runs of a sweep or a comparison as actors of Ray: another place than this machine's processes, and nothing else.

The search, the early ends and the record stay with the driver (`runs.processes.Work`). An actor has one run: it starts
`gankit`, and hands on signals, the exit code and, from a machine that does not see the folder, the files.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gankit.cluster.connection import LOCAL, connected
from gankit.cluster.transfer import Stamp, changed, received
from gankit.cluster.worker import Trainer, objection, others, sees, versions
from gankit.config.schema import RunConfig
from gankit.errors import UserError
from gankit.files import below, opened
from gankit.runs.processes import Here, Process
from gankit.training.watcher import Watcher

ASKED = 1.0  # seconds between two questions to an actor
RESTS = 20  # the pause is at least this many times the time that the last answer took to write
ANSWER = 60.0  # seconds for a machine to say its versions
TOKEN = re.compile(r"[.]ray-[0-9a-f]{16}")  # an empty file, by which a machine knows the driver's folder
LOOK = 3600.0  # seconds for a machine to look at the pictures; the first time it decodes them


@contextmanager
def engine(address: str | None, plugins: Sequence[str]) -> Iterator[Here]:
    """Where runs are trained: here without an address, else on a Ray cluster ("local": one of this machine alone).

    Raises UserError if Ray is not installed or there is none at the address.
    """
    if address is None:
        yield Here()
        return
    with connected(address) as ray:
        cluster = Cluster(ray, address == LOCAL, plugins)
        try:
            yield cluster
        finally:
            cluster.end()


class Cluster(Here):
    """The machines of a Ray cluster that a run fits on."""

    def __init__(self, ray: Any, alone: bool, plugins: Sequence[str]) -> None:
        """`alone`: the cluster is this machine, which needs no look."""
        self.ray, self.alone = ray, alone
        self.terms: dict[str, Any] = {"plugins": list(plugins), "token": f".ray-{secrets.token_hex(8)}"}
        self.machines: dict[str, str] = {}  # node id -> name, of those that were looked at
        self.resources: dict[str, float] = {}  # of a run
        self.folder: Path | None = None

    def agree(self, configs: Sequence[RunConfig], digest: str, jobs: int | None) -> int:
        jobs = self._divide(jobs, gpus=configs[0].requested.get("device") != "cpu")
        self.terms |= {"gpus": self.resources["num_gpus"] > 0, "versions": versions()}
        self.terms |= {"configs": [config.model_dump(mode="json") for config in configs], "digest": digest}
        if self.alone:
            return jobs
        for name, theirs in self._ask(_versions_there(), ANSWER):
            other = others(theirs, self.terms["versions"])
            if other:
                raise UserError(f"--ray: machine {name} has {other}: install the same versions on all")
        for name, against in self._ask(objection, LOOK, self.terms):
            if against:
                raise UserError(f"--ray: machine {name} cannot train the same: {against}")
        return jobs

    def _divide(self, jobs: int | None, gpus: bool) -> int:
        """Choose the machines, those with GPUs if any has one, and a run's share of them. Gives the number of runs."""
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        with_gpus = [node for node in nodes if gpus and node["Resources"].get("GPU", 0) >= 1]
        nodes, count = with_gpus or nodes, sum(int(node["Resources"]["GPU"]) for node in with_gpus)
        if not nodes:
            raise UserError("--ray: no machine of the cluster has a processor for a run (`ray status` shows them)")
        jobs = jobs or count or len(nodes)
        cores = min(node["Resources"]["CPU"] for node in nodes) / math.ceil(jobs / len(nodes))
        self.resources["num_cpus"] = math.floor(cores) if cores >= 1 else math.floor(cores * 100) / 100
        self.resources["num_gpus"] = math.floor(100 / math.ceil(jobs / count)) / 100 if count else 0
        self.machines = {node["NodeID"]: node["NodeManagerHostname"] for node in nodes}
        return jobs

    def begin(self, folder: Path, watcher: Watcher) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.terms["folder"] = str(self.folder)
        for old in self.folder.glob(".ray-*"):  # of a start that was killed; this one holds the folder's lock
            if TOKEN.fullmatch(old.name) and old.lstat().st_size == 0 and not old.is_dir():
                old.unlink()
        os.close(opened(self.folder, self.terms["token"], os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        answers = [(self.machines[one], True) for one in self.machines]
        if not self.alone:
            answers = list(self._ask(sees, ANSWER, self.terms["folder"], self.terms["token"]))
        apart = sum(not shared for _, shared in answers)
        how = (
            f"{apart} of them cannot write into it, and their run folders are brought back"
            if apart
            else "all write there"
        )
        many = f"{len(answers)} machine{'s' * (len(answers) > 1)}"
        watcher.notice(f"Ray has {many} for the runs of {self.folder}; {how}")

    def start(self, folder: Path, path: Path, arguments: Sequence[str], jobs: int) -> Process:
        return Remote(self, path, arguments)

    def actor(self, name: str) -> Any:
        """An actor for a run, which waits until a machine has room."""
        options = {**self.resources, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return self.ray.remote(Trainer).options(**options).remote(name)

    def end(self) -> None:
        """Take the token away."""
        if self.folder:
            with suppress(OSError):
                (self.folder / self.terms["token"]).unlink()

    def _ask(self, function: Any, seconds: float, *arguments: Any) -> list[tuple[str, Any]]:
        """What a function gives on each machine, with the machine's name. Raises UserError for one that fails."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        remote = self.ray.remote(function).options
        answers = {
            node: remote(num_cpus=0, max_retries=1, scheduling_strategy=On(node, soft=False)).remote(*arguments)
            for node in self.machines
        }
        found = []
        for node, answer in answers.items():
            name = self.machines[node]
            try:
                found.append((name, self.ray.get(answer, timeout=seconds)))
            except self.ray.exceptions.GetTimeoutError:
                raise UserError(f"--ray: machine {name} does not answer within {seconds:g} s") from None
            except self.ray.exceptions.RayError as error:
                raise UserError(f"--ray: machine {name} cannot run this gankit: {_in_short(error)}") from None
        return found


class Remote:
    """A run on a machine of the cluster, with what `Work` uses of a process."""

    def __init__(self, cluster: Cluster, path: Path, arguments: Sequence[str]) -> None:
        self.cluster, self.ray, self.path = cluster, cluster.ray, Path(os.path.abspath(path))
        self.arguments, self.place = list(arguments), str(path)
        self.returncode: int | None = None
        self.how = ""  # why the run is lost, in words
        self.shared: bool | None = None  # whether its machine sees the folder; None before it has begun
        self.known: dict[str, Stamp] = {}
        self.signal, self.next = 0, 0.0
        assert cluster.folder is not None
        self.actor = cluster.actor(self.path.relative_to(cluster.folder).as_posix())
        known = None if cluster.alone else list(cluster.machines)
        self.answer: Any = self.actor.begin.remote(cluster.terms, known)

    def send_signal(self, sig: int, /) -> None:
        self.signal, self.next = sig, 0.0  # at once, however long the last answer took to write
        if self.shared is None:  # nothing is trained yet
            self._over(-sig)

    def poll(self) -> int | None:
        if self.returncode is not None:
            return self.returncode
        if self.answer is None:
            if time.monotonic() > self.next:
                self.answer = self.actor.state.remote(self.signal, self.known)
                self.signal = 0
            return None
        if not self.ray.wait([self.answer], timeout=0)[0]:
            return None
        try:
            answer, self.answer = self.ray.get(self.answer), None
            if self.shared is None:
                self._begun(*answer)
            elif answer is not None:
                self._told(*answer)
        except self.ray.exceptions.RayTaskError as error:
            self._fails(_in_short(error))
        except self.ray.exceptions.RayError as error:
            self.how = f"its worker is lost ({_in_short(error)})"
            self._over(-signal.SIGKILL)
        except (UserError, OSError) as error:
            self._fails(str(error))
        return self.returncode

    def _begun(self, against: str, shared: bool) -> None:
        if against:
            self._fails(against)
            return
        self.shared = shared
        files = {} if shared else changed(self.path.parent, self.path.name, {})[0]
        self.known = {name: stamp for name, (stamp, _) in files.items()}
        self.answer = self.actor.train.remote(self.arguments, self.place, os.getcwd(), files)

    def _told(self, code: int | None, files: Any, gone: Sequence[str]) -> None:
        began = time.monotonic()
        if files or gone:
            below(self.path.parents[1], self.path.parent.name, make=True)
            received(self.path.parent, self.path.name, files, gone)
            self.known |= {name: stamp for name, (stamp, _) in files.items()}
            for name in gone:
                self.known.pop(name, None)  # a worker may name what never came
        ended = time.monotonic()
        self.next = 0.0 if self.signal else ended + max(ASKED, RESTS * (ended - began))
        if code is not None:
            with suppress(self.ray.exceptions.RayError):
                self.ray.get(self.actor.end.remote(), timeout=ANSWER)
            self._over(code)

    def _fails(self, why: str) -> None:
        """End the run, with the reason as the last line of its output."""
        with suppress(OSError, UserError):
            below(self.path.parents[1], self.path.parent.name, make=True)
            log = opened(self.path.parent, f"{self.path.name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with os.fdopen(log, "ab") as file:
                file.write(f"gankit: {why}\n".encode(errors="replace"))
        self._over(2)

    def _over(self, code: int) -> None:
        self.returncode = code
        self.ray.kill(self.actor)


def _versions_there() -> Any:
    """`worker.versions` as a function that travels whole: a machine without gankit has no module to look it up in."""

    def versions() -> dict[str, str]:
        from contextlib import suppress
        from importlib.metadata import PackageNotFoundError, version
        from platform import python_version

        found = {"Python": python_version(), "gankit": "", "torch": ""}
        for name in ("gankit", "torch"):
            with suppress(PackageNotFoundError):
                found[name] = version(name)
        return found

    return versions


def _in_short(error: BaseException) -> str:
    """The error of a task without its traceback."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()] or [""]
    return f"{type(cause).__name__}: {lines[0].strip().partition('. ')[0]}"[:300]
