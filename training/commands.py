"""What each part of `python -m training` does: open the recipe's data, run the loop, report, deliver.

Knows nothing of arguments' spelling (`__main__.py`) or of losses (each run's own file).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from training import clip as clip_run
from training import recogniser as recogniser_run
from training import text_record
from training import unet as unet_run
from training import vae as vae_run
from training.data.postcard_shards import write_postcard_shards
from training.estimate import (
    estimate_clip,
    estimate_recogniser,
    estimate_text,
    estimate_unet,
    estimate_vae,
)
from training.export import export_judge, export_pipeline, part_facts
from training.folders import deliver
from training.logbook import Logbook
from training.loop import Progress
from training.model_card import write_model_card
from training.options import (
    HELD_OUT_SEED,
    Options,
    accelerator_of,
    based_on,
    chosen_recipe,
    chosen_unet,
    finished,
    held_out_postcards,
    judge_postcards,
    runs_folder,
    training_postcards,
    training_stream,
    with_steps,
)
from training.parts import LEGS, Parts, keep_parts, load_parts, load_text_encoder
from training.pictures import picture_array, picture_tensor
from training.tokenizer import read_tokenizer
from training.watch import watch

STATISTICS_PICTURES = 5_120
"""Pictures over which the latents' mean and standard deviation are taken."""
RECONSTRUCTED_PICTURES = 256
"""Held-out pictures that a VAE is scored on."""


def scenes(options: Options) -> None:
    training, held_out = training_postcards(options), held_out_postcards(options)
    print(f"{len(training)} training and {len(held_out)} held-out pictures.")
    if options.shards:
        shards = write_postcard_shards(training, options.shards)
        print(f"{len(shards)} shards of the training pictures in {options.shards}.")


def train_recogniser(options: Options) -> None:
    recipe = chosen_recipe(options)
    run = getattr(recipe, options.part)
    run = replace(run, fit=with_steps(run.fit, options))
    initial = recogniser_run.Recogniser.load(options.init_from) if options.init_from else None
    if initial is not None:  # before anything is rendered
        recogniser_run.copy_recogniser(initial, recogniser_run.build_recogniser(run))
    if options.dry_run:
        return estimate_recogniser(run, size=recipe.size, name=options.part)
    accelerator = accelerator_of(options)
    with accelerator.main_process_first():
        if options.part == "recogniser":
            postcards, held_out = training_postcards(options), held_out_postcards(options)
        else:
            postcards, held_out = judge_postcards(options)
    pictures, codes = (
        picture_tensor(held_out.images(list(range(len(held_out))))),
        recogniser_run.all_codes(held_out),
    )
    folder = runs_folder(options) / options.part

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged() as objective:
            counts = recogniser_run.field_accuracy(objective.recogniser, pictures, codes)  # type: ignore[arg-type]
        scores = recogniser_run.group_accuracy(counts)
        book.write(progress.step, {f"held_out/{name}": value for name, value in scores.items()})
        tqdm.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))

    progresses = recogniser_run.train(
        run,
        postcards,
        run_folder=folder,
        accelerator=accelerator,
        initial=initial,
    )
    watch(progresses, folder, run.fit, report=report, writes=accelerator.is_main_process)
    if accelerator.is_main_process:
        trained = recogniser_run.trained_recogniser(run, folder, size=recipe.size)
        deliver(folder / "final", trained.save)


def train_vae(options: Options) -> None:
    recipe = chosen_recipe(options)
    run = replace(recipe.vae, fit=with_steps(recipe.vae.fit, options))
    if options.dry_run:
        return estimate_vae(run, recipe.recogniser)
    initial = vae_run.warm_folder(options.init_from) if options.init_from else None
    accelerator = accelerator_of(options)
    folder = runs_folder(options) / "vae"
    recogniser = recogniser_run.Recogniser.load(
        finished(runs_folder(options) / "recogniser" / "final", "recogniser")
    )
    reader, reader_name = recogniser, "recogniser"
    judge = runs_folder(options) / "judge" / "final"
    if judge.is_dir():  # no loss has seen it, so it is the better reader
        reader, reader_name = recogniser_run.Recogniser.load(judge), "judge"
    with accelerator.main_process_first():
        postcards, held_out = training_postcards(options), held_out_postcards(options)
    shown = picture_tensor(held_out.images(list(range(min(RECONSTRUCTED_PICTURES, len(held_out))))))
    codes = recogniser_run.all_codes(held_out)[: len(shown)]
    small = recogniser_run.small_codes(held_out)[: len(shown)]

    def read(pictures: Tensor) -> dict[str, float]:
        scores = recogniser_run.group_accuracy(recogniser_run.field_accuracy(reader, pictures, codes))
        of_small = recogniser_run.group_accuracy(recogniser_run.field_accuracy(reader, pictures, small))
        return scores | {f"small {name}": value for name, value in of_small.items()}

    before = read(shown)

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged() as objective:
            decoded = vae_run.reconstruct(objective.vae, shown)  # type: ignore[arg-type]
        after, quality = read(decoded), vae_run.psnr(decoded, shown)
        told = {f"held_out/{name} ({reader_name})": value for name, value in after.items()}
        book.write(progress.step, {"held_out/psnr": quality, **told})
        book.picture(progress.step, "reconstructions", _beside(shown[:16], decoded[:16]))
        lines = ", ".join(f"{k} {v:.3f} of {before[k]:.3f}" for k, v in after.items())
        tqdm.write(f"step {progress.step}: {quality:.2f} dB; the {reader_name} reads {lines}")

    progresses = vae_run.train(
        run, postcards, recogniser, initial=initial, run_folder=folder, accelerator=accelerator
    )
    watch(progresses, folder, run.fit, report=report, writes=accelerator.is_main_process)
    if accelerator.is_main_process:
        vae = vae_run.trained_vae(run, folder)
        chosen = torch.arange(min(STATISTICS_PICTURES, len(postcards))).split(64)
        batches = (picture_tensor(postcards.images(part.tolist())) for part in chosen)
        vae_run.fold_statistics(vae, vae_run.latent_statistics(vae, batches))
        deliver(folder / "final", vae.save_pretrained)


def train_clip(options: Options) -> None:
    recipe = chosen_recipe(options)
    run = replace(recipe.clip, fit=with_steps(recipe.clip.fit, options))
    folder = runs_folder(options) / "clip"
    if options.dry_run:
        return estimate_clip(run)
    accelerator = accelerator_of(options)
    with accelerator.main_process_first():
        postcards, held_out = training_postcards(options), held_out_postcards(options)
        tokenizer = clip_run.prepare_tokenizer(run, postcards, run_folder=folder)

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged() as objective:
            values = clip_run.score(run, objective, held_out, tokenizer)
        book.write(progress.step, values)
        tqdm.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))

    progresses = clip_run.train(run, postcards, tokenizer, run_folder=folder, accelerator=accelerator)
    watch(progresses, folder, run.fit, report=report, writes=accelerator.is_main_process)
    if accelerator.is_main_process:

        def export_clip(new: Path) -> None:
            clip_run.export(run, tokenizer, world=recipe.world, run_folder=folder, folder=new)

        deliver(folder / "final", export_clip)


def train_text(options: Options) -> None:
    recipe = chosen_recipe(options)
    run = replace(recipe.text, fit=with_steps(recipe.text.fit, options))
    base, folder = based_on(options.init_from), runs_folder(options) / "text"
    encoder, tokenizer = load_text_encoder(base / "text_encoder"), read_tokenizer(base / "tokenizer")
    if options.dry_run:
        return estimate_text(run, encoder)
    accelerator = accelerator_of(options)

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged() as objective:
            values = text_record.score(objective, recipe.world, tokenizer, scene_seed=HELD_OUT_SEED)
        book.write(progress.step, values)
        tqdm.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))

    progresses = text_record.train(
        run, recipe.world, tokenizer, encoder,
        scene_seed=training_stream(recipe), run_folder=folder, accelerator=accelerator,
    )  # fmt: skip
    watch(progresses, folder, run.fit, report=report, writes=accelerator.is_main_process)
    if accelerator.is_main_process:
        trained = text_record.trained_encoder(encoder, run, folder)
        deliver(folder / "final", lambda new: trained.save_pretrained(new, safe_serialization=True))


def train_unet(options: Options) -> None:
    recipe = chosen_recipe(options)
    run = chosen_unet(recipe, options)
    run = replace(run, fit=with_steps(run.fit, options))
    if options.dry_run:
        channels = recipe.vae.shape.latent_channels
        return estimate_unet(run, clip=recipe.clip, latent_channels=channels, size=recipe.size)
    folder = runs_folder(options) / unet_run.run_name(run)
    if options.init_from is not None:
        run = replace(run, half_size_steps=0)  # what half-size pictures teach is in the weights already
    whole = replace(run, half_size_steps=0)  # held-out pictures are scored whole
    accelerator = accelerator_of(options)
    with accelerator.main_process_first():
        parts = unet_parts(options, folder)
        data, held_out = (
            unet_run.build_latent_set(wanted, cards, parts, folder=options.runs / "cache")
            for wanted, cards in ((run, training_postcards(options)), (whole, held_out_postcards(options)))
        )

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged() as objective:
            assert isinstance(objective, unet_run.UNetObjective)
            values = {
                f"held_out/{name}": unet_run.validation_loss(objective, held_out, conditioning=name)
                for name in ("true", "empty")
            }
            grid = unet_run.preview(run, objective, parts, size=recipe.size, sampling=recipe.sampling)
        book.write(progress.step, values)
        book.picture(progress.step, "samples", grid)
        tqdm.write(f"step {progress.step}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items()))

    initial = options.init_from / "unet" if options.init_from else None
    progresses = unet_run.train(
        run,
        data,
        initial=initial,
        text_encoder=parts.text_encoder,
        run_folder=folder,
        accelerator=accelerator,
    )
    watch(progresses, folder, run.fit, report=report, writes=accelerator.is_main_process)


def export(options: Options) -> None:
    recipe = chosen_recipe(options)
    recipe = replace(recipe, unet=chosen_unet(recipe, options))
    print(export_pipeline(recipe, options.runs, out=options.out, notes=options.note))
    if options.judge_out:
        print(export_judge(recipe, options.runs, out=options.judge_out))


def card(options: Options) -> None:
    write_model_card(chosen_recipe(options), options.model, name=options.model.resolve().name)


def unet_parts(options: Options, folder: Path) -> Parts:
    """The VAE, text encoder and tokenizer of a UNet run: kept in its folder since its first start."""
    kept, others = folder / "parts", {"vae": options.vae_from, "text": options.text_from}
    if options.init_from is not None:
        base = based_on(options.init_from)
        own = {part: left_by(part, folder) for part, folder in others.items() if folder is not None}
        legs = base / LEGS if (base / LEGS).is_file() else None
        keep_parts(
            kept,
            vae=own.get("vae", base / "vae"),
            text_encoder=own.get("text", base / "text_encoder"),
            tokenizer=base / "tokenizer",
            legs=legs,
            own_runs={part: part_facts(folder.parent) for part, folder in own.items()},
        )
    elif named := [part for part, folder in others.items() if folder is not None]:
        raise ValueError(f"--{named[0]}-from {others[named[0]]}: is for warm legs; give --init-from too.")
    elif not kept.is_dir():
        vae = finished(runs_folder(options) / "vae" / "final", "vae")
        clip = finished(runs_folder(options) / "clip" / "final", "clip")
        keep_parts(kept, vae=vae, text_encoder=clip / "text_encoder", tokenizer=clip / "tokenizer")
    return load_parts(kept)


def left_by(part: str, folder: Path) -> Path:
    """Raises FileNotFoundError unless `folder`, of `--vae-from` or `--text-from`, is what such a run left."""
    if not ((folder / "config.json").is_file() and (folder.parent / "metrics.jsonl").is_file()):
        raise FileNotFoundError(
            f"--{part}-from {folder}: no run's result there; name RUNS/RECIPE/{part}/final."
        )
    return folder


def _beside(first: Tensor, second: Tensor) -> Image.Image:
    """Two rows of pictures for each eight: `first` above `second`."""
    rows = []
    for i in range(0, len(first), 8):
        rows += [np.concatenate(list(picture_array(p[i : i + 8])), axis=1) for p in (first, second)]
    return Image.fromarray(np.concatenate(rows))


COMMANDS: dict[str, Callable[[Options], None]] = {
    "scenes": scenes,
    "recogniser": train_recogniser,
    "judge": train_recogniser,
    "second_judge": train_recogniser,
    "vae": train_vae,
    "clip": train_clip,
    "text": train_text,
    "unet": train_unet,
    "export": export,
    "card": card,
}
