"""A checkpoint of Hugging Face as a policy: here a tiny random RoBERTa."""

import numpy as np
import pytest
import torch

from agents.core.errors import UsageError
from agents.policies.core.network import NetworkRef
from agents.policies.core.trained import log_softmax
from agents.policies.encoder import EncoderNetwork


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    folder = tmp_path_factory.mktemp("roberta")
    words = ["<s>", "<pad>", "</s>", "<unk>", "user", ":", "a", "funny", "sad", "film"]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=16
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20, initializer_range=0.5,
    )  # fmt: skip
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def test_it_is_loaded_trained_and_used_from_its_own_content(checkpoint, tmp_path):
    ref = NetworkRef.model_validate({"name": "encoder", "checkpoint": str(checkpoint)})
    fresh = EncoderNetwork.fresh(ref.options, [], 3, 0)
    assert fresh.digest() == EncoderNetwork.fresh(ref.options, [], 3, 0).digest()
    assert fresh.digest() != EncoderNetwork.fresh(ref.options, [], 3, 1).digest()
    texts, wanted = ["user: a funny film", "user: a sad film " + "a " * 30], torch.tensor([0, 2])
    model = EncoderNetwork.trainable(fresh, torch.device("cpu"))
    adam = torch.optim.AdamW(model.weights.values(), lr=0.02)
    for _ in range(40):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(model.logits(texts, dropout=False), wanted).backward()
        adam.step()
    used = EncoderNetwork(model.content())
    logits = used.logits(texts)
    assert logits.argmax(axis=1).tolist() == [0, 2]
    assert np.allclose(logits[0], used.logits(texts[:1])[0], atol=1e-5)
    dropped = used.logits(texts, [1, 2])
    assert np.allclose(dropped[1], used.logits(texts[1:], [2])[0], atol=1e-5)
    assert not np.allclose(log_softmax(dropped), log_softmax(logits))


def test_the_content_of_a_folder_is_its_identity_and_a_missing_one_is_named(checkpoint):
    ref = NetworkRef.model_validate({"name": "encoder", "checkpoint": str(checkpoint)})
    assert set(ref.identity()) == {"name", "content"}
    assert str(checkpoint) not in str(ref.identity())
    hub = NetworkRef.model_validate({"name": "encoder", "checkpoint": "some/model"})
    assert hub.identity() == {"name": "encoder", "checkpoint": "some/model"}
    with pytest.raises(UsageError, match=r"no_such_folder.* cannot be loaded"):
        missing = NetworkRef.model_validate({"name": "encoder", "checkpoint": "./no_such_folder"})
        EncoderNetwork.fresh(missing.options, [], 3, 0)
