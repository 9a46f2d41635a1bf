"""The figures of docs/evidence are those of the result files, and each table names its command.

A table whose figures a benchmark wrote has a comment above it: `<!-- figures of FILE.md -->`, in benchmarks/results,
with `but LABEL; LABEL` for rows that are from elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGES = sorted((ROOT / "docs" / "evidence").glob("*.md"))
MARK = re.compile(r"<!-- figures of ([\w., -]+?)(?: but (.*))? -->")
COMMAND = re.compile(
    r"\b(?:gankit (?:run|compare|evaluate|sweep)|python benchmarks/\w+\.py|make bench)\b|\bno command\b", re.I
)
RULE = re.compile(r"\|[-| :]+\|")


class Table(NamedTuple):
    """A table of a page: what stands above it, by the headings that it lies under, its own heading, and its rows."""

    page: str
    line: int
    above: str
    mark: re.Match[str] | None
    head: list[str]
    rows: list[list[str]]


def tables(page: str, text: str) -> Iterator[Table]:
    """The tables of a page."""
    lines, under = text.splitlines(), {0: ""}  # the text under each level of heading, so far
    for n, line in enumerate(lines):
        heading = re.match(r"(#+) ", line)
        if heading:
            under = {level: words for level, words in under.items() if level < len(heading[1])} | {len(heading[1]): ""}
        under[max(under)] += f"{line}\n"
        if RULE.fullmatch(line):
            before = "\n".join(lines[max(0, n - 3) : n - 1])
            body = []
            for row in lines[n + 1 :]:
                if not row.startswith("|"):
                    break
                body.append(cells(row))
            yield Table(page, n + 1, "".join(under.values()), MARK.search(before), cells(lines[n - 1]), body)


def cells(row: str) -> list[str]:
    """The cells of a row, without bold."""
    return [cell.strip().replace("*", "") for cell in row.strip().strip("|").split("|")]


def numbers(text: str) -> list[str]:
    """The numbers in a cell, without separators of thousands."""
    return [number.replace(",", "") for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)]


def same(told: str, found: str) -> bool:
    """Whether a figure is another one, rounded to as many decimals or fewer."""
    kept = len(told.partition(".")[2])
    return kept <= len(found.partition(".")[2]) and f"{float(found):.{kept}f}" == told


def wrong(table: Table) -> list[str]:
    """The rows of a marked table that are not in its result file."""
    assert table.mark
    names, but = table.mark.groups()
    elsewhere = [one.strip() for one in (but or "").split(";")]
    stored = [
        (one, row)
        for name in names.split(",")
        for one in tables(name, (RESULTS / name.strip()).read_text(encoding="utf-8"))
        if not Counter(table.head) - Counter(one.head)
        for row in one.rows
    ]
    known = {row[0] for _, row in stored}
    return [
        " ".join(row)
        for row in table.rows
        if row[0] not in elsewhere
        and not any(
            holds(row, under(table.head, one.head, other))
            for one, other in stored
            if row[0] == other[0] or row[0] not in known  # a page may have a better name for a row
        )
    ]


def under(head: list[str], other: list[str], row: list[str]) -> list[str]:
    """The cells of a row under a heading `other`, in the order of `head`; of equal names the first is the first."""
    places: list[int] = []
    for name in head:
        places.append(next(n for n, found in enumerate(other) if found == name and n not in places))
    return [row[n] if n < len(row) else "" for n in places]


def holds(row: list[str], stored: list[str]) -> bool:
    """Whether each cell but the first says what the stored one does: its figures in their order, or its words."""
    for told, found in zip(row[1:], stored[1:], strict=True):
        left = iter(numbers(found))
        if not all(any(same(number, one) for one in left) for number in numbers(told)):
            return False
        if not numbers(told) and told not in ("", found):
            return False
    return True


def of(page: Path) -> list[Table]:
    return list(tables(page.name, page.read_text(encoding="utf-8")))


EVERY = [table for page in PAGES for table in of(page)]
MARKED = [table for table in [*EVERY, *of(ROOT / "docs" / "measures.md")] if table.mark]
KEPT = {  # tables of each page that a result file holds, so that no comment is lost
    "collapse.md": 5, "ebgan.md": 2, "measures.md": 5, "models.md": 2, "pictures.md": 8, "speed.md": 6, "sweep.md": 2,
    "two-dimensional.md": 1,
}  # fmt: skip


@pytest.mark.parametrize("table", MARKED, ids=lambda table: f"{table.page}:{table.line}")
def test_the_figures_of_a_table_are_those_of_its_result_file(table: Table) -> None:
    assert wrong(table) == []


def test_no_table_loses_its_result_file() -> None:
    assert Counter(table.page for table in MARKED) == KEPT


def test_a_figure_that_is_another_one_is_seen() -> None:
    """Each figure of each marked table with its last digit changed, and each pair of neighbours exchanged."""
    tried, unseen = 0, []
    for table in MARKED:
        but = table.mark[2] or "" if table.mark else ""
        for row in table.rows:
            if row[0] in but:
                continue
            changes = []
            for place in range(1, len(row)):
                for match in re.finditer(r"\d+(?:,\d{3})*(?:\.\d+)?", row[place]):
                    other = f"{match[0][:-1]}{(int(match[0][-1]) + 3) % 10}"
                    cell = row[place][: match.start()] + other + row[place][match.end() :]
                    changes.append([*row[:place], cell, *row[place + 1 :]])
                if place > 1 and numbers(row[place - 1]) != numbers(row[place]) and numbers(row[place - 1]):
                    changes.append([*row[: place - 1], row[place], row[place - 1], *row[place + 1 :]])
            for changed in changes:
                tried += 1
                if not wrong(table._replace(rows=[changed])):
                    unseen.append((table.page, row, changed))
    assert tried > 1000
    assert unseen == []


@pytest.mark.parametrize("table", EVERY, ids=lambda table: f"{table.page}:{table.line}")
def test_a_table_names_its_command_or_says_that_there_is_none(table: Table) -> None:
    assert COMMAND.search(table.above), f"docs/evidence/{table.page}, line {table.line}"
