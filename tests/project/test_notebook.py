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


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, gankit_cache: Path) -> dict[str, list[Any]]:
    """What each cell put out, by its first line."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        done = nbclient.NotebookClient(
            read(), timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return {cell.source.splitlines()[0]: cell.outputs for cell in done.cells if cell.cell_type == "code"}


def shown(outputs: list[Any]) -> list[dict[str, str]]:
    return [output.data for output in outputs if "data" in output]


def test_a_training_shows_one_line_that_changes(outputs: dict[str, list[Any]]) -> None:
    (line,) = shown(outputs["import gankit"])
    assert line["text/plain"].startswith("step 500/500")
    printed = "".join(output.text for output in outputs["import gankit"] if output.output_type == "stream")
    assert "began on 450 items of demo:500" in printed


def test_a_run_and_pictures_are_drawn_below_their_cells(outputs: dict[str, list[Any]]) -> None:
    (run,) = shown(outputs["run"])
    assert "samples at step 500" in run["text/html"]
    drawn = [first for first, cell in outputs.items() for data in shown(cell) if "image/png" in data]
    assert [first.partition(" ")[0] for first in drawn] == ["import", "lines", "ways"]


def test_score_and_measures_stand_below_their_cells(outputs: dict[str, list[Any]]) -> None:
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
        nbclient.NotebookClient(broken, resources={"metadata": {"path": str(tmp_path)}}).execute()
