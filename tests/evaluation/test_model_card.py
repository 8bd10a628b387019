"""The model card tells what `ldm-tutorial evaluate` measured on the weights that are shipped."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ldm_tutorial.checkpoints.hub import KNOWN
from ldm_tutorial.evaluation.evaluate import fingerprint

DOCS = Path(__file__).parents[2] / "docs"
EMOJI = KNOWN["emoji"].folder


@pytest.fixture(scope="module")
def measured():
    return json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows():
    """The cells of each row of the card's last section."""
    section = (DOCS / "model_card.md").read_text(encoding="utf-8").partition("## All figures")[2]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("|")]


def test_the_evaluation_is_that_of_the_shipped_weights(measured):
    assert measured["about"]["weights"] == f"SHA-256 {fingerprint(EMOJI)}"


def test_a_fingerprint_is_that_of_the_weights_alone(tmp_path):
    copy = shutil.copytree(EMOJI / "text_encoder", tmp_path / "text_encoder")
    before = fingerprint(tmp_path)
    assert fingerprint(copy / "model.safetensors") == before
    (copy / "config.json").write_text("{}")
    assert fingerprint(tmp_path) == before
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert fingerprint(tmp_path) != before


def tells(cell, figure):
    """Whether the cell is the figure's value, as exact as its digits are, and its count."""
    if figure["value"] is None:
        return cell == "not measured"
    digits, decimals, percent, count = re.match(r"([-\d,]+(?:\.(\d+))?)(%?)(?: \w+)?(?: of ([\d,]+) \()?", cell).groups()
    step = 10.0 ** -len(decimals or "") / (100 if percent else 1)
    value = float(digits.replace(",", "")) / (100 if percent else 1)
    counted = count is None or int(count.replace(",", "")) == figure["count"]
    return counted and abs(value - figure["value"]) <= 0.501 * step


def test_each_measured_figure_stands_in_the_model_card(measured, rows):
    for figure in measured["figures"].values():
        (row,) = (row for row in rows if row[0] == figure["what"])
        assert tells(row[1], figure), (row, figure)
        assert row[2].rpartition(": ")[2] == {True: "reached", False: "missed", None: ""}[figure.get("reached")]


def test_each_measured_table_stands_in_the_model_card(measured, rows):
    for table in measured["tables"].values():
        for name, figures in table.items():
            found = [row for row in rows if row[0] == name and len(row) == len(figures) + 1]
            assert any(all(tells(cell, figure) for cell, figure in zip(row[1:], figures.values())) for row in found), name
