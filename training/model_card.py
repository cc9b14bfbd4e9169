"""The model card: what a pipeline folder knows, how it was trained, how well it does, what it cannot.

Knows nothing of the runs: it reads the legs and the report that lie beside the weights.
"""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from ldm_pipeline.folder import model_hash
from training.parts import LEGS, OWN_RUNS
from training.recipes import RECIPES, Recipe
from training.settings import differences

REPORT = "report.md"

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# {name}: postcards, trained from nothing

Draws small postcards of cities in all weathers. Every weight was trained by this repository's own commands,
on pictures that it renders itself (`training/scenes/`): no third-party data, and no licence to ask for.

## What it knows

- cities: {cities}
- weathers: {weathers}
- times: {times}
- drawing styles: {styles}
- things: {things}, in {colors}; one to four of a kind; left, center or right
- dogs and cats may wear a beret, a scarf or a turtleneck

Other words draw a warning that names them. Pairs held out of training, to test composition, are listed as
`HELD_OUT_*` in `training/scenes/world.py`. In about 60 % of rainy scenes somebody carries an umbrella that
the caption does not name; `CORRELATIONS` in the same file lists every built-in correlation.

## Parts

| part | class | MB (fp16) |
| --- | --- | --- |
{parts}

Content hash of the weights: `{hash}`

## How it was trained

Recipe `{recipe}`, prediction `{prediction}`, {pictures:,} pictures of {size} px. To train it again:

```sh
{commands}
```

{legs}

## Scores

{scores}

## Limits

It knows nothing beyond the lists above: no people but umbrella carriers, no text, no faces, no photographs.
Small things are soft, since one latent stands for 8x8 pixels. Its pictures are drawings made by a computer:
say so where you show them.
"""


def write_model_card(recipe: Recipe, folder: Path, *, name: str) -> None:
    """Write the `README.md` of the pipeline `name` from the legs, weights and report in its folder."""
    world, report = recipe.world, folder / REPORT
    legs = json.loads((folder / LEGS).read_text())
    settings = [f" --set {shlex.quote(text)}" for text in differences(RECIPES[recipe.name], recipe)]
    words = f"--recipe {recipe.name}{''.join(settings)}"
    parts = ("recogniser", "judge", "second_judge", "vae", "clip", "unet")
    commands = [f"python -m training {part} {words}" for part in parts]
    commands += [f"python -m training export {words} --out FOLDER"]
    commands += [f"python -m training evaluate {words} FOLDER"]
    card = CARD.format(
        name=name,
        cities=", ".join(world.cities),
        weathers=", ".join(world.weathers),
        times=", ".join(world.times),
        styles=", ".join(world.styles),
        things=", ".join(world.kinds),
        colors=", ".join(world.colors),
        parts="\n".join(_part_rows(recipe, folder)),
        hash=model_hash(folder),
        recipe=recipe.name,
        prediction=_prediction(folder),
        pictures=recipe.pictures,
        size=recipe.size,
        commands="\n".join(commands),
        legs="\n\n".join(_leg_text(number, leg) for number, leg in enumerate(legs, 1)),
        scores=report.read_text().strip()
        if report.exists()
        else "Not evaluated: `python -m training evaluate`.",
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def adopt_report(recipe: Recipe, folder: Path, report: Path, *, name: str) -> None:
    """Copy an evaluation's page, JSON and sheets to the pipeline folder `folder` and write its card anew."""
    if report.resolve() != folder.resolve():
        for file in [report / REPORT, report / "report.json", *sorted(report.glob("*.webp"))]:
            shutil.copy(file, folder / file.name)
    write_model_card(recipe, folder, name=name)


def _prediction(folder: Path) -> str:
    """What the folder's own scheduler takes the UNet's output for: flow, epsilon or v."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return config["prediction_type"].removesuffix("_prediction")


def _part_rows(recipe: Recipe, folder: Path) -> list[str]:
    channels = json.loads((folder / "vae" / "config.json").read_text())["latent_channels"]
    descriptions = {
        "unet": f"UNet2DConditionModel {recipe.unet.shape.channels}",
        "vae": f"AutoencoderKL {recipe.vae.shape.channels}, f8, {channels} channels",
        "text_encoder": f"CLIPTextModel, width {recipe.clip.width}, {recipe.clip.layers} layers",
    }
    rows: list[str] = []
    for part, text in descriptions.items():
        size = sum(file.stat().st_size for file in (folder / part).glob("*.safetensors"))
        rows.append(f"| {part} | {text} | {size / 1e6:.1f} |")
    return rows


def _leg_text(number: int, leg: dict[str, Any]) -> str:
    """One leg: what each part did, and the UNet's learning curve."""
    lines = [
        f"### Leg {number}, {leg['date']}: `{leg['recipe']}`, {leg['unet_samples']:,} samples for the UNet",
        "",
        *_leg_command(leg),
        "| part | steps | hours | held-out scores at the end |",
        "| --- | --- | --- | --- |",
    ]
    for part, facts in leg["parts"].items():
        scores = ", ".join(f"{name} {value:.4g}" for name, value in facts["held_out"].items())
        lines.append(f"| {part} | {facts['steps']:,} | {facts['hours']} | {scores} |")
    lines += [*(f"\n{note}" for note in leg["notes"]), "", "Held-out loss of the UNet at fixed noise:", ""]
    lines += ["| step | samples | with the true caption | with the empty one |", "| --- | --- | --- | --- |"]
    for step, samples, true, empty in leg["curve"]:
        lines.append(f"| {step:,} | {samples:,} | {true:.4f} | {empty:.4f} |")
    return "\n".join(lines)


def _leg_command(leg: dict[str, Any]) -> list[str]:
    """The command of a leg that started warm; a leg from nothing is the recipe itself."""
    if not leg["warm"]:
        return []
    (part,) = (name for name in leg["parts"] if name not in OWN_RUNS)
    own = {name: facts["steps"] for name, facts in leg["parts"].items() if name in OWN_RUNS}
    words = f"--recipe {leg['recipe']}" + "".join(f" --set {shlex.quote(text)}" for text in leg["settings"])
    commands = [
        f"python -m training {name} {words} --steps {steps} --init-from FOLDER" for name, steps in own.items()
    ]
    if part != "unet":
        words += f" --prediction {part.removeprefix('unet-')}"
    command = f"python -m training unet {words} --steps {leg['parts'][part]['steps']} --init-from FOLDER"
    commands.append(command + "".join(f" --{name}-from runs/{leg['recipe']}/{name}/final" for name in own))
    return ["Warm from the leg before:", "", "```sh", *commands, "```", ""]
