"""CLIP's batches say what captions claim, and what it exports encodes as it does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import CLIPTextModel

from training.claims import ABSENT, FIELD_INDEX, FIELDS, NOT_CLAIMED
from training.clip import (
    also_true,
    build_objective,
    caption_batch,
    export,
    prepare_tokenizer,
    score,
    train,
)
from training.data.postcards import Postcards
from training.loop import RunFolderError, load_averaged
from training.parts import KNOWN_WORDS
from training.recipes import SMOKE
from training.scenes.phrases import vocabulary, words_of
from training.text_tower import encode_text_states
from training.tokenizer import Bpe, read_tokenizer

RUN = replace(SMOKE.clip, fit=replace(SMOKE.clip.fit, total_steps=12, batch_size=12))


@pytest.fixture(scope="module")
def tokenizer(postcards: Postcards, tmp_path_factory: pytest.TempPathFactory) -> Bpe:
    return prepare_tokenizer(RUN, postcards, run_folder=tmp_path_factory.mktemp("clip"))


def test_a_tokenizer_is_trained_once_and_opened_afterwards(
    postcards: Postcards, tmp_path: Path, tokenizer: Bpe
):
    assert prepare_tokenizer(RUN, postcards, run_folder=tmp_path).merges == tokenizer.merges
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b\n")
    assert prepare_tokenizer(RUN, postcards, run_folder=tmp_path).merges == (("a", "b"),)


def test_a_stale_tokenizer_is_trained_anew_unless_checkpoints_know_it(postcards: Postcards, tmp_path: Path):
    small = replace(RUN, vocab_size=560)
    prepare_tokenizer(RUN, postcards, run_folder=tmp_path)
    assert prepare_tokenizer(small, postcards, run_folder=tmp_path).vocabulary_size == 560
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert prepare_tokenizer(small, postcards, run_folder=tmp_path).vocabulary_size == 560
    with pytest.raises(RunFolderError, match="another vocab_size; choose another --runs"):
        prepare_tokenizer(RUN, postcards, run_folder=tmp_path)


def test_a_batch_is_a_function_of_its_arguments_and_holds_wrong_captions(
    postcards: Postcards, tokenizer: Bpe
):
    batch, again = (caption_batch(RUN, postcards, list(range(64)), tokenizer, seed=5) for _ in range(2))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["negative_ids"].shape == (64, RUN.wrong_captions, 77)
    assert not (batch["negative_ids"] == batch["ids"][:, None]).all(dim=2).any()
    assert batch["also_true"].diagonal().all() and not batch["also_true"].all()


def test_wrong_captions_stay_in_the_world_of_the_pictures(postcards: Postcards, tokenizer: Bpe):
    batch = caption_batch(RUN, postcards, list(range(64)), tokenizer, seed=5)
    texts = tokenizer.transformers.batch_decode(batch["negative_ids"].flatten(0, 1), skip_special_tokens=True)
    words = {word for text in texts for word in words_of(text)}
    assert words and words <= set(vocabulary(SMOKE.world))


def test_a_caption_is_true_of_every_picture_that_shows_all_it_claims():
    claims, records = (np.full((2, len(FIELDS)), NOT_CLAIMED) for _ in range(2))
    claims[:, [i for n, i in FIELD_INDEX.items() if n.endswith(".present")]] = ABSENT
    claims[0, 0] = 3
    records[:, 0] = 3, 4
    assert also_true(claims, records).tolist() == [[True, True], [False, True]]


def test_it_learns_and_its_export_encodes_alike(
    postcards: Postcards, tokenizer: Bpe, tmp_path: Path, accelerator: Accelerator
):
    losses = [
        p.losses["loss"]
        for p in train(RUN, postcards, tokenizer, run_folder=tmp_path, accelerator=accelerator)
    ]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    export(RUN, tokenizer, world=SMOKE.world, run_folder=tmp_path, folder=tmp_path / "final")
    encoder = CLIPTextModel.from_pretrained(tmp_path / "final" / "text_encoder")
    assert read_tokenizer(tmp_path / "final" / "tokenizer").merges == tokenizer.merges
    words = (tmp_path / "final" / "tokenizer" / KNOWN_WORDS).read_text().split()
    assert {"umbrella", "paris", "rainy"} <= set(words) and not {"london", "cat", "snowy"} & set(words)
    objective = build_objective(RUN, tokenizer)
    load_averaged(objective, tmp_path)
    ids = tokenizer.encode(["", "Paris in the rain"])
    with torch.no_grad():
        states = encode_text_states(objective.clip.eval(), ids)
        torch.testing.assert_close(encoder(ids).last_hidden_state, states, atol=1e-4, rtol=1e-4)
    scores = score(RUN, objective, postcards, tokenizer)
    assert scores.keys() >= {"held_out/swaps", "held_out/record", "held_out/city"}
    assert all(0 <= value <= 1 for value in scores.values())
