"""What `python -m training finetune` does: open base and pictures, run the loop, look at it, deliver.

Knows nothing of arguments' spelling (`__main__.py`) or of losses (`finetune.py`).
"""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from ldm_pipeline.tokens import words_of
from training.bases import Base, open_base
from training.class_pictures import class_sheet, draw_class_pictures
from training.data.cache import content_key
from training.data.picture_report import PictureReport
from training.data.picture_set import PictureSetConfig, SourceConfig, open_picture_set
from training.estimate import Stage, cost_of, print_estimate
from training.finetune import FinetuneObjective, FinetuneRun, adopt, build_objective, train
from training.finetune_batches import BatchSource, LatentStore, Pictures, TextStore
from training.finetune_export import Facts, deliver_final, write_report
from training.finetune_recipes import FINETUNES
from training.finetune_scores import (
    Look,
    Yardstick,
    look,
    look_at_base,
    preview_prompts,
    sheet,
    usual_bucket,
)
from training.logbook import Logbook
from training.loop import Progress, averaged_weights
from training.options import Options, accelerator_of, with_steps
from training.settings import adjusted, differences
from training.watch import watch

MARK = "finetune.json"
"""What makes a folder a fine-tuning's run folder."""
CAPTIONS_CHECKED = 2_000
BEFORE_ALL = -1
"""Place of a word of the command line that stands before every `--data`."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a command line's pictures are."""

    training: Pictures
    held_out: Pictures
    views_vary: bool
    """Whether crops or backgrounds are drawn anew each time."""
    captions_vary: bool
    """Whether tags are shuffled."""
    summary: str = ""


OpenPictures = Callable[[Options, Base, Path | None], Opened]


def open_given_pictures(options: Options, base: Base, cache: Path | None) -> Opened:
    """The sources of `--data`; a cache of None keeps nothing on disk."""
    config = PictureSetConfig(
        sources=given_sources(options),
        resolution=options.resolution or base.resolution,
        factor=base.factor,
        background=options.background,
        crop=options.crop,
        held_out=options.held_out,
        strict=options.strict,
        caption_shuffle=options.shuffle_tags,
        keep_first=options.keep_first,
    )
    opened = open_picture_set(config, cache=cache)
    return Opened(
        training=opened.training,
        held_out=opened.held_out,
        views_vary=config.crop or config.background == "random",
        captions_vary=config.caption_shuffle,
        summary=left_out_words(opened.report, config),
    )


def given_sources(options: Options) -> tuple[SourceConfig, ...]:
    """`--data` with the `--template` and `--where` that follow each, or stand before all of them."""

    def of(position: int, given: Sequence[tuple[int, str]]) -> list[str]:
        return [text for place, text in given if place in (BEFORE_ALL, position)]

    return tuple(
        SourceConfig(
            path=path,
            repeats=repeats,
            template=next(reversed(of(position, options.template)), None),
            where=tuple(of(position, options.where)),
        )
        for position, (path, repeats) in enumerate(map(source_words, options.data))
    )


def left_out_words(report: PictureReport, config: PictureSetConfig) -> str:
    """One line on what was left out and where the whole list is; "" where nothing was."""
    if not report.left_out:
        return ""
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
    check = f"data check DATA --resolution {config.resolution} --factor {config.factor}"
    check += " --crop" if config.crop else ""
    return (
        f"{len(report.left_out)} of {report.found} pictures are left out ({reasons});"
        f" `python -m training {check}` lists them"
    )


def source_words(text: str) -> tuple[Path, int]:
    """`PATH` or `PATH:N` as path and repeats; a path that is there is meant as it stands."""
    head, colon, tail = text.rpartition(":")
    if colon and head and tail.isdigit() and not Path(text).exists():
        return Path(head), int(tail)
    return Path(text), 1


def chosen_run(options: Options) -> FinetuneRun:
    """The named recipe with what the command line says.

    Raises ValueError if there is no such recipe (its message lists them), field or value.
    """
    if options.recipe not in FINETUNES:
        raise ValueError(f"--recipe {options.recipe}: unknown; choose from {', '.join(FINETUNES)}.")
    run = adjusted(FINETUNES[options.recipe], options.set)
    if run.name != options.recipe:
        raise ValueError(f"--set name={run.name}: a recipe keeps its name; choose another --recipe.")
    if options.token:
        run = replace(run, word=replace(run.word, word=options.token))
    if options.start_word:
        run = replace(run, word=replace(run.word, start=options.start_word))
    if options.class_prompt:
        run = replace(run, prior=replace(run.prior, prompt=options.class_prompt))
    if run.name == "dreambooth" and not run.prior.prompt:
        raise ValueError('--class-prompt is missing: name the class that dreambooth keeps, e.g. "a dog".')
    return replace(run, fit=with_steps(run.fit, options))


def finetune(options: Options, *, open_pictures: OpenPictures = open_given_pictures) -> None:
    """Run, or go on with, the fine-tuning that the command line describes."""
    run = chosen_run(options)
    refuse_other_folders(options.out)
    base = opened_base(run, options)
    if options.dry_run:
        return estimate(run, base, open_pictures(options, base, None))
    accelerator = accelerator_of(options)
    cache = options.cache or options.out / "cache"
    if accelerator.is_main_process:
        mark_folder(run, base, options)
    base.pipeline.to(accelerator.device)
    base.pipeline.set_progress_bar_config(disable=True)
    parts = base.pipeline
    base_key = content_key(parts.unet, parts.text_encoder, parts.vae)
    with accelerator.main_process_first():
        opened = open_pictures(options, base, cache)
        source, held_out = prepare(run, base, opened, base_key=base_key, cache=cache)
    if opened.summary and accelerator.is_main_process:
        tqdm.write(opened.summary)
    refuse_useless_captions(run, opened.training)
    if source.class_pictures is not None and accelerator.is_main_process:
        class_sheet(base, source.class_pictures).save(options.out / "class_pictures.webp", quality=90)
    autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
    yardstick = Yardstick(
        run=run,
        base=base,
        texts=source.texts,
        held_out=held_out,
        training=source.latents,
        prompts=preview_prompts(options.preview, opened.held_out, opened.training, count=run.looks.pictures),
        bucket=usual_bucket(opened.training),
        autocast=autocast,
    )
    # FSDP2 takes parameters of one number type only.
    held_in = None if accelerator.is_fsdp2 else autocast
    objective = build_objective(run, base, autocast=held_in).to(accelerator.device)
    follow(run, objective, source, yardstick, accelerator, options=options, base_key=base_key)


def opened_base(run: FinetuneRun, options: Options) -> Base:
    return open_base(options.base, prediction=options.prediction, zero_terminal_snr=run.zero_terminal_snr)


def prepare(
    run: FinetuneRun, base: Base, opened: Opened, *, base_key: str, cache: Path
) -> tuple[BatchSource, LatentStore | None]:
    """Encode with the base, as it is, what is not in the cache yet; gives the source and held-out latents."""
    parts = base.pipeline
    texts = TextStore(parts.tokenizer, parts.text_encoder)
    latents = LatentStore(opened.training, parts.vae, folder=cache, vary=opened.views_vary)
    held_out = None
    if len(opened.held_out):
        held_out = LatentStore(opened.held_out, parts.vae, folder=cache, vary=False)
    if not run.reads_ids and not opened.captions_vary:
        both = (opened.training, opened.held_out)
        texts.keep((text for s in both for i in range(len(s)) for text in s.captions(i)), folder=cache)
    prior = None
    if run.prior.prompt:
        prior = draw_class_pictures(
            base,
            prompt=run.prior.prompt,
            count=run.prior.pictures,
            size=opened.training.sizes[usual_bucket(opened.training)],
            steps=run.looks.steps,
            key=base_key,
            folder=cache,
        )
    source = BatchSource(
        pictures=opened.training,
        latents=latents,
        texts=texts,
        seed=run.seed,
        batch_size=run.fit.batch_size,
        as_ids=run.reads_ids,
        empty_share=run.empty_share,
        noise_offset=run.noise_offset,
        class_pictures=prior,
        spelling=run.word.spelled_out if run.method == "textual_inversion" else str,
    )
    return source, held_out


def follow(
    run: FinetuneRun,
    objective: FinetuneObjective,
    source: BatchSource,
    yardstick: Yardstick,
    accelerator: Accelerator,
    *,
    options: Options,
    base_key: str,
) -> None:
    """Train, look at each checkpoint, and deliver the end.

    Where the weights lie in shards, no process can look at them on its own: it is done once, at the end, on
    networks opened anew.
    """
    out, writes, sharded = options.out, accelerator.is_main_process, accelerator.is_fsdp2
    before = first_look(yardstick, objective, base_key=base_key, out=out) if writes else None
    accelerator.wait_for_everyone()

    def report(progress: Progress, book: Logbook) -> None:
        with progress.averaged() as averaged:
            assert isinstance(averaged, FinetuneObjective)
            note_look(yardstick, averaged, book, step=progress.step, before=before)

    if sharded and writes:
        tqdm.write("the weights lie in shards: no previews on the way, one look at the end")
    progresses = train(run, objective, source, run_folder=out, accelerator=accelerator, base_key=base_key)
    watch(progresses, out, run.fit, report=None if sharded else report, writes=writes)
    if writes and before is not None:
        weights, step = averaged_weights(out)
        if sharded:
            base = opened_base(run, options)
            base.pipeline.to(accelerator.device)
            yardstick, objective = replace(yardstick, base=base), build_objective(run, base)
            objective.to(accelerator.device).eval()
        adopt(objective, weights)
        if sharded:
            with closing(Logbook(out, first_step=step)) as book:
                if not any(name.startswith("held_out/") for name in book.names_at(step)):
                    note_look(yardstick, objective, book, step=step, before=before)
        facts = Facts(
            base=yardstick.base.name,
            base_key=base_key,
            data_key=source.pictures.key,
            pictures=len(source.pictures),
            step=step,
            settings=tuple(differences(FINETUNES[run.name], run)),
            prompts=yardstick.prompts,
            words=caption_words(source.pictures),
            before=before.values,
        )
        deliver_final(run, objective, yardstick.base, out, facts=facts)
        print(write_report(run, out, facts=facts))


def caption_words(pictures: Pictures) -> frozenset[str]:
    """Every word of every caption, in lower case."""
    captions = {caption for index in range(len(pictures)) for caption in pictures.captions(index)}
    return frozenset(word for caption in captions for word in words_of(caption))


def note_look(
    yardstick: Yardstick, objective: FinetuneObjective, book: Logbook, *, step: int, before: Look | None
) -> None:
    """Look at the weights that `objective` holds; write measures and previews down, and tell them."""
    with torch.no_grad():
        seen = look(yardstick, objective, before=before)
    book.write(step, seen.values)
    book.picture(step, "samples", sheet(yardstick, seen.previews))
    told = (f"{name.removeprefix('held_out/')} {value:.4f}" for name, value in seen.values.items())
    tqdm.write(f"step {step}: " + ", ".join(told))


def first_look(yardstick: Yardstick, objective: FinetuneObjective, *, base_key: str, out: Path) -> Look:
    """The base's own measures and pictures, before anything is learned."""
    before = look_at_base(yardstick, objective, base_key=base_key, folder=out / "base")
    picture = out / "previews" / "base.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    if not picture.is_file():
        sheet(yardstick, before.previews).save(picture)
    return before


def refuse_other_folders(out: Path) -> None:
    """ValueError for a folder that holds something else, which a run would mix with its own files."""
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file()):
        raise ValueError(f"--out {out}: holds something else than a fine-tuning; choose an empty folder.")


def mark_folder(run: FinetuneRun, base: Base, options: Options) -> None:
    """Write down what the run is made of, for people."""
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"base": base.name, "data": options.data, "run": asdict(run)}
    (options.out / MARK).write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")


def refuse_useless_captions(run: FinetuneRun, pictures: Pictures) -> None:
    """ValueError where a word is to be learned that no caption holds."""
    if run.method != "textual_inversion":
        return
    for index in range(min(len(pictures), CAPTIONS_CHECKED)):
        for caption in pictures.captions(index):
            if run.word.word not in caption:
                raise ValueError(
                    f"textual_inversion: the caption {caption[:60]!r} does not hold {run.word.word!r}; "
                    f'write it into all, e.g. with --template "a picture of {run.word.word}".'
                )


def estimate(run: FinetuneRun, base: Base, opened: Opened) -> None:
    """Print what the run will take."""
    pictures, texts = opened.training, TextStore(base.pipeline.tokenizer, base.pipeline.text_encoder)
    refuse_useless_captions(run, pictures)
    objective = build_objective(run, base)
    height, width = pictures.sizes[usual_bucket(pictures)]
    factor, channels = base.pipeline.vae_scale_factor, base.pipeline.vae.config.latent_channels
    noise = torch.zeros(1, channels, height // factor, width // factor)
    batch = {
        "latents": torch.cat([noise, noise], dim=1),
        "texts": texts.ids([""]) if run.reads_ids else torch.zeros_like(texts.states([""])),
        "posterior_noise": noise,
        "noise": noise,
        "uniform": torch.full((1, 2), 0.5),
    }
    if run.prior.prompt:
        batch |= {f"class_{name}": value for name, value in batch.items()}
    checked = range(min(len(pictures), CAPTIONS_CHECKED))
    cut = sum(any(texts.is_cut(caption) for caption in pictures.captions(i)) for i in checked)
    buckets = sorted({pictures.sizes[pictures.bucket_of(i)] for i in range(len(pictures))})
    sizes = ", ".join(f"{width}x{height}" for height, width in buckets)
    print(f"pictures: {len(pictures)} to train on, {len(opened.held_out)} held out; sizes {sizes}")
    if opened.summary:
        print(opened.summary)
    print(f"captions: {cut} of {len(checked)} are longer than {texts.limit} tokens and are cut there")
    cost = cost_of(objective, batch)
    parts = run.fit.micro_batches
    stage = Stage(run.fit.total_steps, run.fit.batch_size, cost, parts=parts)
    print_estimate(objective, [stage], name=f"{run.name} of {base.name}")
    rate = run.fit.optimizer.learning_rate
    print(f"learning rate: {rate:g} ({run.fit.optimizer.kind}), whatever the batch and the processes")
