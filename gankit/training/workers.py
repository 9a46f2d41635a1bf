"""The other processes of a training in several: their start, their work, and their end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.config.schema import RunConfig
from gankit.data.batches import Batches
from gankit.data.decode import cores
from gankit.data.places import PicturesGone
from gankit.data.source import Data
from gankit.errors import TrainingError, UserError, in_one_line
from gankit.runs.launch import end_with
from gankit.training import checkpoint
from gankit.training.loop import step_once
from gankit.training.ranks import Over, Ranks, of_others, started_by_torchrun
from gankit.training.start import assemble, open_data, quiet_random
from gankit.training.state import Training
from gankit.training.watcher import Watcher

OWN = "GANKIT_WORKER"  # in the environment of a process that `--nproc` started: the id of process 0
DEVICE = "GANKIT_WORKER_DEVICE"  # and its device
JOINING = timedelta(minutes=5)  # an import of torch on a busy machine, and the cache of a large folder


class ProcessGone(TrainingError):
    """One of the other processes ended under a training that has a checkpoint."""


class Team:
    """Process 0 and the processes that it trains with."""

    def __init__(self, ranks: Ranks, workers: list[subprocess.Popen[bytes]], threads: int) -> None:
        """`threads`: how many this process has when it trains alone."""
        self.ranks, self.workers, self.threads = ranks, workers, threads

    def enlist(self, config: RunConfig, data: Data) -> None:
        """Let each process open the data. Raises `UserError` if one has other versions or pictures."""
        if config.batch_size < self.ranks.count:
            raise UserError(
                f"a batch of {config.batch_size} cannot be divided among {self.ranks.count} processes: use fewer, or a "
                "larger --batch-size"
            )
        told = {"config": config.model_dump(mode="json"), "digest": data.digest, "versions": _versions()}
        try:
            self.ranks.share_state(told, {})
            self.ranks.refuse()
        except RuntimeError as error:  # gloo's, where a process is gone
            raise UserError(f"nothing is trained: {self.lost() or in_one_line(error)}") from None

    def begin(self, training: Training) -> None:
        """Give every process the training's state, at the begin of an attempt."""
        told = {"config": training.config.model_dump(mode="json"), "state": checkpoint.state_of(training)}
        self.ranks.share_state(told, checkpoint.tensors_of(training))

    def lost(self, failure: BaseException | None = None) -> str:
        """What ended one of the processes, in words, or "". After a `failure` here: what that failure comes from."""
        for rank, worker in enumerate(self.workers, 1):
            with suppress(subprocess.TimeoutExpired):
                code = worker.wait(timeout=2)
                if failure and code >= 0 and not of_others(failure):
                    continue  # it has met the same error
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                return f"process {rank} of {self.ranks.count} ended ({how})"
        return ""

    def end(self, in_order: bool) -> None:
        """End the other processes: by a word `in_order`, when they wait for one, or else by force."""
        with suppress(RuntimeError):  # one of them may have ended by itself
            if in_order:
                self.ranks.share()
            else:
                for worker in self.workers:
                    worker.kill()
            dist.destroy_process_group()
        torch.set_num_threads(self.threads)
        for worker in self.workers:
            try:
                worker.wait(timeout=5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


@contextmanager
def team(count: int, device: str) -> Iterator[Team | None]:
    """The team of `count` processes on this machine, or that of torchrun; None for this process alone.

    Raises `UserError` for more processes than the machine has GPUs or cores.
    """
    if device == "mps" and (count > 1 or started_by_torchrun()):
        raise UserError("several processes train on CUDA GPUs or on cores, and not on Apple's GPU: give --device cpu")
    if started_by_torchrun():
        _use_gpu(device)
        one = Team(Ranks(device), [], torch.get_num_threads())
    elif count > 1:
        one = _started(count, device)
    else:
        yield None
        return
    try:
        yield one
    except BaseException:  # the others may be anywhere in a step
        one.end(in_order=False)
        raise
    one.end(in_order=True)


def _started(count: int, device: str) -> Team:
    there = torch.cuda.device_count() if device == "cuda" else cores()
    if count > there:
        what = "GPUs" if device == "cuda" else "cores"
        raise UserError(f"--nproc {count}: this machine has {there} {what}")
    before = torch.get_num_threads()
    threads = max(1, before // count)
    if device == "cpu":
        torch.set_num_threads(threads)
    store = dist.TCPStore("127.0.0.1", 0, count, is_master=True, wait_for_workers=False, timeout=JOINING)
    workers = []
    for rank in range(1, count):
        own: dict[str, object] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "OMP_NUM_THREADS": threads}
        own |= {OWN: os.getpid(), DEVICE: device, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        workers.append(
            subprocess.Popen(  # in a session of its own: Ctrl-C is for process 0; -P: no module of the current folder
                [sys.executable, "-P", "-c", "from gankit.training.workers import serve; serve()"],
                env=os.environ | {name: str(value) for name, value in own.items()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
    _use_gpu(device)
    try:
        _await(store, workers)
        return Team(Ranks(device, store, 0, count), workers, before)
    except BaseException:
        for worker in workers:
            worker.kill()
            worker.wait()
        torch.set_num_threads(before)
        raise


def _await(store: dist.Store, workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until every process has come. Raises `UserError` if one has ended, or does not come."""
    latest = time.monotonic() + JOINING.total_seconds()
    for rank, worker in enumerate(workers, 1):
        while not store.check([f"came/{rank}"]):
            if worker.poll() is not None or time.monotonic() > latest:
                raise UserError(
                    f"process {rank} of {len(workers) + 1} did not start: nothing is trained; try it without --nproc"
                )
            time.sleep(0.05)


def serve(device: str | None = None) -> None:
    """Work as one of the other processes until process 0 ends the team, or is gone. `device`: as asked for."""
    _ignore("SIGINT", "SIGHUP")  # process 0 decides
    device = os.environ.get(DEVICE, device or "auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    store = None
    if OWN in os.environ:
        port, count = int(os.environ["MASTER_PORT"]), int(os.environ["WORLD_SIZE"])
        threading.Thread(target=end_with, args=(int(os.environ[OWN]),), daemon=True).start()
        store = dist.TCPStore(os.environ["MASTER_ADDR"], port, count, is_master=False, timeout=JOINING)
        store.set(f"came/{os.environ['RANK']}", "")
    try:
        _use_gpu(device)
        ranks = Ranks(device, store, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        _ignore("SIGTERM")  # before the training it ends this process: torchrun sends it where process 0 refuses
        _Worker(ranks).work()
    except Over:
        return
    except Exception as error:
        if not of_others(error):
            logging.getLogger(__name__).error("gankit: process %s: %s", os.environ["RANK"], in_one_line(error))
        os._exit(1)  # at once: process 0 waits for this process


def _ignore(*signals: str) -> None:
    for name in signals:
        with suppress(AttributeError, ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class _Worker:
    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.opened: tuple[Catalogue, Data] | None = None

    def work(self) -> None:
        while (received := self.ranks.receive_state()) is not None:
            told, tensors = received
            config = RunConfig(**told["config"])
            if "state" not in told:
                self._enlist(config, told)
                continue
            training, batches = self._assembled(config, told["state"], tensors)
            with quiet_random(config.device):
                while self.ranks.go_on():
                    with suppress(PicturesGone):  # process 0 meets it at the same step, saves, and says what follows
                        step_once(training, batches, self.ranks)

    def _enlist(self, config: RunConfig, told: dict[str, Any]) -> None:
        objection = ""
        try:
            here = _versions()
            other = [
                f"{name} {here[name]} and not {told['versions'][name]}"
                for name in here
                if here[name] != told["versions"].get(name)
            ]
            if other:
                raise UserError(f"it has {', '.join(other)}")
            catalogue = Catalogue(config.plugins)
            data = open_data(config, catalogue, Watcher())
            if data.digest != told["digest"]:
                raise UserError(f"it finds other pictures in {config.data}")
            self.opened = catalogue, data
        except (UserError, TrainingError) as error:
            objection = str(error)
        self.ranks.refuse(objection)

    def _assembled(
        self, config: RunConfig, state: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> tuple[Training, Batches]:
        assert self.opened is not None
        catalogue, data = self.opened
        training, batches = assemble(config, data, catalogue)
        checkpoint.put(state, tensors, training)
        return training, batches


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("gankit", "torch")}


def _use_gpu(device: str) -> None:
    if device == "cuda":
        number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= there:
            raise UserError(f"there is no GPU for process {number}: this machine has {there}, so start {there} at most")
        torch.cuda.set_device(number)
