"""What `python -m training few_steps` does: draw paths, train an adapter on them, compare, deliver it.

Knows nothing of arguments' spelling (`__main__.py`) or of losses (`few_steps.py`).
"""

from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ldm_pipeline.folder import FEW_STEPS_FACT, model_hash
from ldm_pipeline.images import contact_sheet
from training import few_steps
from training.bases import Base, open_base
from training.class_pictures import decoded
from training.estimate import Stage, cost_of, print_estimate
from training.few_steps import FewStepsObjective, FewStepsRun, Paths
from training.finetune import adopt
from training.folders import deliver
from training.logbook import Logbook
from training.loop import Progress, averaged_weights
from training.lora import WEIGHTS, write_lora
from training.options import (
    HELD_OUT_SEED,
    Options,
    accelerator_of,
    based_on,
    chosen_recipe,
    runs_folder,
    training_stream,
    with_steps,
)
from training.watch import watch

SHOWN_PATHS = 8


def few_steps_run(options: Options) -> None:
    recipe = chosen_recipe(options)
    run = replace(recipe.few_steps, fit=with_steps(recipe.few_steps.fit, options))
    base = open_base(str(based_on(options.init_from)))
    base.pipeline.set_progress_bar_config(disable=True)
    if options.dry_run:
        return estimate(run, base)
    folder = runs_folder(options) / "few_steps"
    accelerator = accelerator_of(options)
    base.pipeline.to(accelerator.device)
    with accelerator.main_process_first(), accelerator.autocast():
        data, held_out = (
            few_steps.build_paths(
                run, base, recipe.world, stream=stream, count=count, folder=options.runs / "cache"
            )
            for stream, count in (
                (training_stream(recipe), run.paths),
                (HELD_OUT_SEED, run.held_out_paths),
            )
        )
        before, without = few_steps.landing_error(base, held_out, steps=run.steps)
    print(f"{run.steps} steps without an adapter end {before:.3f} away from {run.steps * run.parts} steps.")
    objective = few_steps.build_objective(run, base)

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged(), accelerator.autocast():
            after, drawn = few_steps.landing_error(base, held_out, steps=run.steps)
        book.write(progress.step, {"held_out/landing": after, "held_out/landing_without": before})
        book.picture(progress.step, "samples", beside(base, held_out, without, drawn))
        tqdm.write(f"step {progress.step}: {after:.3f} away instead of {before:.3f}")

    progresses = few_steps.train(
        run, objective, data, base.pipeline.scheduler, run_folder=folder, accelerator=accelerator
    )
    watch(progresses, folder, run.fit, report=report, writes=accelerator.is_main_process)
    if accelerator.is_main_process:
        weights, step = averaged_weights(folder)
        adopt(objective, weights)

        def write(new: Path) -> None:
            new.mkdir(parents=True)
            write_adapter(new, run, base, objective)
            (new / "README.md").write_text(card(run, base, steps_trained=step), encoding="utf-8")

        deliver(folder / "final", write)
        print(folder / "final" / WEIGHTS)


def write_adapter(folder: Path, run: FewStepsRun, base: Base, objective: FewStepsObjective) -> None:
    """Write the adapter in float16, in diffusers' and in kohya-ss' format."""
    learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.data = parameter.data.half()
    header = {FEW_STEPS_FACT: str(run.steps)}
    write_lora(folder, shape=run.lora, unet=objective.unet, text_encoder=None, facts=header)


def card(run: FewStepsRun, base: Base, *, steps_trained: int) -> str:
    """The adapter's README: what it is and how to draw with it."""
    scheduler = type(base.pipeline.scheduler).__name__
    guidance = base.pipeline.generation_defaults.guidance_scale
    return f"""# {Path(base.name).name} in {run.steps} steps

A LoRA with which it draws in {run.steps} steps of its own scheduler ({scheduler}) and guidance
({guidance:g}) what it drew in {run.steps * run.parts}. Prompts, negative prompts and seeds mean what they
meant. Other schedulers, and other numbers of steps, are not what it was made for.

```python
pipeline.load_lora_weights("FOLDER", weight_name="{WEIGHTS}")
pipeline("Paris on a rainy day", negative_prompt="umbrella", num_inference_steps={run.steps}, seed=7)
```

Trained for {steps_trained:,} steps of {run.fit.batch_size} stretches of {run.paths:,} drawings, by
`python -m training few_steps`. Licence and attribution are the model's.
Content hash of the model's weights: `{model_hash(Path(base.name))}`
"""


def beside(base: Base, held_out: Paths, without: torch.Tensor, drawn: torch.Tensor):
    """Three rows of the same pictures: few steps without and with the adapter, and many steps."""
    ends = torch.from_numpy(held_out.latents[:SHOWN_PATHS, -1].copy()).float()
    rows = [without[:SHOWN_PATHS], drawn[:SHOWN_PATHS], ends]
    pictures = [picture for row in rows for picture in decoded(base.pipeline, row)]
    return contact_sheet(pictures, columns=len(ends))


def estimate(run: FewStepsRun, base: Base) -> None:
    """Print what the training will take, and what drawing its paths takes."""
    pipeline = base.pipeline
    few_steps.check_schedules(pipeline.scheduler, run)
    side = base.resolution // pipeline.vae_scale_factor
    latents = torch.zeros(1, pipeline.unet.config.in_channels, side, side)
    states = few_steps.token_states(pipeline, [""], [""])
    batch = {"latents": latents, "wanted": latents, "timesteps": torch.zeros(1), "states": states}
    cost = cost_of(few_steps.build_objective(run, base), batch)
    stage = Stage(run.fit.total_steps, run.fit.batch_size, cost)
    print_estimate(pipeline.unet, [stage], name=f"few_steps of {base.name}")
    drawn = run.paths + run.held_out_paths
    print(f"paths: {drawn:,} drawings of {run.steps * run.parts} steps are made first")
