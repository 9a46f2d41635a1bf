"""Writes the figures of `make evidence` into docs/promises.md: python docs/figures.py JUNIT.xml...

A test records a figure with pytest's `record_property(what, figure)`: whole numbers of one name are added, and
`tried` beside `survived` of kills; other figures stand as they are.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

PAGE = Path(__file__).parent / "promises.md"
BEGIN, END = "<!-- figures: written by `make evidence` -->", "<!-- end of the figures -->"


def figures(paths: list[Path]) -> dict[str, str]:
    """The figures of these reports of pytest, by what they count."""
    numbers: dict[str, int] = {}
    told: dict[str, str] = {}
    passed = failed = 0
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            outcome = {child.tag for child in case}
            failed += bool(outcome & {"failure", "error"})
            passed += not outcome & {"failure", "error", "skipped"}
            for one in case.iter("property"):
                name, value = one.attrib["name"], one.attrib["value"]
                if value.isdigit():
                    numbers[name] = numbers.get(name, 0) + int(value)
                else:
                    told[name] = value
    kept = {}
    if "kills tried" in numbers:
        survived, tried = numbers.pop("kills survived", 0), numbers.pop("kills tried")
        kept["kills at a file operation: survived of tried"] = f"{survived:,} of {tried:,}"
    kept |= {name: f"{count:,}" for name, count in sorted(numbers.items())} | dict(sorted(told.items()))
    return kept | {"tests of these promises: passed of run": f"{passed:,} of {passed + failed:,}"}


def main(paths: list[Path]) -> None:
    rows = [f"| {what} | {figure} |" for what, figure in figures(paths).items()]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    head = [BEGIN, f"Measured on {date.today()}: {machine}.", "", "| what | figure |", "|---|---|"]
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    if not found:
        sys.exit(f"{PAGE} has no place for the figures: {BEGIN}")
    PAGE.write_text(before + "\n".join([*head, *rows, "", END]) + after, encoding="utf-8")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
