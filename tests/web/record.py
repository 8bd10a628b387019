"""What Python says, for the page's tests to say too:  python tests/web/record.py [MODEL] FOLDER

tokens.json      1,000 prompts of any Unicode, and the token ids of each
noise.json       torch.randn for seeds and sizes
spacings.json    the timesteps of 1 ... 1000 steps in every spacing
schedulers.json  every step of each of the course's schedulers on made-up answers of the U-Net
pictures.json    ten prompts x four schedulers, drawn by the pipeline

Recorded whenever the tests run, so that nothing is stale when the weights are exchanged.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import torch

from ldm_tutorial import load_pipeline
from ldm_tutorial.data.dataset import STYLES, EmojiDataset, canonical_caption
from ldm_tutorial.inputs import Options, choose_scheduler
from ldm_tutorial.schedulers import COURSE, randn
from ldm_tutorial.schedulers.noise_schedule import SPACINGS, spaced_timesteps

AWKWARD = [
    "",
    " ",
    "\t\n\r\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000",
    "a\u0085b\ufeffc\u200bd",  # white space to one of Python, JavaScript and Rust, and not to another
    "<|startoftext|>a cat<|endoftext|> a dog",
    "<|endoftext|>",
    "<|END OF TEXT|> <|endoftext",
    "İstanbul ŞIŞLI ıI",
    "ΟΔΟΣ ΑΣ Σ ὈΔΥΣΣΕΎΣ",
    "ǅ Ǆ ǆ ß ẞ ﬁ ﬂ Ⅷ ⅷ ① ½ ²",
    "e\u0301 é E\u0301 Å Å Å",
    "각 각 한글",
    "👩\u200d🚀 👨\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 ☃️ 1️⃣ 🇩🇪",
    "it's IT'S don't we'll they've I'd I'M 'sup ''s 'S ’s",
    "1234567890 ١٢٣ 一二三 १२३ 𝟙𝟚𝟛",
    "100% $5.00 #1 a@b.c (x) [y] {z} _-_ ~ `",
    "\x00\x01\x1f\x7f\x80\x9f",
    "\ufffe\uffff\U0010ffff\ue000",
    "\u0378\U000e0fff",  # not assigned
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
    "naïve café, Größe; Ærøskøbing — “quotes” … 日本語の絵文字 猫 Кошка قطة חתול แมว",
    "a" * 500,
    "cat " * 100,
    "supercalifragilisticexpialidocious",
]


def prompts(count: int = 1000) -> list[str]:
    """Awkward ones, captions, and random characters: of all Unicode, of one block, and mixed into captions."""
    choose = random.Random(0)
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cn")]
    subjects = EmojiDataset().subjects
    made = list(AWKWARD)
    while len(made) < count:
        caption = canonical_caption(choose.choice(subjects), choose.choice(STYLES))
        kind = len(made) % 4
        if kind == 0:
            made.append(caption if choose.random() < 0.7 else caption.upper())
        elif kind == 1:
            made.append("".join(choose.choices(known, k=choose.randint(1, 30))))
        elif kind == 2:
            block = choose.randrange(0, 0x3400, 0x80)
            made.append("".join(chr(block + choose.randrange(0x80)) for _ in range(choose.randint(1, 20))))
        else:
            letters = list(caption)
            for _ in range(choose.randint(1, 6)):
                letters.insert(choose.randrange(len(letters) + 1), choose.choice(known[: choose.choice((600, 5000, len(known)))]))
            made.append("".join(letters))
    return made


def tokens(pipe) -> list[dict]:
    from ldm_tutorial.inputs import tokenize

    length = pipe.text_encoder.config.max_position_embeddings
    texts = prompts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of prompts that are cut
        ids = tokenize(pipe.tokenizer, texts, length)
    return [{"prompt": text, "ids": row} for text, row in zip(texts, ids.tolist())]


def noise() -> list[dict]:
    """Twice in a row from each generator: the second goes on where the first ended."""
    recorded = []
    for seed in (0, 1, 42, 2**31, 2**32 - 1, 2**32 + 5, 2**53 - 1):
        for size in (16, 17, 31, 32, 48, 100, 1024, 1999, 4096):
            generator = torch.Generator().manual_seed(seed)
            draws = [packed(torch.randn(size, generator=generator)) for _ in range(2)]
            recorded.append({"seed": seed, "size": size, "draws": draws})
    return recorded


def spacings() -> dict[str, list[list[float]]]:
    return {name: [spaced_timesteps(name, n, 1000, 1).tolist() for n in range(1, 1001)] for name in SPACINGS}


def schedulers(pipe) -> list[dict]:
    """Answers of the U-Net: random mixtures of the latents and new noise, so that the latents stay finite."""
    recorded = []
    for name in COURSE:
        for steps in (1, 2, 3, 7, 25, 50, 61, 100, 112):
            scheduler = choose_scheduler(pipe.scheduler, Options(scheduler=name))
            scheduler.set_timesteps(steps)
            generator, answers = (torch.Generator().manual_seed(steps + more) for more in (0, 10**6))
            x = start = scheduler.init_noise_sigma * randn((1, 2, 3, 4), generator)
            taken = []
            for i, t in enumerate(scheduler.timesteps):
                answer = 0.9 * scheduler.scale_model_input(x, t) + 0.3 * randn(x.shape, answers)
                step = scheduler.step(answer, t, x, generator=generator)
                shown = scheduler.scale_model_input(x, t)
                tensors = {
                    "x": x,
                    "shown": shown,
                    "answer": answer,
                    "prev": step.prev_sample,
                    "x0": step.pred_original_sample,
                }
                sigma = scheduler.sigma_at(t).item()
                packs = {k: packed(v) for k, v in tensors.items()}
                taken.append({"i": i, "timestep": t.item(), "sigma": sigma, **packs})
                x = step.prev_sample
            recorded.append({"name": name, "steps": steps, "start": packed(start), "taken": taken, "seed": steps})
    return recorded


def pictures(pipe) -> list[dict]:
    subjects, recorded = EmojiDataset().subjects, []
    wanted = [canonical_caption(subjects[i * len(subjects) // 8], STYLES[i % len(STYLES)]) for i in range(8)]
    wanted += ["A cat & a dog, 3 of them!", ""]
    lengths = (3, 4, 2, 5, 3, 4, 2, 5, 3, 12)  # a long run once: more steps are more of the same, and slow in a browser
    for i, (prompt, steps) in enumerate(zip(wanted, lengths, strict=True)):
        for name in COURSE:
            settings = {"prompt": prompt, "scheduler": name, "steps": steps, "seed": 7 * i}
            guidance = (7.5, 1.0, 4.0)[i % 3]
            [picture] = pipe(progress=False, guidance_scale=guidance, **settings)
            pixels = base64.b64encode(np.asarray(picture).tobytes()).decode()
            recorded.append({**settings, "guidance": guidance, "width": picture.width, "pixels": pixels})
    return recorded


def packed(x: torch.Tensor) -> str:
    """float32 numbers, little endian, as base64."""
    return base64.b64encode(x.detach().float().contiguous().numpy().astype("<f4").tobytes()).decode()


def main(model: str, folder: Path) -> None:
    pipe = load_pipeline(model, device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    recordings = {
        "tokens": lambda: tokens(pipe),
        "noise": noise,
        "spacings": spacings,
        "schedulers": lambda: schedulers(pipe),
        "pictures": lambda: pictures(pipe),
    }
    for name, record in recordings.items():
        (folder / f"{name}.json").write_text(json.dumps(record()), encoding="utf-8")


if __name__ == "__main__":
    *model, folder = sys.argv[1:]
    main(model[0] if model else "emoji", Path(folder))
