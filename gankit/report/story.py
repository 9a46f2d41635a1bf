"""The content of a run folder for a report. Unreadable parts are named, and raise no error."""

from __future__ import annotations

import io
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gankit import files
from gankit.errors import UserError
from gankit.files import Unreachable
from gankit.options import Curve
from gankit.report.curves import Columns, Panel, Series, panels, series_of
from gankit.runs.folder import RunFolder, record_of
from gankit.runs.score import Looks

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Story:
    """The content of a run folder; `missing` says in words what is missing or damaged."""

    run: RunFolder
    config: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    result: dict[str, Any]
    series: dict[str, Series]  # every number of metrics.jsonl, by its key
    ends: Mapping[int, float]  # those of `Columns`
    metrics: list[dict[str, Any]]  # of its lines those that `runs.score.Looks` keeps
    alarms: list[dict[str, Any]]
    readings: list[dict[str, Any]]
    samples: list[tuple[int, Path]]
    results: list[dict[str, Any]] = field(default_factory=list)  # outcomes of rescues
    missing: list[str] = field(default_factory=list)
    until: int | None = None  # the last step that was read; None for all

    @property
    def model(self) -> str:
        """The model's name, or "" where config.json has none."""
        return str(mapping(self.config.get("model")).get("name") or "")

    @cached_property
    def panels(self) -> list[Panel]:
        """The series in panels."""
        return panels(self.series, self.model)


def read(run: RunFolder, until: int | None = None) -> Story:
    """Read a run folder, also with absent, half-written or damaged files. `until`: the last step to read of it."""
    missing: list[str] = []
    looks = Looks(run.checkpoints())
    last = float("inf") if until is None else until

    def up_to(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (line for line in lines if line["step"] <= last)

    columns = Columns(looks.see(up_to(_lines(run, run.metrics_path, missing))))
    config = _object(lambda: run.config, "config.json", missing)
    environment = _object(lambda: run.environment, "environment.json", missing)
    story = Story(
        run=run,
        config=config,
        environment=environment,
        data=_object(lambda: run.data, "data.json", missing),
        # Absent while the run goes on; the summary says so.
        result=_object(lambda: run.result, "result.json", missing, may_be_absent=True) if until is None else {},
        series=series_of(columns, _curves(environment)),
        ends=columns.ends,
        metrics=looks.lines,
        alarms=list(up_to(read_lines(run, run.alarms_path, missing))),
        results=list(up_to(read_lines(run, run.rescues_path, missing))),
        readings=list(up_to(read_lines(run, run.readings_path, missing))),
        samples=[one for one in run.samples() if one[0] <= last],
        until=until,
        missing=missing,
    )
    if not story.metrics:
        missing.append("metrics.jsonl has no lines yet, so there are no curves")
    if not story.samples:
        missing.append("there are no samples yet")
    return story


def _curves(environment: dict[str, Any]) -> dict[str, Curve]:
    """How to draw metrics, by name, from their providers. Invalid entries are left out."""
    curves: dict[str, Curve] = {}
    for metric, entry in mapping(environment.get("curves")).items():
        with suppress(ValidationError):  # another version may allow more values
            curves[metric] = Curve(**{key: one for key, one in mapping(entry).items() if key in Curve.model_fields})
    return curves


def read_lines(run: RunFolder, path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """The objects of a .jsonl file that have a step; damaged lines are left out and counted in `missing`."""
    return list(_lines(run, path, missing))


def _lines(run: RunFolder, path: Path, missing: list[str]) -> Iterator[dict[str, Any]]:
    damaged = 0
    try:
        for line in files.read_lines(run.folder, path):
            entry = record_of(line)
            if entry is None:
                damaged += 1
            else:
                yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        missing.append(f"{path.name} cannot be read: {error.strerror}")
    except UserError as error:
        missing.append(str(error))
    if damaged:
        missing.append(f"{path.name}: {damaged:,} damaged {'line was' if damaged == 1 else 'lines were'} left out")


def picture(run: RunFolder, path: Path, kind: str = "PNG") -> Image.Image:
    """A picture of that format, of at most 89 million pixels, from the run folder. Raises OSError for any other file.

    A grid of 64 pictures of 1,024 × 1,024 has 67 million.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(run.read(path)), formats=[kind])
    except (UserError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(str(error)) from None


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def _object(get: Callable[[], Any], name: str, missing: list[str], may_be_absent: bool = False) -> dict[str, Any]:
    try:
        value = get()
    except Unreachable as error:
        missing.append(str(error))
        return {}
    except (UserError, OSError, ValueError):
        missing.append(f"{name} is damaged")
        return {}
    if not isinstance(value, dict):
        missing.append(f"{name} is damaged")
        return {}
    if not value and not may_be_absent:
        missing.append(f"{name} is missing or empty")
    return value


def evenly(samples: list[tuple[int, Path]], count: int) -> list[tuple[int, Path]]:
    """At most `count` of the samples (sorted by step): evenly in steps, with the first and the last."""
    if len(samples) <= count:
        return samples
    if count <= 1:
        return samples[-1:] if count == 1 else []
    steps = [step for step, _ in samples]
    first, last = steps[0], steps[-1]
    chosen = set()
    for n in range(count):
        target = first + (last - first) * n / (count - 1)
        after = min(bisect_left(steps, target), len(steps) - 1)
        before = max(after - 1, 0)
        chosen.add(before if target - steps[before] < steps[after] - target else after)
    return [samples[n] for n in sorted(chosen)]
