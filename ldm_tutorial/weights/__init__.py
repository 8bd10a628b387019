"""The trained weights that the package ships: `EMOJI_FOLDER`, the model of the notebooks, and `JUDGE`, which measures it; and the
models that have a short name here, `KNOWN`."""

from dataclasses import dataclass
from pathlib import Path

EMOJI_FOLDER = Path(__file__).parent / "emoji"
JUDGE = Path(__file__).parent / "judge"


@dataclass(frozen=True)
class KnownModel:
    """A model that has a short name here: shipped with the package (`folder`), or on the hub (`repo_id` at `revision`)."""

    name: str
    title: str
    license: str
    folder: Path | None = None
    repo_id: str = ""
    revision: str = ""
    # the same weights in one file
    file: str = ""
    size: int = 0  # bytes
    sha256: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """Its names in a folder of models: of the file, and of a folder, with or without its owner."""
        return self.file, self.repo_id, self.repo_id.split("/")[-1], self.name


KNOWN = {
    model.name: model
    for model in (
        KnownModel(
            name="emoji",
            title="the small model that this project trained",
            license="see README.md beside it",
            folder=EMOJI_FOLDER,
        ),
        KnownModel(
            name="sd15",
            title="Stable Diffusion v1.5",
            license="CreativeML Open RAIL-M",
            repo_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
            revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            file="v1-5-pruned-emaonly.safetensors",
            size=4_265_146_304,
            sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        ),
    )
}
