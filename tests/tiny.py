"""A model of the real classes, with random weights and so small that a test can train it in a blink."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = ["heart", "liver", "kidney", "bone", "skin", "eye", "ear", "pain", "red", "small", "large", "of", "the", "left"]


def tiny_config(**more: int) -> BertConfig:
    """How small it is."""
    return BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        **more,
    )


def save_tokenizer(directory: Path) -> None:
    """Leave the words it knows in a model's directory."""
    (directory / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)


def make_tiny_model(directory: Path, *, pooling: str = "mean", seed: int = 0) -> Path:
    """A BERT of two layers that knows WORDS and reads 16 tokens."""
    parts = directory.with_name(f"{directory.name}.parts")
    parts.mkdir(parents=True)
    torch.manual_seed(seed)
    BertModel(tiny_config()).save_pretrained(parts)
    save_tokenizer(parts)
    modules = [Transformer(str(parts), max_seq_length=16), Pooling(16, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory), create_model_card=False)
    return directory
