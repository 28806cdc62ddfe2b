from pathlib import Path

import nbformat
import pytest
from analysis_runs import four_trials, write_run
from nbclient import NotebookClient

import analysis

NOTEBOOK = Path(analysis.__file__).parent / "pareto.ipynb"


@pytest.mark.parametrize("own_run", [False, True], ids=["the shipped run", "a run of one's own"])
def test_the_notebook_runs_from_top_to_bottom(
    own_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("FLOPWISE_RUN", raising=False)
    if own_run:
        monkeypatch.setenv("FLOPWISE_RUN", str(write_run(tmp_path / "mine", four_trials())))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    # Of four trials the importances are left out.
    assert len(shown) == (5 if own_run else 6)
    message = "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )
    assert message.count("Trial ") == 4
    # Neither run has its images here.
    assert "Per-class results are unavailable: " in message
    assert " instead of " in message
    recipe = next(cell for cell in notebook.cells if "recipe_table" in cell.source[:30])
    table = recipe.outputs[0].data["text/plain"]
    assert "Recipe(" not in table
    assert "learning rate" in table
    if own_run:
        assert "knee: Trial 1 (90.0 % accuracy at 0.100 effective GFLOPs)" in message
