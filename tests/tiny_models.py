"""Tiny Llama and Qwen checkpoints with random weights, made in seconds: nonsense, but real.

`python -m tests.tiny_models FOLDER` makes `FOLDER/tiny-llama` and `FOLDER/tiny-qwen`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

Family = Literal["llama", "qwen"]
FAMILIES: tuple[Family, ...] = ("llama", "qwen")
CONTEXT = 16384
"""Positions that the checkpoints know; a byte-level vocabulary makes prompts long."""

_VOCABULARY = 1024
_SENTENCES = [
    "I am looking for a film like the ones that I have seen before.",
    "Answer with one JSON object and nothing else. Its fields:",
    "You could try one of these titles; which of them do you like best?",
    "The user likes drama and comedy, and wants something from the 1990s.",
    '{"action": "recommend", "titles": ["A (1990)", "B (1991)"], "text": "How about these?"}',
]
# Not the template of any real model, but of their form: a header a message.
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def make(folder: Path, family: Family, *, layers: int = 2, hidden: int = 128) -> Path:
    """Makes one checkpoint, if it is missing; its folder."""
    path = folder / f"tiny-{family}"
    if (path / "model.safetensors").exists():
        found = json.loads((path / "config.json").read_text())
        if found["max_position_embeddings"] == CONTEXT:
            return path
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "num_key_value_heads": hidden // 64,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    model = (
        LlamaForCausalLM(LlamaConfig(**shape))
        if family == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**shape))
    )
    tokenizer.save_pretrained(path)
    model.to(torch.bfloat16).save_pretrained(path)  # the weights last: they say that it is whole
    return path


def make_encoder(folder: Path, *, pooling: str = "mean") -> Path:
    """Makes a tiny BERT in the layout of sentence-transformers, as MiniLM is published; its folder.

    It knows 512 positions, and says that it was made for texts of 128 tokens.
    """
    path = folder / "tiny-bert"
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    tokenizer = _tokenizer()
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in (begin, end)],
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,  # with BERT's own 0.02 all texts come out alike
    )
    tokenizer.chat_template = None
    tokenizer.save_pretrained(path)
    module = "sentence_transformers.models"
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{module}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}.Pooling"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": 64,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
        },
        "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
    }
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(content))
    BertModel(config).save_pretrained(path)
    return path


def make_sentence_t5(folder: Path) -> Path:
    """Makes a tiny T5 encoder with the modules of sentence-t5-base; its folder.

    It reads the first 32 tokens of a text.
    """
    path = folder / "tiny-t5"
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Transformer,
    )
    from tokenizers.processors import TemplateProcessing
    from transformers import T5Config, T5EncoderModel

    tokenizer = _tokenizer()
    tokenizer.chat_template = None
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    plain = folder / "plain-t5"
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    words = Transformer(str(plain), max_seq_length=32)
    dense = Dense(32, 24, bias=False, activation_function=torch.nn.Identity())
    modules = [words, Pooling(32, pooling_mode="mean"), dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(path))
    return path


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>"]
    raw.train_from_iterator(
        _SENTENCES,
        trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    found = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=special[0], eos_token=special[1], pad_token=special[1]
    )
    found.chat_template = _TEMPLATE
    return found


if __name__ == "__main__":
    for each in FAMILIES:
        print(make(Path(sys.argv[1]), each))
