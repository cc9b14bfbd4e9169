"""What fine-tuning starts from: opened with the facts of its schedule, or refused in one line."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny
from training.bases import open_base
from training.targets import alphas_cumprod


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "kind, prediction", [("flow_prediction", "flow"), ("epsilon", "epsilon"), ("v_prediction", "v")]
)
def test_what_a_folder_predicts_is_read_from_its_scheduler(tmp_path: Path, kind: str, prediction: str):
    base = open_base(str(tiny.write_folder(tmp_path / "base", kind)))
    assert base.prediction == prediction and (base.schedule is None) == (prediction == "flow")
    assert base.factor == 8 and base.resolution == 64
    assert not any(p.requires_grad for p in base.pipeline.unet.parameters())
    if base.schedule is not None:
        torch.testing.assert_close(base.schedule, alphas_cumprod(zero_terminal_snr=False))


def test_a_schedule_that_ends_in_noise_is_trained_and_drawn_on(tmp_path: Path):
    base = open_base(str(tiny.write_folder(tmp_path / "base", "v_prediction")), zero_terminal_snr=True)
    assert base.schedule is not None and float(base.schedule[-1]) == 0
    torch.testing.assert_close(base.schedule, alphas_cumprod(zero_terminal_snr=True))
    config = base.pipeline.scheduler.config
    assert config["rescale_betas_zero_snr"] and config["timestep_spacing"] == "trailing"


def test_another_noise_schedule_is_taken_over(tmp_path: Path):
    folder = tiny.write_folder(tmp_path / "base", "epsilon")
    changed(folder / "scheduler" / "scheduler_config.json", beta_schedule="linear", beta_end=0.02)
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.02, beta_schedule="linear")
    base = open_base(str(folder))
    assert base.schedule is not None
    torch.testing.assert_close(base.schedule, theirs.alphas_cumprod)


def test_bases_that_cannot_be_trained_are_refused(tmp_path: Path):
    folder = tiny.write_folder(tmp_path / "eps", "epsilon")
    with pytest.raises(ValueError, match="predicts noise, which tells nothing"):
        open_base(str(folder), zero_terminal_snr=True)
    with pytest.raises(ValueError, match="--prediction v: is for single files"):
        open_base(str(folder), prediction="v")
    changed(folder / "scheduler" / "scheduler_config.json", prediction_type="sample")
    with pytest.raises(ValueError, match="predicts 'sample'"):
        open_base(str(folder))
    with pytest.raises(ValueError, match="is no folder, no file and no bundled model"):
        open_base(str(tmp_path / "absent"))


def test_a_base_without_a_unet_or_for_inpainting_is_refused(tmp_path: Path):
    folder = tiny.write_folder(tmp_path / "base")
    changed(folder / "model_index.json", unet=[None, None])
    with pytest.raises(ValueError, match="base cannot be opened: .*'unet'"):
        open_base(str(folder))
    inpainting = LatentDiffusionPipeline(**tiny.make_stable_diffusion_components(unet_channels=9))
    inpainting.save_pretrained(tmp_path / "inpainting")
    with pytest.raises(ValueError, match="reads 9 channels and its VAE gives 4"):
        open_base(str(tmp_path / "inpainting"))


def test_dropout_is_refused_since_it_draws_from_the_global_state(tmp_path: Path):
    folder = tiny.write_folder(tmp_path / "base")
    changed(folder / "unet" / "config.json", dropout=0.1)
    with pytest.raises(ValueError, match="has dropout in its networks"):
        open_base(str(folder))
