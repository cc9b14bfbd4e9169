"""PostcardBench from end to end: a pipeline folder and a judge -> a report, its page and its contact sheets.

Knows nothing of how the model was trained. Scores are a function of the model, the judge and the arguments.
"""

import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ldm_pipeline.folder import component_files, file_hash, model_hash
from ldm_pipeline.judge import WEIGHTS, Reading, Recogniser
from ldm_pipeline.loading import load_pipeline
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.statistics import Share, clustered_share, paired, share
from training.claims import FIELDS
from training.evaluation import answers, sheets
from training.evaluation.answers import Answers, Pictures, confirmed, score_columns
from training.evaluation.checks import Checks, check
from training.evaluation.prompts import BenchPrompt, fresh_prompts, sham_word, umbrella_prompts
from training.evaluation.results import Change, Report, UmbrellaReport
from training.evaluation.second_judge import SecondJudge, compare_judges
from training.evaluation.task_scores import TaskScores, score_tasks
from training.scenes.world import World

SEED_STEP = 1_000
"""Picture k of prompt i has seed 1000 i + k."""
PAIRS_FIRST_SEED = 10_000_000
"""Pair i has this seed + i, without and with the negative prompt."""
SHEET_PICTURES, SHEET_PAIRS, SHEET_TASKS = 64, 8, 8
"""Pictures on the sheets: of the fresh prompts, pairs with and without the negative prompt, of each task."""
NEGATIVE = "umbrella"


def evaluate_folder(
    model: Path,
    *,
    world: World,
    size: int,
    judge_folder: Path,
    out: Path,
    recipe: str = "",
    prompts: int = 64,
    pairs: int = 256,
    tasks: int = 64,
    seeds_per_prompt: int = 4,
    dtype: Literal["float32", "auto"] = "float32",
    lora: Path | None = None,
    steps: int | None = None,
    checks: Checks | None = None,
) -> Report:
    """Score a pipeline folder; write `report.json`, `report.md` and contact sheets (PNG and WebP) to `out`.

    Args:
        model: Pipeline folder; drawn with its own defaults, at `size` pixels, but for what follows.
        world: What the model was trained on; prompts come from its scenes, held-out pairs respected.
        judge_folder: A saved `Recogniser` that no loss has seen.
        recipe: Its name, for the record.
        prompts: Fresh prompts, at least 2.
        pairs: Rainy prompts drawn without and with `negative_prompt="umbrella"`; 0 leaves them out.
        tasks: Prompts of each of the eight tasks, at least 2; 0 leaves them out.
        seeds_per_prompt: 1 to 1000.
        dtype: What the pipeline computes in; "auto": the fastest that the hardware has, as in `ldm`.
        lora: A LoRA's `.safetensors` file to draw with.
        steps: Denoising steps, 1 to 1000; None: the folder's own number.
        checks: What else is measured; None: nothing else.

    Raises:
        ValueError: an argument out of range, a LoRA that does not fit, or a world without what the prompts
            need.
        FileNotFoundError: no pipeline or no judge there.
    """
    for name, value, least, most in (
        ("prompts", prompts, 2, PAIRS_FIRST_SEED // SEED_STEP), ("pairs", pairs, 0, 1_000_000),
        ("tasks", tasks, 0, 1_000),
        ("seeds_per_prompt", seeds_per_prompt, 1, SEED_STEP),
    ):  # fmt: skip
        if not least <= value <= most:
            raise ValueError(f"{name}={value}: must be between {least} and {most}.")
    if not (model / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{model}: no model_index.json of a pipeline there; export one or name its folder."
        )
    checks = checks or Checks(judged_world=world)
    judge = Recogniser.load(judge_folder)
    second_judge = Recogniser.load(checks.second_judge) if checks.second_judge else None
    for folder, network in ((judge_folder, judge), (checks.second_judge, second_judge)):
        if network is not None:
            _check_questions(network, world, name=str(folder))
    pipe = load_pipeline(model, dtype=dtype, lora=lora)
    if steps is not None:
        pipe.generation_defaults = replace(pipe.generation_defaults, num_inference_steps=steps)
    if torch.cuda.is_available():
        for network in (judge, second_judge):
            if network is not None:
                network.to("cuda")
    out.mkdir(parents=True, exist_ok=True)

    bench = fresh_prompts(world, size=size, count=prompts)
    rainy = umbrella_prompts(world, size=size, count=pairs) if pairs else []
    seeds = [[SEED_STEP * i + k for k in range(seeds_per_prompt)] for i in range(prompts)]
    started = time.perf_counter()
    texts = [prompt.text for prompt in bench for _ in range(seeds_per_prompt)]
    pictures = answers.draw(pipe, texts, sum(seeds, []), size=size, title="samples")
    variants = draw_variants(pipe, rainy, world=world, size=size)
    seconds = time.perf_counter() - started

    by_task = score_tasks(
        pipe, judge, world,
        second_judge=second_judge, size=size, count=tasks, seeds_per_prompt=seeds_per_prompt,
    )  # fmt: skip
    renders = np.stack([prompt.image for prompt in bench])
    read = {
        "renders": answers.read(judge, renders),
        "round_trip": answers.read(judge, answers.round_trip(pipe, renders)),
        "model": answers.read(judge, pictures),
    }
    scored = score_columns(bench, read, seeds_per_prompt=seeds_per_prompt)
    umbrella, umbrella_cases = None, []
    if rainy:
        judged = {name: answers.read(judge, drawn) for name, drawn in variants.items()}
        words = [sham_word(prompt, world) for prompt in rainy]
        on_renders = answers.read(judge, np.stack([prompt.image for prompt in rainy]))
        umbrella = umbrella_report(rainy, judged, variants, on_renders=on_renders, sham_words=words)
        umbrella_cases = _umbrella_cases(rainy, judged, words)
    second = None
    if second_judge is not None:
        readings = {
            "model": answers.read(second_judge, pictures),
            "renders": answers.read(second_judge, renders),
        }
        second = second_report(bench, read, readings, by_task)
    checked = check(checks, pipe, judge, world, size=size, bench=bench, drawn=pictures, tasks=by_task)
    mine = scored["model"]
    report = Report(
        model=model.resolve().name,
        model_hash=model_hash(model),
        judge_hash=judge_hash(judge_folder),
        recipe=recipe,
        command=f"python -m training evaluate {model.resolve().name} --recipe {recipe or 'NAME'}"
        f" --prompts {prompts} --pairs {pairs} --tasks {tasks}"
        f"{'' if dtype == 'float32' else f' --dtype {dtype}'}"
        f"{f' --lora {lora.name}' if lora else ''}{f' --num-inference-steps {steps}' if steps else ''}"
        f"{_words(checks)}",
        date=date.today().isoformat(),
        machine=machine(),
        seconds_per_picture=round(seconds / (len(texts) + sum(map(len, variants.values()))), 3),
        megabytes=_megabytes(model, judge_folder, checks.second_judge),
        size=size,
        prompts=prompts,
        seeds_per_prompt=seeds_per_prompt,
        settings={
            **json.loads(pipe.generation_defaults.to_json()),
            "scheduler": type(pipe.scheduler).__name__,
            "dtype": str(pipe.dtype).removeprefix("torch."),
            **({"lora": file_hash(lora)} if lora else {}),
        },
        world=asdict(world),
        columns={name: _shares(column) for name, column in scored.items()},
        present_by_kind=_by([prompt.claims.things[0].kind for prompt in bench], mine, "present"),
        city_by_city=_by([str(prompt.claims.city) for prompt in bench], mine, "city"),
        tasks={task.name: task.shares for task in by_task},
        umbrella=umbrella,
        second_judge_hash=None if checks.second_judge is None else judge_hash(checks.second_judge),
        second_judge=second,
        **vars(checked),
        cases=_cases(bench, seeds, mine),
        umbrella_cases=umbrella_cases,
        task_cases=[case for task in by_task for case in task.cases],
    )
    (out / "report.json").write_text(report.to_json(), encoding="utf-8")
    (out / "report.md").write_text(report.to_markdown(), encoding="utf-8")
    _save_sheets(out, bench, pictures[::seeds_per_prompt], renders, rainy, variants)
    if by_task:
        texts = [text for task in by_task for text in task.texts[:SHEET_TASKS]]
        drawn = np.concatenate([task.first_seeds[:SHEET_TASKS] for task in by_task])
        sheets.save_sheet(sheets.captioned_sheet(drawn, texts), out / "tasks.png")
    return report


def draw_variants(
    pipe: LatentDiffusionPipeline, rainy: Sequence[BenchPrompt], *, world: World, size: int
) -> dict[str, Pictures]:
    """The rainy prompts at the same seeds without a negative prompt, with "umbrella", with a sham word."""
    if not rainy:
        return {}
    texts, seeds = [prompt.text for prompt in rainy], [PAIRS_FIRST_SEED + i for i in range(len(rainy))]
    negatives = {
        "without": None,
        "negative": [NEGATIVE] * len(rainy),
        "sham": [sham_word(prompt, world) for prompt in rainy],
    }
    return {
        name: answers.draw(pipe, texts, seeds, negatives=words, size=size, title=f"rain, {name}")
        for name, words in negatives.items()
    }


def second_report(
    bench: Sequence[BenchPrompt],
    first: dict[str, Reading],
    second: dict[str, Reading],
    tasks: Sequence[TaskScores],
) -> SecondJudge:
    """Both judges' readings of "model" and "renders", compared."""
    claims = [prompt.claims for prompt in bench]
    seeds = len(first["model"].classes) // len(bench)
    return SecondJudge(
        questions=compare_judges(first["model"], second["model"], claims, seeds_per_prompt=seeds),
        questions_on_renders=compare_judges(first["renders"], second["renders"], claims),
        tasks={task.name: task.second for task in tasks if task.second is not None},
    )


def umbrella_report(
    rainy: Sequence[BenchPrompt],
    judged: dict[str, Reading],
    drawn: dict[str, Pictures],
    *,
    on_renders: Reading,
    sham_words: Sequence[str],
) -> UmbrellaReport:
    """Paired comparison of the variants, beside what the judge says of real renders."""
    claims = [prompt.claims for prompt in rainy]
    right = {name: confirmed(reading, claims) for name, reading in judged.items()}
    seen = {name: answers.shows(reading, "umbrella") for name, reading in judged.items()}

    def change(name: str) -> Change:
        collateral = {}
        for question in ("city", "weather", "time", "present"):
            asked = [i for i, row in enumerate(right["without"]) if question in row]
            before, after = ([right[v][i][question] for i in asked] for v in ("without", name))
            collateral[question] = paired(before, after)
        difference = np.abs(drawn[name].astype(np.int16) - drawn["without"].astype(np.int16))
        return Change(
            umbrella=paired(seen["without"], seen[name]),
            collateral=collateral,
            pixels=float(difference.mean()),
        )

    truth, by_judge = [prompt.umbrella for prompt in rainy], answers.shows(on_renders, "umbrella")
    told = [(real, said) for real, said in zip(truth, by_judge, strict=True) if real is not None]
    return UmbrellaReport(
        pairs=len(rainy),
        negative=change("negative"),
        sham=change("sham"),
        sham_words=dict(sorted(Counter(sham_words).items())),
        rendered=share([real for real, _ in told]),
        judged_on_renders=share(by_judge),
        sensitivity=share([said for real, said in told if real]),
        false_positives=share([said for real, said in told if not real]),
    )


def machine() -> str:
    """E.g. "2 CPU cores (AMD EPYC)", or the accelerator's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{cores} CPU cores ({names[0] if names else platform.processor() or platform.machine()})"


def _check_questions(judge: Recogniser, world: World, *, name: str) -> None:
    """Raises ValueError if the judge lacks a field that prompts of the world ask for."""
    own = {field for field, _ in judge.config.fields}
    asked = [field for field, _ in FIELDS if "." not in field or field.partition(".")[0] in world.kinds]
    lacking = [field for field in asked if field not in own and field != "style"]
    if lacking:
        raise ValueError(f"judge {name}: does not answer {', '.join(lacking)}; train one on this world.")


def judge_hash(folder: Path) -> str:
    """SHA-256 of a judge's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _megabytes(model: Path, judge: Path, second_judge: Path | None) -> dict[str, float]:
    files = {"model": component_files(model), "judge": [judge / WEIGHTS]}
    if second_judge is not None:
        files["second judge"] = [second_judge / WEIGHTS]
    return {name: round(sum(file.stat().st_size for file in own) / 1e6, 3) for name, own in files.items()}


def _words(checks: Checks) -> str:
    """The words of the command line that ask for these checks."""
    numbers = ("exam", "distances", "copying", "diversity")
    told = "".join(f" --{name} {getattr(checks, name)}" for name in numbers)
    return told + (" --curves" if checks.curves else "")


def _shares(column: list[Answers]) -> dict[str, Share]:
    return {task: clustered_share([[row[task] for row in rows] for rows in column]) for task in answers.TASKS}


def _by(keys: Sequence[str], column: list[Answers], task: str) -> dict[str, Share]:
    return {
        key: share([row[task] for k, rows in zip(keys, column, strict=True) if k == key for row in rows])
        for key in sorted(set(keys))
    }


def _cases(
    bench: Sequence[BenchPrompt], seeds: list[list[int]], column: list[Answers]
) -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt.text,
            "scene": [prompt.scene.seed, prompt.scene.index],
            "claims": asdict(prompt.claims),
            "seeds": own,
            "right": {task: [row[task] for row in rows] for task in answers.TASKS},
        }
        for prompt, own, rows in zip(bench, seeds, column, strict=True)
    ]


def _umbrella_cases(
    rainy: Sequence[BenchPrompt], judged: dict[str, Reading], words: Sequence[str]
) -> list[dict[str, Any]]:
    seen = {name: answers.shows(reading, "umbrella") for name, reading in judged.items()}
    return [
        {
            "prompt": prompt.text,
            "scene": [prompt.scene.seed, prompt.scene.index],
            "seed": PAIRS_FIRST_SEED + i,
            "sham_word": words[i],
            "in_render": prompt.umbrella,
            **{name: flags[i] for name, flags in seen.items()},
        }
        for i, prompt in enumerate(rainy)
    ]


def _save_sheets(
    out: Path,
    bench: Sequence[BenchPrompt],
    first_seeds: Pictures,
    renders: Pictures,
    rainy: Sequence[BenchPrompt],
    variants: dict[str, Pictures],
) -> None:
    texts = [prompt.text for prompt in bench[:SHEET_PICTURES]]
    for name, shown in (("samples.png", first_seeds), ("renders.png", renders)):
        sheets.save_sheet(sheets.captioned_sheet(shown[:SHEET_PICTURES], texts), out / name)
    if rainy:
        sheet = sheets.pair_sheet(
            variants["without"][:SHEET_PAIRS],
            variants["negative"][:SHEET_PAIRS],
            captions=[prompt.text for prompt in rainy[:SHEET_PAIRS]],
            titles=("no negative prompt", f'negative_prompt="{NEGATIVE}", the same seeds'),
        )
        sheets.save_sheet(sheet, out / "umbrella_pairs.png")
