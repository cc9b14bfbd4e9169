"""A paired study from its settings to its report: draw what is missing, judge all of it, write it down.

Knows nothing of the command line, of what an arm may set, or of how answers are found and counted.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ldm_pipeline import weights
from ldm_pipeline.devices import DTYPES, checked_device, fastest_dtype
from ldm_pipeline.images import open_picture
from ldm_pipeline.judges import Judge, RecogniserJudge, SceneJudge
from ldm_pipeline.loading import load_pipeline
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.saving import save_pictures
from ldm_pipeline.study import Arm, Case, Study
from ldm_pipeline.study_folder import (
    UNFINISHED,
    StudyFolder,
    default_folder,
    open_folder,
    recorded,
    study_facts,
)
from ldm_pipeline.study_page import to_markdown
from ldm_pipeline.study_report import ArmAnswers, StudyReport, make_report
from ldm_pipeline.study_sheets import pixel_changes, study_pictures, write_sheets

OpenModel = Callable[[str | None, str | None], LatentDiffusionPipeline]
"""(model, LoRA file) -> a pipeline that draws with it."""


def draw_study(folder: StudyFolder, *, open_model: OpenModel, progress: bool = True) -> int:
    """Draw the pictures that are not there yet, and return how many those were.

    Cases come one after the other, all arms of a case together, so that what an interruption leaves are
    pairs; only arms of another model or LoRA wait until the first model's are done. Every picture appears
    whole or not at all.
    """
    study, drawn = folder.study, 0
    missing = folder.missing()
    with tqdm(total=missing, unit="picture", desc="drawing", disable=not progress or not missing) as bar:
        for (model, lora), arms in _by_model(study).items():
            todo = [
                (case, arm) for case in study.cases for arm in arms if not folder.picture(arm, case).exists()
            ]
            if not todo:
                continue
            pipeline = open_model(model, lora)
            with _quiet(pipeline):
                schedulers = _Schedulers(pipeline)
                for case, arm in todo:
                    schedulers.use(arm.settings.get("scheduler"))
                    _draw_one(pipeline, folder, arm, case)
                    drawn += 1
                    bar.update()
    return drawn


def _draw_one(pipeline: LatentDiffusionPipeline, folder: StudyFolder, arm: Arm, case: Case) -> None:
    files = {name: arm.settings.get(name) for name in ("image", "mask_image")}
    starts = {name: None if path is None else open_picture(path) for name, path in files.items()}
    prompt = arm.prompt(folder.study.prompts[case.prompt])
    output = pipeline(prompt, seed=case.seed, **starts, **arm.arguments())
    place = folder.picture(arm, case)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.path, prefix=UNFINISHED) as beside:
        (saved,) = save_pictures(output, beside)
        os.replace(saved, place)


class _Schedulers:
    """A pipeline's own scheduler and those that arms name, each made of the own one, once."""

    def __init__(self, pipeline: LatentDiffusionPipeline):
        self.pipeline = pipeline
        self.made: dict[str | None, Any] = {None: pipeline.scheduler}

    def use(self, name: str | None) -> None:
        """Change the pipeline to the scheduler of that name; None: its own."""
        if name not in self.made:
            self.pipeline.scheduler = self.made[None]
            assert name is not None
            self.pipeline.use_scheduler(name)
            self.made[name] = self.pipeline.scheduler
        self.pipeline.scheduler = self.made[name]


@contextmanager
def _quiet(pipeline: LatentDiffusionPipeline) -> Iterator[None]:
    """Hide the bar of each picture beneath that of the study, and leave the pipeline as it was."""
    own, bar = pipeline.scheduler, dict(getattr(pipeline, "_progress_bar_config", {}))
    pipeline.set_progress_bar_config(**{**bar, "disable": True})
    try:
        yield
    finally:
        pipeline.scheduler = own
        pipeline.set_progress_bar_config(**bar)


def _by_model(study: Study) -> dict[tuple[str | None, str | None], list[Arm]]:
    arms: dict[tuple[str | None, str | None], list[Arm]] = {}
    for arm in study.arms:
        arms.setdefault((arm.settings.get("model"), arm.settings.get("lora")), []).append(arm)
    return arms


def judge_study(folder: StudyFolder, judge: Judge, *, progress: bool = True) -> dict[str, ArmAnswers]:
    """Ask the judge about every picture; ValueError for a picture that is missing or cannot be read."""
    study, answers = folder.study, {}
    scenes = judge if isinstance(judge, SceneJudge) else None
    fields = [] if scenes is None else scenes.others(study.ask)
    with tqdm(total=len(study.arms), unit="arm", desc="judging", disable=not progress) as bar:
        for arm in study.arms:
            pictures = study_pictures(folder, arm)
            read = [] if scenes is None else scenes.reads(pictures)
            answers[arm.key] = ArmAnswers(
                asked=judge.asks(pictures, study.ask),
                also={question: judge.asks(pictures, question) for question in study.also},
                read=[{field: one[field] for field in fields} for one in read],
                pixels=pixel_changes(folder, arm),
            )
            bar.update()
    return answers


def write_report(
    folder: StudyFolder,
    answers: Mapping[str, ArmAnswers],
    *,
    judge: Mapping[str, Any],
    named: Sequence[Mapping[str, str]] = (),
    effect: float | None = None,
) -> StudyReport:
    """Write `report.json`, `report.md` and the contact sheets, and return what they tell.

    `judge` says who answered (see `Judge.facts`); `named` and `effect` are those of `make_report`.
    """
    folder = folder.with_look(judge=str(judge["judge"]))
    facts = {**recorded(folder), "judge": dict(judge)}
    report = make_report(folder.study, answers, named=named, effect=effect, facts=facts)
    folder.write("report.json", report.to_json())
    folder.write("report.md", to_markdown(report))
    write_sheets(folder, {key: one.asked for key, one in answers.items()})
    return report


def compare(
    study: Study,
    out: str | os.PathLike[str] | None = None,
    *,
    judge: Judge | None = None,
    pipeline: LatentDiffusionPipeline | None = None,
    device: str | None = None,
    dtype: str = "auto",
    effect: float | None = None,
    progress: bool = True,
) -> StudyReport:
    """Run a study (`study.pair`, `study.sweep`) in the folder `out`, or go on with it there, and report it.

    Args:
        study: What is drawn, and what is asked about it.
        out: The study's folder; None: one below `studies` whose name follows from the study.
        judge: Who answers; None: the bundled recogniser, which knows the postcard world.
        pipeline: Draws the arms that name neither model nor LoRA; None: the bundled model is loaded.
        device, dtype: As for `load_pipeline`; not beside `pipeline`, which has its own.
        effect: The change in (0, 1] for which pairs are counted; None: the observed one.

    Raises:
        ValueError: a question that the judge cannot answer, before anything is drawn; another study in `out`.
        KeyboardInterrupt: what was drawn stays, and the same call goes on with it.
    """
    judge = RecogniserJudge.load() if judge is None else judge
    for question in (study.ask, *study.also):
        judge.check(question)
    folder = begin_study(study, out, pipeline=pipeline, device=device, dtype=dtype)
    draw_study(folder, open_model=model_opener(folder, pipeline, device=device), progress=progress)
    answers = judge_study(folder, judge, progress=progress)
    named = [judge.named(prompt) for prompt in study.prompts] if isinstance(judge, SceneJudge) else []
    return write_report(folder, answers, judge=judge.facts(), named=named, effect=effect)


def begin_study(
    study: Study,
    out: str | os.PathLike[str] | None = None,
    *,
    pipeline: LatentDiffusionPipeline | None = None,
    device: str | None = None,
    dtype: str = "auto",
) -> StudyFolder:
    """Make the study's folder, or open it where it was begun; arguments and errors as those of `compare`."""
    if pipeline is not None and (device is not None or dtype != "auto"):
        raise ValueError("device and dtype belong to the pipeline that was given: leave them out")
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is unknown: use auto or one of {', '.join(DTYPES)}")
    place = checked_device(device) if pipeline is None else pipeline.device
    number_type = fastest_dtype(place) if dtype == "auto" else DTYPES[dtype]
    if pipeline is not None:
        number_type = pipeline.dtype
    own = None if pipeline is None else weights.weights_hash(pipeline)()
    facts = study_facts(
        study, device=place.type, dtype=str(number_type).removeprefix("torch."), own_model_hash=own
    )
    return open_folder(default_folder(study, facts) if out is None else Path(out), study, facts)


def model_opener(
    folder: StudyFolder, pipeline: LatentDiffusionPipeline | None = None, *, device: str | None = None
) -> OpenModel:
    """Give what opens an arm's model in the study's number type; `pipeline` is the one that none names."""

    def open_model(model: str | None, lora: str | None) -> LatentDiffusionPipeline:
        if pipeline is not None and model is None and lora is None:
            return pipeline
        place = folder.facts["device"] if device is None else device
        return load_pipeline(model, device=place, dtype=folder.facts["dtype"], lora=lora)

    return open_model
