"""The trained weights that the package ships: `EMOJI`, the model of the notebooks, and `JUDGE`, which measures it."""

from pathlib import Path

EMOJI = Path(__file__).parent / "emoji"
JUDGE = Path(__file__).parent / "judge"
