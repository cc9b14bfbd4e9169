"""A tiny CLIP of open_clip's, random weights in a safetensors file, judges pictures offline."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from ldm_pipeline.clip_judge import TEMPLATES, ClipJudge, text_pairs
from ldm_pipeline.judges import Judge, SceneJudge
from tests.tiny import randomize

NAME = "tiny-clip"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PICTURES = [Image.new("RGB", (40, 30), color) for color in ("red", "green", "blue", "white")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    other = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "hf_tokenizer_name": "someone/tokenizer"}}
    (folder / "hub-clip.json").write_text(json.dumps(other))
    open_clip.add_model_config(folder)
    with torch.random.fork_rng(devices=[]):
        network = open_clip.create_model(NAME)
    randomize(network, 8)
    save_file(network.state_dict(), folder / "clip.safetensors")
    return folder / "clip.safetensors"


@pytest.fixture(scope="module")
def judge(weights: Path) -> ClipJudge:
    return ClipJudge.load(weights, model=NAME)


def test_it_is_a_judge_that_reads_no_scenes(judge: ClipJudge):
    assert isinstance(judge, Judge) and not isinstance(judge, SceneJudge)
    facts = judge.facts()
    assert (facts["model"], facts["threshold"], len(facts["weights"])) == (NAME, 0.5, 64)


def test_probabilities_are_those_of_the_softmax_over_two_texts(judge: ClipJudge, weights: Path):
    question = "a red bus|a blue bus"
    with torch.random.fork_rng(devices=[]):
        network: Any = open_clip.create_model(NAME)
    randomize(network, 8)
    network.eval()
    prepare: Any = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    tokenize: Any = open_clip.get_tokenizer(NAME)
    with torch.no_grad():
        texts = network.encode_text(tokenize([*question.split("|")]), normalize=True)
        seen = network.encode_image(torch.stack([prepare(p) for p in PICTURES]), normalize=True)
        wanted = (network.logit_scale.exp() * seen @ texts.T).softmax(dim=1)[:, 0].tolist()
    found = judge.probabilities(PICTURES, question)
    assert found == pytest.approx(wanted, abs=1e-5)
    assert len({round(p, 6) for p in found}) == len(PICTURES)


def test_a_picture_is_yes_from_the_threshold_on(judge: ClipJudge, weights: Path):
    found = judge.probabilities(PICTURES, "an umbrella")
    middle = sorted(found)[2]
    stricter = ClipJudge.load(weights, model=NAME, threshold=middle)
    assert stricter.asks(PICTURES, "an umbrella") == [p >= middle for p in found]
    assert sum(stricter.asks(PICTURES, "an umbrella")) == 2


def test_a_thing_goes_into_every_template_and_two_texts_stand_as_they_are():
    assert text_pairs("an  umbrella") == [(w.replace("{}", "an umbrella"), o) for w, o in TEMPLATES]
    assert text_pairs("wet | dry") == [("wet", "dry")]
    assert all("{}" in with_it and "{}" not in without for with_it, without in TEMPLATES)


@pytest.mark.parametrize("question", ["", "a|", "a|b|c", "|"])
def test_a_question_that_is_neither_is_refused(judge: ClipJudge, question: str):
    with pytest.raises(ValueError, match="no thing and no pair"):
        judge.check(question)


def test_a_question_that_would_be_cut_off_is_refused(judge: ClipJudge):
    judge.check("a dog")
    with pytest.raises(ValueError, match="more than 14 tokens"):
        judge.check("dog " * 12)


def test_loading_changes_no_global_random_state(weights: Path):
    before = torch.random.get_rng_state()
    ClipJudge.load(weights, model=NAME)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_files_and_names_that_do_not_fit_are_refused(weights: Path, tmp_path: Path):
    def refused(complaint: str, file: Path = weights, model: str = NAME, threshold: float = 0.5):
        with pytest.raises(ValueError, match=complaint) as error:
            ClipJudge.load(file, model=model, threshold=threshold)
        assert "\n" not in str(error.value)

    pickled, broken, other = (tmp_path / name for name in ("a.pt", "b.safetensors", "c.safetensors"))
    pickled.write_bytes(b"x")
    broken.write_bytes(b"x" * 64)
    save_file({"a": torch.zeros(2)}, other)
    refused("no .safetensors file", file=pickled)
    refused("no .safetensors file", file=tmp_path / "none.safetensors")
    refused("do not fit", file=broken)
    refused("do not fit", file=other)
    refused("nearest are ViT-B-32", model="ViT-B-33")
    refused("from a hub", model="hub-clip")
    refused("threshold=1", threshold=1.0)
