"""The notebook of the documentation runs from its first cell to its last in a kernel, as a reader runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install 'gankit[dev]'")
nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install 'gankit[dev]'")
pytest.importorskip("ipykernel", reason="no ipykernel: pip install 'gankit[dev]'")


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def run(notebook: Any, folder: Path) -> dict[str, list[Any]]:
    """What each cell puts out, by its first line. Raises for a cell that fails."""
    where = {"metadata": {"path": str(folder)}}
    done = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    return {cell.source.splitlines()[0]: cell.outputs for cell in done.cells if cell.cell_type == "code"}


def shown(outputs: list[Any]) -> list[dict[str, str]]:
    return [output.data for output in outputs if "data" in output]


def test_the_notebook_runs_and_shows_what_its_words_say(gankit_cache: Path, monkeypatch, tmp_path: Path) -> None:
    """In one test, because it takes most of a minute and workers share no fixture."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    outputs = run(read(), tmp_path)
    (line,) = shown(outputs["import gankit"])  # one line that changes
    assert line["text/plain"].startswith("step 500/500")
    printed = "".join(output.text for output in outputs["import gankit"] if output.output_type == "stream")
    assert "began on 450 items of demo:500" in printed
    assert "samples at step 500" in shown(outputs["run"])[0]["text/html"]
    drawn = [first for first, cell in outputs.items() for data in shown(cell) if "image/png" in data]
    assert [first.partition(" ")[0] for first in drawn] == ["import", "lines", "ways"]
    assert 0 <= float(shown(outputs["run.score()"])[0]["text/plain"]) <= 1
    (table,) = outputs["measured = run.evaluate(n=200)"]
    assert {"coverage", "recall", "copies"} <= {line.split()[0] for line in table.text.splitlines()}
    assert "report.html" in shown(outputs["run.report_path"])[0]["text/plain"]


def test_no_output_is_stored() -> None:
    assert all(not cell.outputs and cell.execution_count is None for cell in read().cells if cell.cell_type == "code")


def test_a_cell_that_fails_fails_the_test(tmp_path: Path) -> None:
    broken = read()
    broken.cells = [nbformat.v4.new_code_cell("import gankit\ngankit.runs")]
    with pytest.raises(nbclient.exceptions.CellExecutionError):
        run(broken, tmp_path)
