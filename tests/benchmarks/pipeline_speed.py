"""Speed and memory of our pipeline against diffusers' defaults: same weights, seeds and steps, in turns.

Run by hand: `python tests/benchmarks/pipeline_speed.py bundled cold`. No test: it asserts nothing about time.

Every measurement is a process of its own (A B A B ...), so that peak memory is that side's alone. Sections:
`large` Stable Diffusion 1.5's shapes with random weights on the CPU, `options` what options save there,
`bundled` the model in this package, `cold` process start to PNG, `cuda` steps a second on a GPU, SD 1.5 and
2.1, eager and compiled.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("diffusers", "ours")
SECTIONS = ("large", "options", "bundled", "cold", "cuda")
PROMPT, NEGATIVE = "a red car in london in the rain", "umbrella"
BUNDLED = {"num_inference_steps": 14, "guidance_scale": 6.0, "height": 128, "width": 128}
SHAPES: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    "sd15_half": {
        "cross_attention_dim": 384,
        "attention_head_dim": 8,
        "block_out_channels": [160, 320, 640, 640],
    },
}
"""What tells the UNets apart, beside the shapes they share."""
TURNS = 3

Row = tuple[str, ...]


def main() -> None:
    """Print one Markdown table per section."""
    options = read_options()
    if options.child is not None:
        print(json.dumps(CHILDREN[options.child.pop("task")](**options.child)))
        return
    sections = {
        "large": lambda: large(steps=options.steps, size=options.size, turns=options.turns),
        "options": lambda: options_of_large(steps=options.steps, size=options.size, turns=options.turns),
        "bundled": lambda: bundled(pictures=options.pictures, turns=options.turns),
        "cold": lambda: cold(turns=options.turns),
        "cuda": lambda: cuda(steps=options.steps, size=options.size, turns=options.turns),
    }
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.processor() or platform.machine()}")
    for name in options.sections:
        print(f"\n### {name}\n", flush=True)
        sections[name]()


def read_options() -> argparse.Namespace:
    """Read the command line; `--child` is how this script calls itself."""
    parser = argparse.ArgumentParser(description="Time our pipeline against diffusers' defaults.")
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--steps", type=int, default=4, help="denoising steps of the large networks")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side of their pictures")
    parser.add_argument("--pictures", type=int, default=8, help="batch of the bundled model")
    parser.add_argument("--turns", type=int, default=TURNS, help="times that each side is measured")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := {*options.sections} - {*SECTIONS}:
        parser.error(f"{', '.join(sorted(unknown))}: use some of {', '.join(SECTIONS)}")
    return options


# Sections


def large(*, steps: int, size: int, turns: int) -> None:
    """Stable Diffusion 1.5's shapes on the CPU, guided: float32, bfloat16 in diffusers, "auto" in ours."""
    peaks = {kind: child(task="peak", kind=kind)["flops"] for kind in ("float32", "bfloat16")}
    for kind, peak in peaks.items():
        print(f"- matrix products in {kind}: {peak / 1e9:.0f} GFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        child(task="write", folder=folder, shape="sd15")
        runs: list[dict[str, Any]] = [
            {"task": "draw", "folder": folder, "side": side, "kind": kind, "flops": True}
            | {"settings": {"num_inference_steps": steps, "height": size, "width": size}}
            for side, kind in (
                *((side, "float32") for side in SIDES),
                (SIDES[0], "bfloat16"),
                (SIDES[1], "auto"),
            )
        ]
        found = in_turns([lambda run=run: child(**run) for run in runs], turns)
    rows, base = [], middle(found[0])
    for run, measured in zip(runs, found, strict=True):
        seconds, memory = middle(measured), middle(measured, "memory")
        flops, kind = measured[0]["flops"] / seconds, measured[0]["dtype"]
        shares = f"{seconds / base:.2f}", f"{memory / middle(found[0], 'memory'):.2f}"
        reached = f"{flops / 1e9:.0f} ({flops / peaks[kind]:.0%})"
        name = run["kind"] if run["kind"] == kind else f"{run['kind']} ({kind})"
        rows.append((run["side"], name, spread(measured), f"{memory / 1e9:.2f}", *shares, reached))
    head = ("side", "dtype", "s a picture", "peak GB", "time / first", "memory / first", "GFLOP/s (of peak)")
    print_table(head, rows)


def options_of_large(*, steps: int, size: int, turns: int) -> None:
    """What a guidance interval and the step cache save on the same shapes, in dtype "auto"."""
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "guidance_interval=(0, 0.7)": {"guidance_interval": (0.0, 0.7)},
        "step_cache_interval=2": {"step_cache_interval": 2},
        "step_cache_interval=3": {"step_cache_interval": 3},
    }
    shared = {"num_inference_steps": steps, "height": size, "width": size, "output_type": "latent"}
    with tempfile.TemporaryDirectory() as folder:
        child(task="write", folder=folder, shape="sd15")
        draw_ours: dict[str, Any] = {"task": "draw", "folder": folder, "side": "ours", "kind": "auto"}
        runs = [{**draw_ours, "warm_steps": 1, "settings": {**shared, **way}} for way in ways.values()]
        found = in_turns([lambda run=run: child(**run) for run in runs], turns)
    base = middle(found[0])
    rows = [
        (name, spread(measured), f"{middle(measured) / base:.2f}")
        for name, measured in zip(ways, found, strict=True)
    ]
    print_table(("option", "s for latents", "time / first"), rows)


def bundled(*, pictures: int, turns: int) -> None:
    """The bundled model, warm: one picture, and a batch, exact and not."""
    rows = []
    kinds = (("diffusers", "float32", None), ("ours", "float32", True), ("ours", "auto", True))
    batches = (*kinds, ("ours", "float32", False), ("ours", "auto", False))
    for count in dict.fromkeys((1, pictures)):
        runs: list[dict[str, Any]] = [
            {"task": "draw", "folder": bundled_folder(), "side": side, "kind": kind, "turns": 5}
            | {"exact": exact, "settings": {**BUNDLED, "num_images_per_prompt": count}}
            for side, kind, exact in (kinds if count == 1 else batches)
        ]
        found = in_turns([lambda run=run: child(**run) for run in runs], turns)
        for run, measured in zip(runs, found, strict=True):
            a_second = f"{count / middle(measured):.2f}"
            memory = f"{middle(measured, 'memory') / 1e9:.2f}"
            exact = {None: "-", True: "yes", False: "no"}[run["exact"]]
            name = f"{run['kind']} ({measured[0]['dtype']})" if run["kind"] == "auto" else run["kind"]
            rows.append((run["side"], name, str(count), exact, spread(measured), a_second, memory))
    print_table(("side", "dtype", "batch", "exact", "s a call", "pictures a second", "peak GB"), rows)


def cold(*, turns: int) -> None:
    """From the start of a process to a PNG on the disk: `ldm generate` and diffusers' shortest script."""
    settings = ", ".join(f"{name}={value!r}" for name, value in BUNDLED.items())
    with tempfile.TemporaryDirectory() as folder:
        script = (
            "from diffusers import StableDiffusionPipeline\n"
            f"pipe = StableDiffusionPipeline.from_pretrained({bundled_folder()!r})\n"
            f"pipe({PROMPT!r}, {settings}).images[0].save({str(Path(folder) / 'theirs.png')!r})"
        )
        ours = [sys.executable, "-m", "ldm_pipeline", "generate", PROMPT, "--seed", "1", "--out", folder]
        imports = [
            "from diffusers import StableDiffusionPipeline",
            "from ldm_pipeline import LatentDiffusionPipeline",
        ]
        commands = {
            "diffusers": [sys.executable, "-c", script],
            "ours": ours,
            **{f"only `{line}`": [sys.executable, "-c", line] for line in imports},
        }
        found = in_turns([lambda one=one: timed_process(one) for one in commands.values()], turns)
    base = middle(found[0])
    rows = [
        (name, spread(measured), f"{middle(measured) / base:.2f}")
        for name, measured in zip(commands, found, strict=True)
    ]
    print_table(("process", "s", "time / first"), rows)


def cuda(*, steps: int, size: int, turns: int) -> None:
    """Steps a second of one picture on a GPU in bfloat16."""
    if not child(task="cuda_device")["name"]:
        print("There is no CUDA card here: this section was not run.")
        return
    rows = []
    for shape in ("sd15", "sd21"):
        with tempfile.TemporaryDirectory() as folder:
            child(task="write", folder=folder, shape=shape)
            runs: list[dict[str, Any]] = [
                {"task": "draw", "folder": folder, "side": side, "kind": "bfloat16", "device": "cuda"}
                | {"compiled": compiled, "latent": True, "turns": 5}
                | {"settings": {"num_inference_steps": steps, "height": size, "width": size}}
                for compiled in (False, True)
                for side in SIDES
            ]
            found = in_turns([lambda run=run: child(**run) for run in runs], turns)
        for run, measured in zip(runs, found, strict=True):
            how = "compiled" if run["compiled"] else "eager"
            memory = f"{middle(measured, 'memory') / 1e9:.2f}"
            rows.append((shape, run["side"], how, f"{steps / middle(measured):.1f}", memory))
    print(child(task="cuda_device")["name"])
    print_table(("shape", "side", "UNet", "steps a second", "peak GB"), rows)


# What runs in a process of its own


def draw(
    *,
    folder: str,
    side: str,
    kind: str,
    settings: dict[str, Any],
    device: str = "cpu",
    compiled: bool = False,
    latent: bool = False,
    flops: bool = False,
    exact: bool | None = None,
    warm_steps: int | None = None,
    turns: int = 1,
) -> dict[str, Any]:
    """Open a folder, draw to warm up, then `turns` times: median seconds, peak bytes, operations."""
    import torch
    from diffusers import StableDiffusionPipeline
    from torch.utils.flop_counter import FlopCounterMode

    from ldm_pipeline.loading import load_pipeline

    pipe: Any
    if side == "ours":
        pipe = load_pipeline(folder, device=device, dtype=kind)
    else:
        pipe = StableDiffusionPipeline.from_pretrained(
            folder, dtype=getattr(torch, kind), safety_checker=None
        )
        pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    dtype = str(pipe.unet.dtype).removeprefix("torch.")
    if compiled:
        pipe.unet = torch.compile(pipe.unet)
    count = settings.get("num_images_per_prompt", 1)
    given = {"guidance_scale": 7.5, **settings, "negative_prompt": NEGATIVE}
    if exact is not None:
        given["exact"] = exact
    if latent:
        given["output_type"] = "latent"

    def run(**changed: Any) -> float:
        generators = [torch.Generator("cpu").manual_seed(1 + i) for i in range(count)]
        began = time.perf_counter()
        pipe(PROMPT, generator=generators, **{**given, **changed})
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    operations = 0
    if flops:  # of the whole run: what one step has beside another is the same at every step
        counts = []
        for steps in (1, 2):
            with FlopCounterMode(display=False) as counted:
                run(num_inference_steps=steps)
            counts.append(counted.get_total_flops())
        operations = counts[0] + (counts[1] - counts[0]) * (given["num_inference_steps"] - 1)
    else:
        run(**({} if warm_steps is None else {"num_inference_steps": warm_steps}))
    seconds = statistics.median(run() for _ in range(turns))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    return {"seconds": seconds, "memory": memory, "flops": operations, "dtype": dtype}


def write(*, folder: str, shape: str) -> dict[str, float]:
    """Write a pipeline folder of a Stable Diffusion's shapes with random weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests import tiny

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, **SHAPES[shape])
        vae = AutoencoderKL(
            block_out_channels=[c * 2 // 5 for c in unet.config.block_out_channels],  # pyright: ignore
            down_block_types=["DownEncoderBlock2D"] * 4,  # pyright: ignore[reportArgumentType]
            up_block_types=["UpDecoderBlock2D"] * 4,  # pyright: ignore[reportArgumentType]
            layers_per_block=2,
            sample_size=512,
        )
    for seed, network in enumerate((unet, vae)):
        network.to_empty(device="cpu")
        tiny.randomize(network, seed)
    tokenizer: Any = tiny.make_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=SHAPES[shape]["cross_attention_dim"],
        intermediate_size=4 * SHAPES[shape]["cross_attention_dim"],
        num_hidden_layers=23 if shape == "sd21" else 12,
        num_attention_heads=SHAPES[shape]["cross_attention_dim"] // 64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text_encoder = CLIPTextModel(config)
    tiny.randomize(text_encoder, 2)
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler: Any = DDIMScheduler(**betas, clip_sample=False, steps_offset=1)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return {}


def peak(*, kind: str, width: int = 2048) -> dict[str, float]:
    """Measure the best rate of square matrix products in operations a second."""
    import torch

    one = torch.ones(width, width, dtype=getattr(torch, kind))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        torch.mm(one, one)
        seconds.append(time.perf_counter() - began)
    return {"flops": 2 * width**3 / min(seconds)}


def cuda_device() -> dict[str, str]:
    """Name the GPU, "" without one."""
    import torch

    return {"name": torch.cuda.get_device_name() if torch.cuda.is_available() else ""}


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    "draw": draw,
    "write": write,
    "peak": peak,
    "cuda_device": cuda_device,
}


# Measuring and printing


def child(*, script: str = __file__, **task: Any) -> dict[str, Any]:
    """Run a task of this script, or of a like one, in a process of its own and read what it found."""
    command = [sys.executable, script, "--child", json.dumps(task)]
    return json.loads(run_process(command).splitlines()[-1])


def timed_process(command: Sequence[str]) -> dict[str, float]:
    """Time a process from start to end."""
    began = time.perf_counter()
    run_process(command)
    return {"seconds": time.perf_counter() - began}


def run_process(command: Sequence[str]) -> str:
    """Run a process that finds this project's packages, offline, and give what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} failed:\n{done.stderr}")
    return done.stdout


def bundled_folder() -> str:
    """The bundled model's folder."""
    return str(ROOT / "ldm_pipeline" / "models" / "postcards")


def in_turns(measure: Sequence[Callable[[], dict[str, Any]]], turns: int) -> list[list[dict[str, Any]]]:
    """Measure all, one after the other, `turns` times over."""
    found = [[one() for one in measure] for _ in range(turns)]
    return [list(column) for column in zip(*found, strict=True)]


def middle(measured: list[dict[str, Any]], name: str = "seconds") -> float:
    """Median over the turns."""
    return statistics.median(one[name] for one in measured)


def spread(measured: list[dict[str, Any]]) -> str:
    """Median and range of the seconds."""
    seconds = [one["seconds"] for one in measured]
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def print_table(head: Row, rows: Sequence[Row]) -> None:
    """Print a Markdown table."""
    for row in (head, ("---",) * len(head), *rows):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
