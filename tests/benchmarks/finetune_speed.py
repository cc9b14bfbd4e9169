"""Fine-tuning's speed and memory against the steps of diffusers' example scripts: same model and pictures.

Run by hand: `python tests/benchmarks/finetune_speed.py small`. No test: it asserts nothing about time.

Their side are the steps of `train_text_to_image.py` and `train_text_to_image_lora.py` at their defaults,
rebuilt from the library's public parts: pictures are opened and resized for every step, encoded by the VAE
and the text encoder in bfloat16, and AdamW is torch's own. Ours is `training`'s own loop, from its caches,
with its average of the weights, which theirs leaves out by default. Both get the same mixed precision, batch,
rank and targets. Every measurement is a process of its own (A B A B ...), so that peak memory is that side's
alone.
Sections: `small` Stable Diffusion 1.5 at half its widths and 256 px on the CPU, `bundled` the model in this
package at 128 px, `cuda` ours at Stable Diffusion 2.1's shape and 512 px, as a share of the card's peak.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import pipeline_speed  # noqa: E402

SECTIONS = ("small", "bundled", "cuda")
SIDES = ("diffusers", "ours")
METHODS = ("lora", "full")
PICTURES = 48
WARM_STEPS = 2
RANK = 4
TARGETS = ("to_k", "to_q", "to_v", "to_out.0")
"""Rank and targets of diffusers' script."""
RATE = 1e-4


def main() -> None:
    """Print one Markdown table per section."""
    parser = argparse.ArgumentParser(description="Time fine-tuning against diffusers' example scripts.")
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed, after two to warm up")
    parser.add_argument("--turns", type=int, default=3, help="times that each side is measured")
    parser.add_argument("--batch", type=int, help="pictures of a step (default: 4; 32 of the bundled model)")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(CHILDREN[options.child.pop("task")](**options.child)))
        return
    if unknown := {*options.sections} - {*SECTIONS}:
        parser.error(f"{', '.join(sorted(unknown))}: use some of {', '.join(SECTIONS)}")
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.processor() or platform.machine()}")
    for section in options.sections:
        print(f"\n### {section}\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            SECTION_RUNS[section](Path(folder), options)


# Sections


def small(folder: Path, options: argparse.Namespace) -> None:
    """Half the widths of Stable Diffusion 1.5, 256 px, on the CPU in bf16."""
    write_pictures(folder / "pictures", side=320)
    child(task="write", folder=str(folder / "base"), shape="sd15_half")
    versus(folder, str(folder / "base"), options, resolution=256, batch=options.batch or 4)


def bundled(folder: Path, options: argparse.Namespace) -> None:
    """The model in this package, 128 px, on the CPU in bf16."""
    write_pictures(folder / "pictures", side=256)
    versus(folder, pipeline_speed.bundled_folder(), options, resolution=128, batch=options.batch or 32)


def versus(folder: Path, base: str, options: argparse.Namespace, *, resolution: int, batch: int) -> None:
    """Both sides and both methods in turns."""
    rows = []
    for method in options.methods:
        runs = [
            {"task": side, "folder": str(folder), "base": base, "method": method}
            | {"resolution": resolution, "batch": batch, "steps": options.steps}
            for side in SIDES
        ]
        child(**runs[1] | {"steps": 0})  # the caches, which are made once before a run
        found = pipeline_speed.in_turns([lambda run=run: child(**run) for run in runs], options.turns)
        theirs = found[0]
        for side, measured in zip(SIDES, found, strict=True):
            ratios = [b["seconds"] / a["seconds"] for a, b in zip(measured, theirs, strict=True)]
            times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            memory = pipeline_speed.middle(measured, "memory")
            rows.append(
                (
                    method,
                    side,
                    f"{batch / pipeline_speed.middle(measured):.2f}",
                    times,
                    f"{memory / 1e9:.2f}",
                    f"{memory / pipeline_speed.middle(theirs, 'memory'):.2f}",
                    f"{pipeline_speed.middle(measured, 'loading'):.1%}",
                )
            )
    head = (
        "method",
        "side",
        "pictures a second",
        "times as fast",
        "peak GB",
        "memory / theirs",
        "loader's share",
    )
    pipeline_speed.print_table(head, rows)


def cuda(folder: Path, options: argparse.Namespace) -> None:
    """Ours on a GPU: pictures a second, and operations as a share of the card's matrix products."""
    name = pipeline_speed.child(task="cuda_device")["name"]
    if not name:
        print("There is no CUDA card here: this section was not run.")
        return
    write_pictures(folder / "pictures", side=640)
    child(task="write", folder=str(folder / "base"), shape="sd21")
    rows = []
    for method in options.methods:
        run = {"folder": str(folder), "base": str(folder / "base"), "method": method, "resolution": 512}
        found = child(task="ours", **run, batch=options.batch or 64, steps=options.steps, flops=True)
        rate = found["flops"] / found["seconds"]
        speed = f"{(options.batch or 64) / found['seconds']:.1f}"
        share = f"{rate / 1e12:.0f} ({rate / found['peak_flops']:.0%})"
        rows.append((method, speed, share, f"{found['memory'] / 1e9:.1f}", f"{found['loading']:.1%}"))
    print(name)
    head = ("method", "pictures a second", "TFLOP/s (of peak)", "peak GB", "loader's share")
    pipeline_speed.print_table(head, rows)


# What runs in a process of its own


def ours(
    *,
    folder: str,
    base: str,
    method: str,
    resolution: int,
    batch: int,
    steps: int,
    flops: bool = False,
) -> dict[str, float]:
    """Our loop, from its caches: median seconds of a step, peak bytes, the loader's share."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from training.__main__ import build_parser
    from training.allocator import keep_freed_memory
    from training.bases import open_base
    from training.data.cache import content_key
    from training.finetune import build_objective, train
    from training.finetune_command import chosen_run, open_given_pictures, prepare
    from training.options import accelerator_of

    words = [
        "finetune",
        "--recipe",
        method,
        "--base",
        base,
        "--data",
        f"{folder}/pictures",
        "--held-out",
        "0",
    ]
    words += [
        "--out",
        f"{folder}/run",
        "--resolution",
        str(resolution),
        "--steps",
        str(WARM_STEPS + steps + 1),
    ]
    words += ["--set", f"fit.batch_size={batch}", "--set", f"fit.optimizer.learning_rate={RATE}"]
    words += ["--set", f"lora.rank={RANK}", "--set", f"lora.alpha={RANK}", "--precision", "bf16"]
    words += ["--set", f"lora.targets={','.join(TARGETS)}"]
    options = build_parser().parse_args(words)
    keep_freed_memory()  # as `python -m training` does
    run, opened_base, accelerator = chosen_run(options), open_base(base), accelerator_of(options)
    parts, cache = opened_base.pipeline, Path(folder) / "cache"
    parts.to(accelerator.device)
    base_key = content_key(parts.unet, parts.text_encoder, parts.vae)
    opened = open_given_pictures(options, opened_base, cache)
    source, _ = prepare(run, opened_base, opened, base_key=base_key, cache=cache)
    objective = build_objective(run, opened_base, autocast=torch.bfloat16).to(accelerator.device)
    on_card = accelerator.device.type == "cuda"
    loading: list[float] = []

    class Timed:
        """The source, with the seconds that each of its batches takes."""

        pictures = source.pictures

        def batch_at(self, step: int, *, own: slice = slice(None)) -> dict[str, torch.Tensor]:
            began = time.perf_counter()
            made = source.batch_at(step, own=own)
            loading.append(time.perf_counter() - began)
            return made

    found: dict[str, float] = {}
    if flops:
        made = {name: value.to(accelerator.device) for name, value in source.batch_at(0).items()}
        with FlopCounterMode(display=False) as counted, accelerator.autocast():
            objective(made)["loss"].backward()
        objective.zero_grad()
        found |= {"flops": float(counted.get_total_flops()), "peak_flops": card_peak()}
    if not steps:
        return {}  # only the caches were asked for
    timed: Any = Timed()
    with tempfile.TemporaryDirectory() as fresh:
        progresses = train(
            run, objective, timed, run_folder=Path(fresh), accelerator=accelerator, base_key=base_key
        )
        # What the loop tells is the mean speed so far. One step before the last, nothing has been saved yet:
        # neither side's memory is that of saving.
        done = list(itertools.islice(progresses, WARM_STEPS + steps))
        seconds = [batch * each.step / each.samples_per_second for each in done]
        memory = torch.cuda.max_memory_allocated() if on_card else peak_bytes()
        progresses.close()  # type: ignore[attr-defined]
    each = [after - before for before, after in itertools.pairwise(seconds)][WARM_STEPS - 1 :]
    share = sum(loading[WARM_STEPS:]) / sum(each)
    return found | {"seconds": statistics.median(each), "memory": memory, "loading": share}


def theirs(
    *, folder: str, base: str, method: str, resolution: int, batch: int, steps: int
) -> dict[str, float]:
    """The steps of diffusers' scripts: median seconds of a step, peak bytes, the loader's share."""
    import torch
    from accelerate import Accelerator
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig
    from PIL import Image
    from torchvision import transforms
    from transformers import CLIPTextModel, CLIPTokenizer

    lora, half = method == "lora", torch.bfloat16
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    tokenizer: Any = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
    text_encoder: Any = CLIPTextModel.from_pretrained(base, subfolder="text_encoder", dtype=half)
    vae: Any = AutoencoderKL.from_pretrained(base, subfolder="vae", torch_dtype=half)
    unet: Any = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    unet = unet.to(half) if lora else unet.float()
    vae.requires_grad_(False)
    text_encoder.requires_grad_(False)
    if lora:
        unet.requires_grad_(False)
        unet.add_adapter(
            LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=list(TARGETS))
        )
        cast_training_params(unet, dtype=torch.float32)
    unet.train()
    learned = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer: Any = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    seen = transforms.Compose(
        [
            transforms.Resize(resolution, interpolation=transforms.InterpolationMode.LANCZOS),
            transforms.CenterCrop(resolution),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    noising = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    paths = sorted(Path(folder, "pictures").glob("*.jpg"))

    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            with Image.open(paths[index]) as file:
                pixels = seen(file.convert("RGB"))
            text = paths[index].with_suffix(".txt").read_text()
            ids = tokenizer(text, max_length=77, padding="max_length", truncation=True, return_tensors="pt")
            return pixels, ids.input_ids[0]

    loader: Any = torch.utils.data.DataLoader(Pictures(), shuffle=True, batch_size=batch, drop_last=True)
    rates: Any = get_scheduler("constant", optimizer=optimizer)
    unet, optimizer, loader, rates = accelerator.prepare(unet, optimizer, loader, rates)
    scale, taken, loading = vae.config.scaling_factor, [], []
    batches = iter(())
    for _ in range(WARM_STEPS + steps):
        began = time.perf_counter()
        pixels, ids = next(batches, (None, None))
        if pixels is None:
            batches = iter(loader)
            pixels, ids = next(batches)
        loading.append(time.perf_counter() - began)
        with accelerator.accumulate(unet):
            latents = vae.encode(pixels.to(half)).latent_dist.sample() * scale
            noise = torch.randn_like(latents)
            levels = torch.randint(0, 1000, (batch,)).long()
            noisy = noising.add_noise(latents.float(), noise.float(), levels).to(half)  # type: ignore[arg-type]
            states = text_encoder(ids, return_dict=False)[0]
            predicted = unet(noisy, levels, states, return_dict=False)[0]
            loss = torch.nn.functional.mse_loss(predicted.float(), noise.float(), reduction="mean")
            accelerator.gather(loss.repeat(batch)).mean().item()  # type: ignore[union-attr]
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        taken.append(time.perf_counter() - began)
    share = sum(loading[WARM_STEPS:]) / sum(taken[WARM_STEPS:])
    return {"seconds": statistics.median(taken[WARM_STEPS:]), "memory": peak_bytes(), "loading": share}


def write_pictures(folder: Path, *, side: int) -> None:
    """JPEG files with captions beside them."""
    from tests.odd_pictures import drawing

    folder.mkdir()
    for number in range(PICTURES):
        drawing(side, side, number=number).save(folder / f"{number:03}.jpg", quality=90)
        (folder / f"{number:03}.txt").write_text(f"a red car in london, number {number}\n")


def peak_bytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def card_peak(width: int = 8192) -> float:
    """The best rate of square bf16 matrix products on the card, in operations a second."""
    import torch

    one = torch.ones(width, width, dtype=torch.bfloat16, device="cuda")
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(one, one)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * width**3 / min(seconds)


def child(**task: Any) -> dict[str, Any]:
    return pipeline_speed.child(script=__file__, **task)


CHILDREN = {"ours": ours, "diffusers": theirs, "write": pipeline_speed.write}
SECTION_RUNS = {"small": small, "bundled": bundled, "cuda": cuda}


if __name__ == "__main__":
    main()
