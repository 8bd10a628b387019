"""The trained weights that the package ships: `EMOJI_FOLDER`, the model of the notebooks, and `JUDGE`, which measures it."""

from pathlib import Path

EMOJI_FOLDER = Path(__file__).parent / "emoji"
JUDGE = Path(__file__).parent / "judge"
