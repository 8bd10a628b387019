"""The model card tells what `ldm-tutorial evaluate` measured on the weights that are shipped, and nothing else."""

import json
from pathlib import Path

import pytest

from ldm_tutorial.evaluation.evaluate import fingerprint
from ldm_tutorial.hub import KNOWN

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def measured():
    return json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))


def test_the_evaluation_is_that_of_the_shipped_weights(measured):
    assert measured["about"]["weights"] == f"SHA-256 {fingerprint(KNOWN['emoji'].folder)}"


def test_each_measured_figure_stands_in_the_model_card(measured):
    lines = (DOCS / "model_card.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]
    rows = {row[0]: row[1:] for row in cells if len(row) in (2, 3)}
    for figure in measured["figures"].values():
        value, *wanted = rows[figure["what"]]
        if figure["value"] is None:
            assert value == "not measured"
        elif "count" in figure:
            assert value.startswith(f"{figure['value']:.1%} of {figure['count']:,} (")
        else:
            assert float(value.split()[0].replace(",", "").rstrip("%")) == pytest.approx(
                figure["value"] * (100 if "%" in value else 1), rel=0.05, abs=0.05
            )
        if "reached" in figure:
            assert wanted[0].endswith("reached" if figure["reached"] else "missed")
