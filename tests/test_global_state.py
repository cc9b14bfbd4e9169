"""Opening, drawing and commands neither read nor change the global random state."""

# pyright: reportPrivateImportUsage=false

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import guiders
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPImageProcessor

from ldm_pipeline import LatentDiffusionPipeline, load_pipeline
from ldm_pipeline.cli import main
from ldm_pipeline.folder import MODELS
from ldm_pipeline.judge import Recogniser
from ldm_pipeline.noise import generators_for
from tests import tiny
from tests.ldm_pipeline import test_ip_adapter, test_single_file
from tests.original_format import original_weights
from tests.random_states import seeded_globally, states, untouched
from tests.side_by_side import mask, picture
from tests.test_promise_seeds import KINDS, scheduler

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning"),
]
FEW: dict[str, Any] = {"num_inference_steps": 2, "output_type": "pt"}


def unread(act: Callable[[], Any]) -> None:
    """Do it under two global seeds: it must change no state and give the same."""
    given = []
    for number in (1, 2):
        with seeded_globally(number), untouched():
            given.append(act())
    first, second = given
    assert type(first) is type(second)
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def weights(pipe: Any) -> dict[str, bytes]:
    """All weights of a pipeline's networks as bytes."""
    return {
        f"{part}.{name}": value.detach().flatten().view(torch.uint8).numpy().tobytes()
        for part in ("unet", "vae", "text_encoder")
        for name, value in getattr(pipe, part).state_dict().items()
    }


@pytest.fixture(scope="module")
def saved_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("state") / "postcards")


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return tiny.make_stable_diffusion_components()


def test_the_check_itself_sees_every_draw():
    for draw in (lambda: torch.rand(1), lambda: np.random.rand(), random.random):
        with seeded_globally(1), pytest.raises(AssertionError, match="was changed"), untouched():
            draw()
    before = states()
    with seeded_globally(3):
        assert states() != before
    assert states() == before


def test_opening_and_saving(saved_folder: Path, tmp_path: Path):
    unread(lambda: weights(LatentDiffusionPipeline.from_pretrained(saved_folder)))
    unread(lambda: weights(load_pipeline(saved_folder)))
    pipe = LatentDiffusionPipeline.from_pretrained(saved_folder)
    unread(lambda: weights(LatentDiffusionPipeline.from_pipe(pipe)))
    with untouched():
        pipe.save_pretrained(tmp_path / "saved")


def test_opening_a_single_file(tmp_path: Path):
    pipe, file, config = test_single_file.tiny_pipe(), tmp_path / "tiny.safetensors", tmp_path / "config"
    save_file(original_weights(pipe), file)
    pipe.save_pretrained(config)
    unread(lambda: weights(LatentDiffusionPipeline.from_single_file(file, config=str(config))))


@pytest.mark.skipif(not (MODELS / "judge" / "config.json").is_file(), reason="no bundled judge here")
def test_opening_the_judge():
    def opened() -> dict[str, bytes]:
        judge = Recogniser.load(MODELS / "judge").state_dict()
        return {name: value.numpy().tobytes() for name, value in judge.items()}

    unread(opened)


def test_adding_a_lora_and_a_learned_word(tmp_path: Path):
    lora = tiny.write_lora(tmp_path)
    learned = torch.randn(2, 32, generator=torch.Generator("cpu").manual_seed(1))

    def added() -> Tensor:
        pipe = tiny.make_pipeline()
        with untouched():
            pipe.load_lora_weights(lora)
            pipe.load_textual_inversion(learned, token="<mine>")
            return pipe("paris <mine>", seed=7, **FEW).images

    found = []
    for number in (1, 2):
        with seeded_globally(number):
            found.append(added())
    assert torch.equal(*found)


def test_adding_an_ip_adapter_and_drawing_with_it():
    def drawn() -> Tensor:
        parts = tiny.make_components("epsilon") | {
            "image_encoder": test_ip_adapter.make_image_encoder(),
            "feature_extractor": CLIPImageProcessor(size=16, crop_size=16),
        }
        pipe: Any = LatentDiffusionPipeline(**parts)
        adapter = test_ip_adapter.adapter_weights(pipe.unet, full=False, seed=0)
        with untouched():
            pipe.load_ip_adapter(adapter, subfolder="", weight_name="")
            return pipe("paris", seed=7, ip_adapter_image=test_ip_adapter.picture(0), **FEW).images

    found = []
    for number in (1, 2):
        with seeded_globally(number):
            found.append(drawn())
    assert torch.equal(*found)


@pytest.mark.parametrize("name", [*KINDS, "dpm++ 2m sde"])
def test_drawing_with_every_scheduler(parts: dict[str, Any], name: str):
    config: dict[str, Any] = {}
    if name == "dpm++ 2m sde":
        name, config = "DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}
    pipe: Any = LatentDiffusionPipeline(**{**parts, "scheduler": scheduler(name, **config)})
    pipe.set_progress_bar_config(disable=True)

    def drawn() -> Tensor:
        how: dict[str, Any] = {"seed": 7} if name != "DPMSolverSDE" else {"generator": generators_for([7])}
        return pipe("paris", **how, **{**FEW, "num_inference_steps": 4}, eta=0.5).images

    unread(drawn)


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "UniPCMultistep"])
def test_drawing_with_flow_schedulers(saved_folder: Path, name: str):
    pipe: Any = load_pipeline(saved_folder, scheduler=f"{name}Scheduler")
    unread(lambda: pipe("paris", seed=7, **FEW).images)


@pytest.mark.parametrize("kind", ["pil", "np", "pt", "latent"])
@pytest.mark.parametrize("start", ["noise", "picture", "mask"])
def test_drawing_from_every_start_to_every_kind_of_output(parts: dict[str, Any], start: str, kind: str):
    euler = scheduler("EulerAncestralDiscrete")
    pipe: Any = LatentDiffusionPipeline(**{**parts, "scheduler": euler})
    given: dict[str, Any] = {} if start == "noise" else {"image": picture()}
    if start == "mask":
        given |= {"mask_image": mask(), "blend": "feather"}

    def drawn() -> bytes:
        found = pipe("paris", seed=7, num_inference_steps=2, output_type=kind, **given).images
        return np.stack([np.asarray(one) for one in found]).tobytes()

    unread(drawn)


def test_drawing_with_fresh_entropy_a_guider_regions_chunks_and_a_cache():
    pipe = tiny.make_pipeline()
    long = ", ".join(["a red car in london"] * 20)
    region = [("a red car", (0.0, 0.5, 0.5, 1.0))]
    apg = guiders.AdaptiveProjectedGuidance(4.0)
    unread(lambda: pipe("paris", seed=7, guider=apg, **FEW).images)
    unread(lambda: pipe([long], seed=7, regions=region, long_prompt="chunk", **FEW).images)
    unread(lambda: pipe("paris", seed=7, step_cache_interval=2, **FEW).images)
    with seeded_globally(1), untouched():
        first = pipe("paris", **FEW)
    with seeded_globally(1):
        second = pipe("paris", **FEW)
    assert first.seeds != second.seeds, "entropy does not come from the global state"


@pytest.mark.parametrize("words", [[], ["--scheduler", "unipc", "--dtype", "bfloat16"]])
def test_commands(saved_folder: Path, tmp_path: Path, words: list[str]):
    with untouched():
        drawing = ["generate", "paris", "--model", str(saved_folder), "--seed", "7", "--out", str(tmp_path)]
        assert main([*drawing, *words]) == 0
        (file,) = tmp_path.iterdir()
        assert main(["inspect", str(file)]) == 0
