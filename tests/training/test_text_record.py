"""The text encoder learns what captions claim, from words alone, and stays near to where it started."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests import tiny_runs
from training.claims import NOT_CLAIMED, encode_claims
from training.parts import load_text_encoder
from training.recipes import SMOKE
from training.scenes.caption import draw_caption
from training.scenes.claims import Sight
from training.scenes.scene import sample_scene
from training.text_record import TextObjective, score, train, trained_encoder, word_batch
from training.tokenizer import Bpe, read_tokenizer

FIT = replace(SMOKE.text.fit, total_steps=40, batch_size=32, save_every_steps=40)
RUN = replace(SMOKE.text, fit=replace(FIT, optimizer=replace(FIT.optimizer, learning_rate=3e-3)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    tiny_runs.write_finished(folder)
    return folder


@pytest.fixture
def encoder(finished: Path):
    return load_text_encoder(finished / "text_encoder")


@pytest.fixture
def tokenizer(finished: Path) -> Bpe:
    return read_tokenizer(finished / "tokenizer")


def test_a_batch_holds_captions_of_the_stream_and_what_they_claim(tokenizer: Bpe):
    batch = word_batch(SMOKE.world, tokenizer, stream=7, first=5, count=3, seed=9, whole=True)
    captions = []
    for index in (5, 6, 7):
        scene = sample_scene(7, index, SMOKE.world)
        captions.append(draw_caption(scene, Sight.everything(scene), seed=9))
    assert torch.equal(batch["ids"], tokenizer.encode([caption.text for caption in captions]))
    assert batch["ids"].shape == (3, 77)
    for row, caption in enumerate(captions):
        assert torch.equal(batch["claims"][row], torch.from_numpy(encode_claims(caption.truth)))
        assert batch["ids"][row, batch["end"][row]] == tokenizer.end
        assert tokenizer.end not in batch["ids"][row, : batch["end"][row]]
    short = word_batch(SMOKE.world, tokenizer, stream=7, first=5, count=3, seed=9, whole=False)
    columns = short["ids"].shape[1]
    assert columns % 8 == 0 and int(batch["end"].max()) < columns < 77
    assert torch.equal(short["ids"], batch["ids"][:, :columns])


def test_it_learns_to_tell_claims_and_its_averaged_weights_come_back(
    encoder, tokenizer: Bpe, tmp_path: Path, accelerator: Accelerator
):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    progresses = list(
        train(
            RUN, SMOKE.world, tokenizer, encoder, scene_seed=1, run_folder=tmp_path, accelerator=accelerator
        )
    )
    records = [progress.losses["record"] for progress in progresses]
    assert sum(records[-5:]) < 0.6 * sum(records[:5])
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    with progresses[-1].averaged() as objective:
        wanted = {name: p.clone() for name, p in objective.text_encoder.named_parameters()}  # type: ignore[union-attr]
    learned = trained_encoder(encoder, RUN, tmp_path)
    assert all(torch.equal(p, wanted[name]) for name, p in learned.named_parameters())
    assert not any(torch.equal(p, before[name]) for name, p in learned.named_parameters() if p.ndim > 1)


def test_the_anchor_is_the_change_of_the_states_and_holds_them(encoder, tokenizer: Bpe):
    batch = word_batch(SMOKE.world, tokenizer, stream=1, first=0, count=4, seed=0, whole=True)
    objective = TextObjective(encoder, anchor_weight=2.0)
    assert objective(batch)["anchor"].item() == 0
    with torch.no_grad():
        objective.text_encoder.get_parameter("final_layer_norm.bias").add_(0.5)
    losses = objective(batch)
    torch.testing.assert_close(losses["anchor"], torch.tensor(0.25))
    torch.testing.assert_close(losses["loss"], losses["record"] + 0.5)
    losses["loss"].backward()
    assert all(p.grad is None for p in objective.start.parameters())


def test_scores_count_what_is_claimed_only(encoder, tokenizer: Bpe):
    objective = TextObjective(encoder, anchor_weight=1.0)  # its head begins at zero: the first class, always
    scores = score(objective, SMOKE.world, tokenizer, scene_seed=2)
    assert scores["held_out/present"] == 0, "the first class is that nothing is there"
    claims = word_batch(SMOKE.world, tokenizer, stream=2, first=0, count=2000, seed=0, whole=False)["claims"]
    city = claims[:, 0][claims[:, 0] != NOT_CLAIMED]
    assert scores["held_out/city"] == pytest.approx(float((city == 0).float().mean()))
