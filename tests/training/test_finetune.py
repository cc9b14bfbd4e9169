"""The fine-tuning's objective: what learns, what it is taught, and micro-batches that change nothing."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch import Tensor

from tests import tiny
from tests.tiny_finetune import NumberPictures
from training.bases import Base
from training.checkpoint import load_latest
from training.finetune import FinetuneRun, LooksConfig, adopt, build_objective, identity_of, train
from training.finetune_batches import BatchSource, LatentStore, TextStore
from training.finetune_recipes import DREAMBOOTH, FULL, LORA, TEXTUAL_INVERSION
from training.loop import RunFolderError
from training.lora import LoraShape
from training.targets import Prediction, alphas_cumprod

KINDS: dict[Prediction, str] = {"flow": "flow_prediction", "epsilon": "epsilon", "v": "v_prediction"}


def base_of(prediction: Prediction = "flow") -> Base:
    schedule = None if prediction == "flow" else alphas_cumprod(zero_terminal_snr=False)
    pipeline = tiny.make_pipeline(KINDS[prediction])
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        network.requires_grad_(False)
    return Base("tiny", pipeline, prediction, schedule)


def short(run: FinetuneRun, **changes: Any) -> FinetuneRun:
    optimizer = replace(run.fit.optimizer, learning_rate=1e-3, warmup_steps=1)
    fit = replace(run.fit, optimizer=optimizer, total_steps=4, batch_size=4, save_every_steps=4)
    return replace(run, fit=fit, lora=LoraShape(rank=2, alpha=2), **changes)


def source_of(run: FinetuneRun, base: Base, folder: Path) -> BatchSource:
    pictures = NumberPictures(12)
    latents = LatentStore(pictures, base.pipeline.vae, folder=folder, vary=False)
    texts = TextStore(base.pipeline.tokenizer, base.pipeline.text_encoder)
    return BatchSource(
        pictures=pictures,
        latents=latents,
        texts=texts,
        seed=run.seed,
        batch_size=run.fit.batch_size,
        as_ids=run.reads_ids,
        empty_share=run.empty_share,
    )


def ended(run: FinetuneRun, folder: Path, accelerator: Accelerator) -> tuple[dict[str, Tensor], list[float]]:
    """The last checkpoint's tensors, and each step's loss."""
    base = base_of()
    source = source_of(run, base, folder / "cache")
    steps = train(
        run,
        build_objective(run, base),
        source,
        run_folder=folder / "run",
        accelerator=accelerator,
        base_key="base",
    )
    losses = [progress.losses["loss"] for progress in steps]
    checkpoint = load_latest(folder / "run")
    assert checkpoint is not None
    return checkpoint.tensors, losses


@pytest.mark.parametrize(
    "run, learns",
    [
        (FULL, {"unet"}),
        (replace(FULL, text_share=0.1), {"unet", "text_encoder"}),
        (LORA, {"lora in unet"}),
        (replace(LORA, text_share=0.1), {"lora in unet", "lora in text_encoder"}),
        (TEXTUAL_INVERSION, {"text_encoder"}),
        (DREAMBOOTH, {"lora in unet"}),
    ],
    ids=["full", "full with text", "lora", "lora with text", "textual_inversion", "dreambooth"],
)
def test_a_recipe_trains_what_it_says(run: FinetuneRun, learns: set[str]):
    objective = build_objective(short(run, text_share=run.text_share), base_of())
    names = [name for name, p in objective.named_parameters() if p.requires_grad]
    found = {("lora in " if "lora_" in name else "") + name.split(".")[0] for name in names}
    assert found == learns
    if run.method == "full":
        assert sum(name.startswith("unet.") for name in names) == len(
            list(base_of().pipeline.unet.parameters())
        )
    if run.method == "textual_inversion":
        assert len(names) == 1


@pytest.mark.parametrize("prediction", KINDS)
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_is_that_of_diffusers_formulas(tmp_path: Path, prediction: Prediction, gamma: float | None):
    run, base = short(FULL, snr_gamma=gamma), base_of(prediction)
    objective, source = build_objective(run, base), source_of(run, base, tmp_path)
    batch = source.batch_at(0)
    mean, std = batch["latents"].chunk(2, dim=1)
    x_0, noise = mean + std * batch["posterior_noise"], batch["noise"]
    weight = torch.ones(4)
    if prediction == "flow":
        s = torch.sigmoid(torch.special.ndtri(batch["uniform"][:, 0]))
        s = torch.where(batch["uniform"][:, 1] < 0.1, batch["uniform"][:, 0], s)
        steps, t = 1000 * s, s[:, None, None, None]
        x_t, target = (1 - t) * x_0 + t * noise, noise - x_0
    else:
        theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        steps = (batch["uniform"][:, 0] * 1000).long()
        x_t = theirs.add_noise(x_0, noise, steps)  # type: ignore[arg-type]
        target = noise if prediction == "epsilon" else theirs.get_velocity(x_0, noise, steps)  # type: ignore[arg-type]
        snr = theirs.alphas_cumprod[steps] / (1 - theirs.alphas_cumprod[steps])
        if gamma is not None:
            clipped = snr.clamp(max=gamma)
            weight = clipped / (snr if prediction == "epsilon" else snr + 1)
    with torch.no_grad():
        predicted = base.pipeline.unet(x_t, steps, batch["texts"]).sample
        wanted = (weight * ((predicted - target) ** 2).mean(dim=(1, 2, 3))).mean()
        torch.testing.assert_close(objective(batch)["loss"], wanted, atol=1e-4, rtol=1e-3)


def test_micro_batches_have_the_gradient_and_the_losses_of_the_whole_batch(
    tmp_path: Path, accelerator: Accelerator
):
    run = short(FULL, text_share=0.5)
    for steps in (1, 4):
        longer = replace(run, fit=replace(run.fit, total_steps=steps))
        parts = replace(longer, fit=replace(longer.fit, micro_batches=2))
        whole, losses = ended(longer, tmp_path / f"whole{steps}", accelerator)
        split, split_losses = ended(parts, tmp_path / f"split{steps}", accelerator)
        assert split_losses == pytest.approx(losses, rel=1e-5)
        # AdamW takes the sign of gradients that are nearly 0, so weights are no measure; its first moment is
        # a tenth of the first gradient.
        moments = [name for name in whole if name.endswith(".exp_avg")] if steps == 1 else []
        for name in moments:
            largest = float(whole[name].abs().max())
            torch.testing.assert_close(whole[name], split[name], atol=1e-5 * largest + 1e-8, rtol=1e-5)


def test_gradient_checkpointing_changes_no_loss(tmp_path: Path, accelerator: Accelerator):
    run = short(LORA, text_share=0.5)
    _, losses = ended(run, tmp_path / "plain", accelerator)
    _, again = ended(replace(run, gradient_checkpointing=True), tmp_path / "checkpointed", accelerator)
    assert again == pytest.approx(losses, rel=1e-5)


def test_the_class_is_learned_beside_the_pictures(tmp_path: Path):
    run, base = short(FULL), base_of()
    run = replace(run, prior=replace(run.prior, prompt="a dog", weight=0.5))
    objective, batch = build_objective(run, base), source_of(run, base, tmp_path).batch_at(0)
    both = objective(batch | {f"class_{name}": value for name, value in batch.items()})
    torch.testing.assert_close(both["loss"], 1.5 * both["pictures"])
    torch.testing.assert_close(both["prior"], objective(batch)["loss"])


def test_looks_are_no_part_of_a_runs_identity_and_all_else_is():
    keys = {"base_key": "b", "data_key": "d"}
    plain = identity_of(LORA, **keys)
    assert identity_of(replace(LORA, looks=LooksConfig(steps=3)), **keys) == plain
    others = [replace(LORA, seed=1), replace(LORA, noise_offset=0.1), replace(LORA, lora=LoraShape(rank=3))]
    others.append(replace(LORA, fit=replace(LORA.fit, micro_batches=2)))
    assert plain not in {identity_of(run, **keys) for run in others}
    assert identity_of(LORA, base_key="c", data_key="d") != plain


def test_weights_of_another_run_are_refused():
    objective = build_objective(short(LORA), base_of())
    own = {n: torch.ones_like(p) for n, p in objective.named_parameters() if p.requires_grad}
    adopt(objective, own)
    assert all(bool((p == 1).all()) for p in objective.parameters() if p.requires_grad)
    with pytest.raises(RunFolderError, match="does not hold what this run trains"):
        adopt(objective, {"unet.conv_in.weight": torch.ones(1)})


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"empty_share": 1.0}, "empty_share=1.0: is a share"),
        ({"text_share": -1.0}, "text_share=-1.0: must be at least 0"),
        ({"method": "textual_inversion", "text_share": 0.1}, "nothing but the word learns"),
        ({"snr_gamma": 0.0}, "snr_gamma=0.0: must be above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        replace(LORA, **wrong)


@pytest.mark.parametrize(
    "run",
    [LORA, replace(LORA, text_share=0.5), TEXTUAL_INVERSION, FULL],
    ids=["lora", "lora of both", "word", "full"],
)
def test_frozen_layers_kept_in_half_change_no_bit(run: FinetuneRun, tmp_path: Path):
    run = short(run)
    found: list[dict[str, Tensor]] = []
    for dtype in (None, torch.bfloat16):
        base = base_of()
        batch = source_of(run, base, tmp_path).batch_at(0)
        objective = build_objective(run, base, autocast=dtype)
        kinds = {p.dtype for p in objective.parameters()}
        halves = dtype is not None and run.method != "full"
        assert kinds == ({torch.float32, torch.bfloat16} if halves else {torch.float32})
        with torch.no_grad():  # an adapter starts at zero, and passes nothing on
            for number, parameter in enumerate(p for p in objective.parameters() if p.requires_grad):
                draws = torch.Generator().manual_seed(number)
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(batch)["loss"]
        loss.backward()
        gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
        assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)
        found.append({"loss": loss.detach(), **gradients})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
