"""A training in several processes is the training in one: the same steps, one writer, and no end by a lost process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import DATA, SMALL, STRANGER, TINY, Gankit, contents, lines, process, read, refused
from torch import Tensor

from gankit import Judged, UserError, api
from gankit.training.ranks import _Divided, of_others
from gankit.training.workers import ProcessGone

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores"),
]
ROOT = Path(__file__).resolve().parents[2]

# Each process takes three steps alone, and each of them again divided from the same state. It tells the largest
# difference of the readings and buffers, and that of a network's gradient over its length.
STEPS = """
import json, sys
import torch
import torch.distributed as dist
from gankit.api import prepare
from gankit.catalogue import Catalogue
from gankit.training import checkpoint
from gankit.training.loop import step_once
from gankit.training.ranks import Ranks
from gankit.training.start import assemble

rank, count, port, cases = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(1)
ranks = Ranks("cpu", dist.TCPStore("127.0.0.1", port, count, is_master=rank == 0), rank, count)

def gradients(training):
    return {name: torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
            for name, net in training.networks.items()}

def buffers(training):
    return [b.double() for net in training.networks.values() for b in net.buffers()]

told = []
for model, plugins, options in cases:
    config, data, alone = prepare(model, "demo:40", plugins=plugins, image_size=16, precision="fp32", device="cpu",
                                  **{"batch_size": 8, **options})
    (alone, batches), (divided, _) = (assemble(config, data, Catalogue(plugins)) for _ in range(2))
    values, slopes = [], []
    for _ in range(3):
        tensors = {name: {key: t.clone() for key, t in table.items()}
                   for name, table in checkpoint.tensors_of(alone).items()}
        checkpoint.put(checkpoint.state_of(alone), tensors, divided)
        one, many = step_once(alone, batches), step_once(divided, batches, ranks)
        values += [abs(float(one[name] - many[name])) for name in one if name in many]
        ours, theirs = gradients(alone), gradients(divided)
        slopes += [float((ours[name] - theirs[name]).norm() / ours[name].norm()) for name in ours]
        values += [float((a - b).abs().max()) for a, b in zip(buffers(alone), buffers(divided)) if a.numel()]
    told.append([max(values), max(slopes)])
print(json.dumps(told))
"""
CASES = {
    "began": ("began", [], {"filters": 4}),
    "began with all that looks at pairs": (
        "began",
        [],
        {"filters": 4, "losses": {"pulling-away": 0.1, "energy-distance": 1, "imle": 1}, "views": ["augment"]},
    ),
    "ebgan": ("ebgan", [], {"filters": 4}),
    "parts of one picture": ("began", [], {"filters": 4, "batch_size": 3}),
    "penalties on slopes": ("r3gan", [str(ROOT / "examples/plugins/r3gan")], {}),
    "a penalty on a slope between": ("wgan-gp", [str(ROOT / "examples/plugins/wgan-gp")], {}),
}


def free_port() -> int:
    import socket

    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("count", [2, 3], ids=["2 processes of 4", "3 processes of 3, 3 and 2"])
def test_a_step_of_several_processes_is_that_of_one_to_1e_5(count: int, tmp_path: Path) -> None:
    """Losses, terms with memory, batch normalisation and its running statistics, gradients of gradients: float32."""
    (tmp_path / "steps.py").write_text(STEPS)
    port = free_port()
    command = [sys.executable, str(tmp_path / "steps.py")]
    arguments = (str(count), str(port), json.dumps(list(CASES.values())))
    several = [
        subprocess.Popen([*command, str(rank), *arguments], stdout=subprocess.PIPE, text=True) for rank in range(count)
    ]
    for one in several:
        told = one.communicate(timeout=300)[0]
        assert one.returncode == 0
        differences = dict(zip(CASES, json.loads(told), strict=True))
        for values, slopes in differences.values():
            assert values < 1e-5, differences
            assert slopes < 1e-3, differences  # a critic's is the small difference of large ones


class Alike:
    """Process 0 of two that compute the same."""

    rank, count = 0, 2

    def sizes(self, n: int) -> list[int]:
        return [n // 2] * 2

    def part(self, whole: Tensor) -> Tensor:
        return whole[: len(whole) // 2].clone()

    def whole(self, part: Tensor, n: int) -> Tensor:
        return torch.cat([part, part])


class Pair(NamedTuple):
    score: Tensor
    code: Tensor | None


def divided(network: Callable[..., Any]) -> Callable[..., Any]:
    return _Divided(network, Alike(), (0,), itertools.count())  # type: ignore[arg-type]


def test_all_that_a_network_gives_is_put_together_whatever_holds_it() -> None:
    x = torch.arange(8.0).view(4, 2)
    both = torch.cat([x[:2], x[:2]])
    found = divided(lambda items, label: {"maps": [items, Pair(2 * items, label), Judged(3 * items)], "n": 3})(x, None)
    same, pair, judged = found["maps"]
    assert torch.equal(same, both)
    assert torch.equal(pair.score, 2 * both)
    assert torch.equal(judged.output, 3 * both)
    assert (pair.code, judged.code, found["n"]) == (None, None, 3)


@pytest.mark.parametrize("network", [lambda x: torch.cat([x, -x]), lambda x: [x.mean()]], ids=["two rows", "none"])
def test_what_has_no_row_for_each_item_is_refused(network: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="of 2 items: several processes need one row for each item"):
        divided(network)(torch.zeros(4, 2))


@pytest.mark.parametrize(
    "words",
    [
        "[../third_party/gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:4999",
        "writev [127.0.0.1]:4999: Broken pipe",
        "Timed out waiting 1800000ms for recv operation to complete",
        "Application timeout caused pair closure",
    ],
)
def test_what_gloo_says_of_a_lost_process_is_told_from_an_error_of_ones_own(words: str) -> None:
    assert of_others(RuntimeError(words))
    assert not of_others(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
    assert not of_others(ValueError(words))


FAILS = """
import gankit

class Fails(gankit.LossTerm):
    name, summary, network = "fails", "it fails at step 3", "generator"

    def __call__(self, step):
        if step.number == 3:
            raise RuntimeError("mat1 and mat2 do not fit")
        return step.fake.mean()

@gankit.hookimpl
def gankit_losses():
    return [Fails]
"""


def test_an_error_of_a_plugin_is_no_loss_of_a_process(gankit: Gankit, tmp_path: Path) -> None:
    """It comes in every process, so that new processes would only meet it again."""
    (tmp_path / "fails.py").write_text(FAILS)
    said = gankit("run", "began", *TINY, "--nproc", 2, "--plugin", "fails.py", "--loss", "fails=1", "--out", "run")
    assert (said.code, "new ones" in said.out) == (1, False)
    (line,) = said.err.splitlines()
    assert "the training failed after step 2: RuntimeError: mat1 and mat2 do not fit" in line
    assert "mat1 and mat2" in (tmp_path / "run/traceback.txt").read_text()


def test_a_run_of_two_processes_has_one_writer_and_the_numbers_of_one(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--out", "one").code == 0
    said = gankit("run", "began", *TINY, "--nproc", 2, "--out", "two")
    assert (said.code, said.err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [line["step"] for line in two] == [1, 2, 3, 4, 5, 6]
    for alone, divided in zip(one, two, strict=True):
        assert alone.keys() == divided.keys()
        for name in alone.keys() - {"seconds", "images_per_second"}:
            assert divided[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-5), name


def test_a_run_goes_on_with_another_number_of_processes(gankit: Gankit, tmp_path: Path) -> None:
    assert gankit("run", "began", *TINY, "--out", "run").code == 0
    assert gankit("resume", "run", "--steps", 9, "--nproc", 2).code == 0
    assert gankit("resume", "run", "--steps", 12).code == 0
    assert gankit("run", "began", *TINY, "--steps", 12, "--out", "whole").code == 0
    whole, pieces = lines(tmp_path / "whole")[-1], lines(tmp_path / "run")[-1]
    assert pieces["step"] == 12
    assert pieces["loss/discriminator"] == pytest.approx(whole["loss/discriminator"], rel=1e-3)


def children(of: int) -> list[int]:
    table = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(of)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in table.splitlines() if "workers import serve" in line]


def test_a_killed_process_is_replaced_and_the_training_ends_as_without_its_loss(tmp_path: Path) -> None:
    command = ("run", "began", *DATA, *SMALL, "--log-every", 1, "--steps", 60, "--checkpoint-every", 10)
    training = process(*command, "--nproc", 2, "--out", "run", cwd=tmp_path)
    deadline = time.monotonic() + 200
    while not (tmp_path / "run/checkpoints/000010").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (worker,) = children(training.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = training.communicate(timeout=300)
    assert (training.returncode, err) == (0, "")
    assert "goes on from the last checkpoint" in out
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 61))
    assert read(tmp_path / "run/result.json")["outcome"] == "finished"


def test_a_training_whose_processes_end_again_and_again_ends_in_one_line(
    gankit: Gankit, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    def go(*_: object, **__: object) -> None:
        starts.append(1)
        raise ProcessGone("process 1 of 2 ended (SIGKILL)")

    monkeypatch.setattr(api, "go", go)
    said = gankit("run", "began", *TINY, "--plugin", STRANGER / "planted.py", "--out", "two words")
    assert said.code == 1
    assert len(starts) == 1 + api.RESTARTS
    (line,) = said.err.splitlines()
    assert "ended 4 times" in line
    assert f"gankit resume 'two words' --plugin {STRANGER / 'planted.py'}" in line
    assert said.out.count("it goes on from the last checkpoint with new ones") == api.RESTARTS


def test_after_the_death_of_the_first_process_the_others_end(tmp_path: Path) -> None:
    training = process("run", "began", *DATA, *SMALL, "--steps", 5000, "--nproc", 2, "--out", "run", cwd=tmp_path)
    deadline = time.monotonic() + 200
    while not (tmp_path / "run/checkpoints/000000").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (worker,) = children(training.pid)
    training.kill()
    training.communicate()
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}")


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.slow
def test_torchrun_starts_the_same_training(tmp_path: Path) -> None:
    command = [sys.executable, *TORCHRUN, "-m", "gankit", "run", "began", *map(str, TINY), "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert done.stdout.count("finished at step 6") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_goes_on_from_the_last_checkpoint_after_the_loss_of_a_process(tmp_path: Path, rank: int) -> None:
    command = ("run", "began", *DATA, *SMALL, "--log-every", 1, "--steps", 60, "--checkpoint-every", 10, "--out", "run")
    torchrun = [sys.executable, *TORCHRUN, "--max-restarts", "1", "-m", "gankit", *map(str, command)]
    with subprocess.Popen(
        torchrun, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as training:
        deadline = time.monotonic() + 200
        while not (tmp_path / "run/checkpoints/000010").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        found = subprocess.run(["pgrep", "-P", str(training.pid)], capture_output=True, text=True).stdout.split()
        (lost,) = [
            int(pid) for pid in found if f"\0RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text(errors="replace")
        ]
        os.kill(lost, signal.SIGKILL)
        out, err = training.communicate(timeout=300)
    assert training.returncode == 0, err
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 61))
    assert read(tmp_path / "run/result.json")["outcome"] == "finished"
    assert "killed" not in out  # the restart is torchrun's to tell


ENDS = """
import os
import gankit

@gankit.hookimpl
def gankit_run_finished(run, result):
    if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        os._exit(9)
"""


@pytest.mark.slow
def test_a_restart_by_torchrun_of_a_run_that_is_finished_ends(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS)
    command = ["-m", "gankit", "run", "began", *map(str, TINY), "--plugin", "ends.py", "--out", "run"]
    torchrun = [sys.executable, *TORCHRUN, "--max-restarts", "1", *command]
    done = subprocess.run(torchrun, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "run/result.json")["outcome"] == "finished"


@pytest.fixture
def restart(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the next commands be starts by a job of torchrun that has restarted its processes once."""

    def by(job: str) -> None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")

    return by


def test_a_restart_by_torchrun_touches_no_run_that_its_job_has_not_begun(
    gankit: Gankit, tmp_path: Path, restart: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gankit("run", "began", *TINY, "--out", "alone").code == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "first")
    assert gankit("run", "began", *TINY, "--out", "of-first").code == 0
    before = contents(tmp_path)
    restart("second")
    for folder in ("alone", "of-first"):
        refused(gankit("run", "began", *TINY, "--steps", 12, "--out", folder), folder, "exists")
    restart("none")  # as all are called that were given no name
    refused(gankit("run", "began", *TINY, "--steps", 12, "--out", "of-first"), "of-first", "exists")
    assert contents(tmp_path) == before


def test_a_restart_by_torchrun_goes_on_with_its_own_run_but_not_after_an_alarm(
    gankit: Gankit, tmp_path: Path, restart: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("run", "began", *TINY, "--out", "run")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    assert gankit(*asked).code == 0
    (tmp_path / "run/result.json").unlink()  # as after a kill
    restart("job")
    said = gankit(*asked)
    assert (said.code, "is at step 6 already" in said.out) == (0, True)
    result = read(tmp_path / "run/result.json")
    stopped = {"outcome": "stopped", "reason": "alarm", "healthy": 6}
    (tmp_path / "run/result.json").write_text(json.dumps(result | stopped))
    before = contents(tmp_path / "run")
    assert gankit(*asked).code == 3
    assert gankit("resume", "run", "--steps", 12).code == 3
    assert contents(tmp_path / "run") == before


def test_with_a_time_limit_a_lost_process_costs_no_second_limit(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []
    go = api.go

    def lost_once(run: Any, training: Any, *rest: Any, **named: Any) -> None:
        limits.append(training.config.time)
        go(run, training, *rest, **named)
        if len(limits) == 1:
            raise ProcessGone("process 1 of 2 ended (SIGKILL)")

    monkeypatch.setattr(api, "go", lost_once)
    assert gankit("run", "began", *TINY[:-4], "--time", "3s", "--out", "run").code == 0
    first, then = limits
    assert first == 3
    assert then < 1


def test_a_process_that_does_not_start_ends_the_command_in_one_line(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gankit.training.workers.sys.executable", "/bin/false")
    refused(gankit("run", "began", *TINY, "--nproc", 2), "process 1 of 2 did not start")
    assert list(tmp_path.iterdir()) == []


# Refusals.


def test_what_cannot_be_divided_is_refused_before_anything_is_written(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(gankit("run", "began", *TINY, "--nproc", 999), "--nproc 999", "cores")
    refused(
        gankit("run", "began", *TINY, "--preset", "paper", "--batch-size", 1, "--nproc", 2), "batch of 1", "2 processes"
    )
    assert gankit("run", "began", *TINY, "--out", "run").code == 0
    before = contents(tmp_path)
    refused(gankit("resume", "run", "--steps", 9, "--out", "new", "--nproc", 999), "--nproc 999", "cores")
    assert contents(tmp_path) == before
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setattr("gankit.training.workers._versions", lambda: {"gankit": "0.0.1", "torch": "1.0"})
    refused(gankit("run", "began", *TINY, "--nproc", 2), "process 1 of 2 cannot train", "and not 0.0.1")
    assert list(tmp_path.iterdir()) == []
