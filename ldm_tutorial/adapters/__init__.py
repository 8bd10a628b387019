"""What is added to a model that stays as it is: `pipe.load_lora` and `pipe.load_word` load these.

lora.py         a matrix of low rank beside each weight (Hu et al. 2021)
lora_files.py   the same in files, as diffusers, peft and kohya's scripts spell the names
words.py        a new word for the text encoder (Gal et al. 2022), and its files
adapted.py      the networks with those that are loaded, by names: what every pipeline is
"""

from .adapted import Adapted, on_same_weights
from .lora import LoRA, LowRank, attention_projections, new_lora
from .lora_files import read_lora, save_lora
from .words import Dictionary, Word, read_word, save_word

__all__ = [
    "Adapted",
    "Dictionary",
    "LoRA",
    "LowRank",
    "Word",
    "attention_projections",
    "new_lora",
    "on_same_weights",
    "read_lora",
    "read_word",
    "save_lora",
    "save_word",
]
