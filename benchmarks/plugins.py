"""The cost of plugins: the start of a command with 50 of them, and the time from `plugins new` to a first sample grid.

    python benchmarks/plugins.py [--save]

Each installed plugin is a package with an entry point and a model, like any other plugin. Seconds are processor
time (user and system), the minimum of several starts, so that other programs on the machine hardly count.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from speed import commit, machine, save

PLUGINS = 50
STARTS = 5
COMMANDS = (("--help",),)  # it lists the commands of all plugins
CODE = '''"""A stranger's plugin."""

from gankit import hookimpl

GANKIT_HOOKS = 1


@hookimpl
def gankit_models():
    from stranger_{n}.model import Mine

    return [Mine]
'''
MODEL = '''import gankit
from gankit_began.model import BEGAN


class Mine(BEGAN):
    """BEGAN by another name."""

    name = "stranger-{n}"
'''


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder) / "site"
        install(many, PLUGINS)
        rows = [(" ".join(("gankit", *command)), *starts(command, many)) for command in COMMANDS]
        wall, spent, steps = to_a_first_grid(Path(folder))
    lines = [
        f"{machine()}. Commit: {commit()}.",
        "",
        f"With {PLUGINS} installed plugins, the least of {STARTS} starts, seconds of the processor:",
        "",
        "| command | none | 50 plugins | more |",
        "|---|---|---|---|",
        *[f"| `{name}` | {few:.3f} s | {lot:.3f} s | {1000 * (lot - few):.0f} ms |" for name, few, lot in rows],
        "",
        f"From `gankit plugins new` to the sample grid of step {steps} of `gankit run fresh --data demo`, all at its "
        f"defaults: {spent:.0f} s of the processor, {wall:.0f} s by the clock.",
    ]
    print("\n".join(lines))
    if "--save" in sys.argv[1:]:
        save("Plugins", "-plugins", lines)


def install(site: Path, n: int) -> None:
    """Packages with an entry point each, as pip installs them."""
    for i in range(n):
        package, metadata = site / f"stranger_{i}", site / f"stranger_{i}-1.0.dist-info"
        package.mkdir(parents=True)
        metadata.mkdir()
        (package / "__init__.py").write_text(CODE.format(n=i), encoding="utf-8")
        (package / "model.py").write_text(MODEL.format(n=i), encoding="utf-8")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stranger-{i}\nVersion: 1.0\n", "utf-8")
        (metadata / "entry_points.txt").write_text(f"[gankit]\nstranger-{i} = stranger_{i}\n", encoding="utf-8")


def starts(command: tuple[str, ...], site: Path) -> tuple[float, float]:
    """Processor seconds without and with the plugins, turn by turn."""
    path = os.environ.get("PYTHONPATH", "")
    found: dict[str, list[float]] = {path: [], os.pathsep.join([str(site), path]): []}
    for _ in range(STARTS + 1):  # the first fills the caches of the disk and of Python
        for where, seconds in found.items():
            seconds.append(spend([sys.executable, "-m", "gankit", *command], where))
    few, many = (min(seconds[1:]) for seconds in found.values())
    return few, many


def spend(command: list[str], path: str, cwd: Path | None = None) -> float:
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def to_a_first_grid(folder: Path) -> tuple[float, float, int]:
    """Wall seconds, the processor's, and the step of the first grid after training."""
    began, steps = time.perf_counter(), 250  # the default of sample_every
    path = os.environ.get("PYTHONPATH", "")
    cold = os.pathsep.join([str(folder / "fresh"), path])
    spent = spend([sys.executable, "-m", "gankit", "plugins", "new", "fresh"], path, folder)
    install_one(folder / "fresh")
    os.environ["GANKIT_CACHE"] = str(folder / "cache")  # an empty cache: the demo's pictures are drawn anew
    run = [sys.executable, "-m", "gankit", "run", "fresh", "--data", "demo", "--steps", str(steps), "--out", "run"]
    spent += spend(run, cold, folder)
    grid = folder / "run" / "samples" / f"{steps:06d}.png"
    assert grid.exists()
    return time.perf_counter() - began, spent, steps


def install_one(folder: Path) -> None:
    """The entry point that `pip install -e` would write."""
    metadata = folder / "fresh-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fresh\nVersion: 0.1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[gankit]\nfresh = fresh\n", encoding="utf-8")


if __name__ == "__main__":
    main()
