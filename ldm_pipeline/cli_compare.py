"""The command `ldm compare`: words on a command line -> a study in its folder, and the lines that sum it up.

Knows nothing of how pictures are drawn, judged or counted; torch is imported once there is a checked study.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldm_pipeline.study import Study, pair, read_seeds, read_setting, read_values, sweep

if TYPE_CHECKING:
    from ldm_pipeline.judges import Judge
    from ldm_pipeline.study_folder import StudyFolder
    from ldm_pipeline.study_report import StudyReport

EXIT_INTERRUPTED = 130
RECOGNISER, CLIP, BLIND = "recogniser", "clip", "blind"
LARGEST_PROMPTS_BYTES = 2**20
EXAMPLES = """\
examples:
  ldm compare "Paris on a rainy day" --negative-prompt umbrella --ask umbrella
  ldm compare "a red dog" --change num_inference_steps=7 --ask dog.color=red --also dog
  ldm compare "Paris on a rainy day" --vary guidance_scale=1,3,5 --vary num_inference_steps=7,14 --ask rainy
  ldm compare "a red dog" --negative-prompt cat --sham boat --ask "a dog" --judge blind --out study
  ldm compare --answers answers.csv study
"""


def register_compare(commands: Any, *, quiet: Callable[[], None]) -> None:
    """Add the command to argparse's `commands`; `quiet` silences libraries before a model is loaded."""
    command = commands.add_parser(
        "compare",
        help="draw the same seeds two ways and count what changes",
        description="Draw the same seeds with and without a change, ask a judge about each picture, report\n"
        "what changed, with 95 % intervals. An interrupted study goes on when the command is repeated.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=lambda options: run_compare(options, quiet=quiet))
    command.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="what to draw; with --answers the study's folder"
    )
    command.add_argument("--prompts", type=Path, metavar="FILE", help="many prompts, one a line")
    command.add_argument("--seeds", default="0-63", metavar="LIST", help="e.g. 0-63 (default) or 0-9,20")
    command.add_argument("--ask", metavar="QUESTION", help="what to look for: umbrella, weather=rainy ...")
    command.add_argument(
        "--also", action="append", default=[], metavar="QUESTION", help="what else to look for; repeatable"
    )
    command.add_argument(
        "--negative-prompt", metavar="TEXT", help="the change; with --change or --vary in all arms instead"
    )
    command.add_argument(
        "--change", action="append", default=[], metavar="NAME=VALUE", help="what arm B changes; repeatable"
    )
    command.add_argument(
        "--vary", action="append", default=[], metavar="NAME=A,B,...", help="a sweep; twice for a grid"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all arms; repeatable"
    )
    command.add_argument("--sham", metavar="WORD", help="negative prompt of a control arm: what is not there")
    command.add_argument("--no-sham", action="store_true", help="leave the control arm out")
    command.add_argument(
        "--judge",
        default=RECOGNISER,
        metavar="JUDGE",
        help="recogniser (default, knows the postcard world), clip, blind (a page for people), or its CSV",
    )
    command.add_argument("--judge-weights", type=Path, metavar="FILE", help="of --judge clip, .safetensors")
    command.add_argument("--judge-model", metavar="NAME", help="of --judge clip, open_clip's, e.g. ViT-B-32")
    command.add_argument("--judge-threshold", type=float, metavar="P", help="of --judge clip (default: 0.5)")
    command.add_argument("--effect", type=float, metavar="POINTS", help="a change to count needed seeds for")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="default: one below studies")
    command.add_argument("--model", metavar="MODEL", help="as in ldm generate; else the bundled model")
    command.add_argument("--device", metavar="NAME", help='e.g. "cpu" or "cuda"; else the best one here')
    command.add_argument("--dtype", default="auto", metavar="TYPE", help="as in ldm generate (default: auto)")
    command.add_argument("--answers", type=Path, metavar="CSV", help="report what people answered")


def run_compare(options: argparse.Namespace, *, quiet: Callable[[], None]) -> int:
    """Run the study that the options ask for; prints what it found and where it lies."""
    if options.effect is not None and not 0 < options.effect <= 100:
        raise ValueError(f"--effect {options.effect:g} is not allowed: use points, up to 100")
    if options.answers is not None:
        return _report_answers(options)
    study = _study(options, sham=None)  # finds what is wrong before torch is imported
    _check_extra()
    quiet()
    from ldm_pipeline.compare import begin_study, draw_study, model_opener, write_report
    from ldm_pipeline.compare import judge_study as judge_all
    from ldm_pipeline.judges import SceneJudge

    judge = _judge(options)
    if judge is not None:
        for question in (study.ask, *study.also):
            judge.check(question)
    study = _study(options, sham=_sham(options, study, judge))
    folder = begin_study(study, options.out, device=options.device, dtype=options.dtype)
    if options.judge.endswith(".csv"):
        return _told(folder, _from_people(folder, Path(options.judge), options.effect))
    try:
        draw_study(folder, open_model=model_opener(folder, device=options.device))
        if judge is None:
            return _ask_people(folder)
        answers = judge_all(folder, judge)
    except KeyboardInterrupt:
        total = len(study.arms) * len(study.cases)
        print(
            f"ldm: interrupted; {total - folder.missing()} of {total} pictures are in {folder.path}:"
            " the same command goes on with the others",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    named = [judge.named(prompt) for prompt in study.prompts] if isinstance(judge, SceneJudge) else []
    report = write_report(folder, answers, judge=judge.facts(), named=named, effect=_share(options.effect))
    return _told(folder, report)


def _study(options: argparse.Namespace, *, sham: str | None) -> Study:
    """Read the options as a study, all but where it lies and who judges it."""
    if (options.prompt is None) == (options.prompts is None):
        raise ValueError("give a prompt, or --prompts FILE with one a line, and not both")
    prompts = [options.prompt] if options.prompts is None else _lines(options.prompts)
    if options.ask is None:
        raise ValueError("--ask is missing: name what to look for in the pictures, e.g. --ask umbrella")
    base = _settings("--set", options.set)
    change = _settings("--change", options.change)
    vary = dict(read_values(text) for text in options.vary)
    if len(vary) != len(options.vary):
        raise ValueError("--vary names a setting twice: give all its values at once")
    if change and vary:
        raise ValueError("--change and --vary were both given: use --set for what a whole sweep shares")
    if options.model is not None:
        base["model"] = options.model
    if options.negative_prompt is not None:
        (base if change or vary else change)["negative_prompt"] = options.negative_prompt
    asked = {"seeds": read_seeds(options.seeds), "base": base, "ask": options.ask, "also": options.also}
    if vary:
        if options.sham is not None:
            raise ValueError(f"--sham {options.sham!r} has no place in a sweep: leave it out")
        return sweep(prompts, vary=vary, **asked)
    return pair(prompts, change=change, sham=sham or options.sham, **asked)


def _settings(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    settings = [read_setting(text) for text in texts]
    if len(dict(settings)) != len(settings):
        raise ValueError(f"{flag} names a setting twice: give it once")
    return dict(settings)


def _lines(file: Path) -> list[str]:
    if not file.is_file() or file.stat().st_size > LARGEST_PROMPTS_BYTES:
        raise ValueError(f"--prompts {str(file)!r} is no file of at most {LARGEST_PROMPTS_BYTES} bytes")
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _check_extra() -> None:
    try:
        import scipy  # noqa: F401
        import statsmodels  # noqa: F401
    except ImportError:
        raise ValueError(
            "ldm compare needs scipy and statsmodels: run pip install '.[study]' in a checkout"
        ) from None


def _judge(options: argparse.Namespace) -> "Judge | None":
    """Open the judge; None for people."""
    given = {"--judge-weights": options.judge_weights, "--judge-model": options.judge_model}
    if options.judge != CLIP:
        for flag, value in {**given, "--judge-threshold": options.judge_threshold}.items():
            if value is not None:
                raise ValueError(f"{flag} {value} has no effect: it belongs to --judge clip")
    if options.judge == RECOGNISER:
        from ldm_pipeline.judges import RecogniserJudge

        return RecogniserJudge.load()
    if options.judge == CLIP:
        for flag, value in given.items():
            if value is None:
                raise ValueError(f"--judge clip needs {flag}: the weights are yours to choose")
        from ldm_pipeline.clip_judge import THRESHOLD, ClipJudge

        threshold = THRESHOLD if options.judge_threshold is None else options.judge_threshold
        return ClipJudge.load(options.judge_weights, model=options.judge_model, threshold=threshold)
    if options.judge == BLIND or options.judge.endswith(".csv"):
        return None
    raise ValueError(f"--judge {options.judge!r} is unknown: use recogniser, clip, blind or a .csv file")


def _sham(options: argparse.Namespace, study: Study, judge: "Judge | None") -> str | None:
    """Give the control arm's word: the user's, or for the postcard world one that its judge finds."""
    added = study.arms[1].settings.get("negative_prompt")
    alone = not options.change and not options.vary and bool(added)
    if options.no_sham and options.sham is not None:
        raise ValueError(f"--sham {options.sham!r} and --no-sham were both given: give one of them")
    if not alone or options.no_sham or options.sham is not None:
        return options.sham
    from ldm_pipeline.judges import RecogniserJudge, SceneJudge

    if judge is None and options.model is None:
        judge = RecogniserJudge.load()  # of the bundled model's world
    if not isinstance(judge, SceneJudge):
        print("ldm: no control arm; --sham WORD adds one, with a word for what is not there", file=sys.stderr)
        return None
    return judge.sham_word([*study.prompts, str(added), study.ask])


def _report_answers(options: argparse.Namespace) -> int:
    if options.prompt is None:
        raise ValueError("--answers needs the study's folder: ldm compare --answers answers.csv FOLDER")
    _check_extra()
    from ldm_pipeline.study_folder import read_folder

    folder = read_folder(Path(options.prompt))
    if options.ask is not None and options.ask != folder.study.ask:
        raise ValueError(f"--ask {options.ask!r} is not what people were asked: {folder.study.ask!r}")
    return _told(folder, _from_people(folder, options.answers, options.effect))


def _from_people(folder: "StudyFolder", file: Path, effect: float | None) -> "StudyReport":
    import hashlib

    from ldm_pipeline.blind_labels import read_answers
    from ldm_pipeline.compare import write_report

    answers = read_answers(folder, file)
    facts = {"judge": "people, blind", "answers": hashlib.sha256(file.read_bytes()).hexdigest()}
    return write_report(folder, answers, judge=facts, effect=_share(effect))


def _ask_people(folder: "StudyFolder") -> int:
    from ldm_pipeline.blind_labels import write_page

    print(write_page(folder))
    print(
        f"ldm: give that page, and not the key beside it, to whoever judges; then run"
        f" ldm compare --answers answers.csv {folder.path}",
        file=sys.stderr,
    )
    return 0


def _told(folder: "StudyFolder", report: "StudyReport") -> int:
    """Print a line for each arm and the report's files."""
    from ldm_pipeline.table_cells import p_value, percent, points

    for arm in report.study.arms:
        line = f"{arm.key} ({arm.label}): {report.study.ask} {percent(report.shares[arm.key])} %"
        if arm is not report.study.arms[0]:
            asked = report.comparison(arm.key).asked
            line += f", {points(asked)} points, p {p_value(asked.p_value)}"
        print(line)
    for name in ("report.md", "report.json"):
        print(folder.path / name)
    return 0


def _share(points: float | None) -> float | None:
    return None if points is None else points / 100
