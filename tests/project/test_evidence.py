"""The figures of docs/evidence are those of the result files, and each table names its command.

A table whose figures a benchmark wrote has a comment above it: `<!-- figures of FILE.md -->`, in benchmarks/results,
with `but LABEL; LABEL` for rows that are from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    """A table of a page: what stands above it, by the headings that it lies under, and its rows."""

    page: str
    line: int
    above: str
    mark: re.Match[str] | None
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
            yield Table(page, n + 1, "".join(under.values()), MARK.search(before), body)


def cells(row: str) -> list[str]:
    """The cells of a row, without bold."""
    return [cell.strip().replace("*", "") for cell in row.strip().strip("|").split("|")]


def numbers(text: str) -> list[str]:
    """The numbers in a cell, without separators of thousands."""
    return [number.replace(",", "") for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)]


def label(row: list[str]) -> tuple[str, ...]:
    """The cells before the first one that is a figure."""
    figure = next((n for n, cell in enumerate(row) if n and re.match(r"[\d−+(]", cell)), len(row))
    return tuple(row[:figure])


def same(told: str, found: str) -> bool:
    """Whether a figure is another one, rounded to as many decimals or fewer."""
    kept = len(told.partition(".")[2])
    return kept <= len(found.partition(".")[2]) and f"{float(found):.{kept}f}" == told


def wrong(table: Table) -> list[str]:
    """The rows of a marked table that are not in its result file."""
    assert table.mark
    names, but = table.mark.groups()
    files = [RESULTS / name.strip() for name in names.split(",")]
    told = [row for row in table.rows if row[0] not in [one.strip() for one in (but or "").split(";")]]
    stored = [cells(line) for file in files for line in file.read_text().splitlines() if line.startswith("|")]
    labels = {label(row) for row in stored}
    return [
        " ".join(label(row))
        for row in told
        if not any(holds(row, other) for other in stored if label(row) not in labels or label(other) == label(row))
    ]


def holds(row: list[str], stored: list[str]) -> bool:
    """Whether each figure of a row is one of a row of the result file, each of those taken once."""
    left = [number for cell in stored[len(label(stored)) :] for number in numbers(cell)]
    for cell in row[len(label(row)) :]:
        for number in numbers(cell):
            found = next((one for one in left if same(number, one)), None)
            if found is None:
                return False
            left.remove(found)
    return True


EVERY = [table for page in PAGES for table in tables(page.name, page.read_text(encoding="utf-8"))]
MARKED = [table for table in EVERY if table.mark]


@pytest.mark.parametrize("table", MARKED, ids=lambda table: f"{table.page}:{table.line}")
def test_the_figures_of_a_table_are_those_of_its_result_file(table: Table) -> None:
    assert wrong(table) == []


def test_a_figure_that_is_another_one_is_seen() -> None:
    """Each figure of each marked table, with its last digit changed."""
    assert {table.page for table in MARKED} >= {"speed.md", "two-dimensional.md", "models.md", "collapse.md"}
    tried, unseen = 0, []
    for table in MARKED:
        but = table.mark[2] or "" if table.mark else ""
        for n, row in enumerate(table.rows):
            first = len(label(row))
            for place in range(first, len(row)):
                digits = [match for match in re.finditer(r"\d+(?:,\d{3})*(?:\.\d+)?", row[place])]
                for match in digits if row[0] not in but else ():
                    other = f"{match[0][:-1]}{(int(match[0][-1]) + 3) % 10}"
                    cell = row[place][: match.start()] + other + row[place][match.end() :]
                    changed = [*row[:place], cell, *row[place + 1 :]]
                    tried += 1
                    if not wrong(table._replace(rows=[*table.rows[:n], changed])):
                        unseen.append((table.page, row, other))
    assert tried > 100
    assert unseen == []


@pytest.mark.parametrize("table", EVERY, ids=lambda table: f"{table.page}:{table.line}")
def test_a_table_names_its_command_or_says_that_there_is_none(table: Table) -> None:
    assert COMMAND.search(table.above), f"docs/evidence/{table.page}, line {table.line}"
