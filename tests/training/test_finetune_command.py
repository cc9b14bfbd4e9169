"""The one command: every recipe from pictures to files that others open, and bad input in one line."""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from ldm_pipeline import LatentDiffusionPipeline
from tests import tiny, tiny_finetune
from training import __main__ as command_line
from training.data.picture_config import SourceConfig
from training.finetune_command import chosen_run, given_sources, source_words
from training.loop import averaged_weights

ROOT = Path(__file__).parents[2]
QUICK = ["--data", "12", "--held-out", "0.25", "--precision", "no", "--steps", "2"]
QUICK += ["--set", "fit.batch_size=2", "--set", "fit.save_every_steps=1", "--set", "looks.steps=1"]
QUICK += ["--set", "looks.pictures=2", "--set", "looks.drift_prompts=dog"]
QUICK += ["--set", "fit.optimizer.learning_rate=0.05", "--set", "fit.optimizer.warmup_steps=1"]


@pytest.fixture(autouse=True)
def one_process():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def tuned(folder: Path, *words: str, kind: str = "flow_prediction") -> Path:
    base = tiny.write_folder(folder / "base", kind)
    tiny_finetune.run("--base", str(base), "--out", str(folder / "run"), *words, *QUICK)
    return folder / "run"


@torch.no_grad()
def answer(unet: Any) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    x_t, states = torch.randn(1, 8, 8, 8, generator=draws), torch.randn(1, 77, 32, generator=draws)
    return unet(x_t, torch.tensor([300.0]), states).sample


def test_a_lora_is_delivered_with_all_that_was_measured(tmp_path: Path):
    run = tuned(tmp_path, "--recipe", "lora", "--set", "lora.rank=2", "--set", "looks.validation_pictures=2")
    files = {path.name for path in (run / "final").iterdir()}
    assert files == {"pytorch_lora_weights.safetensors", "kohya_lora.safetensors", "README.md"}
    weights, step = averaged_weights(run)
    saved = load_file(run / "final" / "pytorch_lora_weights.safetensors")
    assert step == 2 and len(saved) == len(weights)
    for name, value in saved.items():
        learned = name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")
        assert torch.equal(value, weights[learned])
    pipeline: Any = StableDiffusionPipeline(**tiny.make_components())
    plain = answer(pipeline.unet)
    pipeline.load_lora_weights(run / "final", weight_name="pytorch_lora_weights.safetensors")
    assert not torch.allclose(answer(pipeline.unet), plain, atol=1e-4)
    report, card = (run / "report.md").read_text(), (run / "final" / "README.md").read_text()
    assert "| 0 |" in report and "| 2 |" in report and "nearest training picture" in report
    assert "`lora.rank=2`" in card and "load_lora_weights" in card
    assert (run / "report" / "base.png").is_file() and (run / "report" / "final.png").is_file()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out/loss" in line] == [1, 2]
    assert all("held_out/drift" in line for line in lines if "held_out/loss" in line)


def test_full_weights_are_delivered_as_a_folder_with_the_text_encoder_that_learned(tmp_path: Path):
    words = ("--recipe", "full", "--set", "text_share=0.5", "--set", "fit.micro_batches=2")
    run = tuned(tmp_path, *words, kind="epsilon")
    weights, _ = averaged_weights(run)
    for kind in (StableDiffusionPipeline, LatentDiffusionPipeline):
        pipeline: Any = kind.from_pretrained(run / "final")
        for part, network in (("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder)):
            for name, parameter in network.named_parameters():
                wanted = weights[f"{part}.{name.removeprefix('text_model.')}"].half().float()
                assert torch.equal(parameter.detach().float(), wanted), name
    assert pipeline.generation_defaults.num_inference_steps == 4
    assert pipeline.known_words == {*tiny.WORDS, "sunny", "the"}  # the base's, and the captions'


def test_a_word_is_delivered_as_an_embedding(tmp_path: Path):
    words = ("--recipe", "textual_inversion", "--token", "<toy>", "--start-word", "dog", "--set")
    run = tuned(tmp_path, *words, "zero_terminal_snr=true", kind="v_prediction")
    vector = load_file(run / "final" / "learned_embeds.safetensors")["<toy>"]
    pipeline: Any = StableDiffusionPipeline(**tiny.make_components())
    pipeline.load_textual_inversion(run / "final", weight_name="learned_embeds.safetensors")
    number = pipeline.tokenizer.convert_tokens_to_ids("<toy>")
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[number], vector[0])


def test_dreambooth_draws_its_class_first_and_once(tmp_path: Path):
    words = ("--recipe", "dreambooth", "--class-prompt", "a dog", "--set", "prior.pictures=3", "--crop")
    run = tuned(tmp_path, *words)
    [drawn] = (run / "cache").glob("class-*.npy")
    made = drawn.stat().st_mtime_ns
    AcceleratorState._reset_state(reset_partial_state=True)
    tuned(tmp_path, *words, "--steps", "3")
    assert drawn.stat().st_mtime_ns == made
    assert (run / "class_pictures.webp").is_file() and averaged_weights(run)[1] == 2


def test_a_dry_run_tells_all_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tuned(tmp_path, "--recipe", "lora", "--dry-run")
    told = capsys.readouterr().out
    assert "M learn" in told and "12 to train on, 3 held out; sizes 64x48, 64x64" in told
    assert "learning rate: 0.05 (adamw)" in told and "samples: 4 in 2 steps of 2" in told
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_meant_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    base = tiny.write_folder(tmp_path / "base", "epsilon")
    for words, told in {
        (
            "--recipe",
            "sdxl",
        ): "--recipe sdxl: unknown; choose from full, lora, textual_inversion, dreambooth.",
        ("--set", "lora.rank=0"): "lora.rank=0: must be at least 1",
        ("--set", "lora.rnak=4"): "the nearest is 'lora.rank'",
        ("--steps", "0"): "--steps 0: must be at least 1",
        ("--recipe", "dreambooth"): "--class-prompt is missing",
        ("--set", "zero_terminal_snr=true"): "predicts noise, which tells nothing",
        ("--base", str(tmp_path / "no")): "is no folder, no file and no bundled model",
        ("--out", str(tmp_path / "other")): "holds something else than a fine-tuning",
    }.items():
        line = ["finetune", "--data", "x", "--base", str(base), "--out", str(tmp_path / "run"), *words]
        assert command_line.main(line) == 2, words
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and told in error, error


def test_a_word_that_no_caption_holds_is_refused(tmp_path: Path):
    base = str(tiny.write_folder(tmp_path / "base"))
    words = ("--recipe", "textual_inversion", "--set", "word.word=<other>", "--base", base)
    with pytest.raises(ValueError, match="does not hold '<other>'"):
        tiny_finetune.run(*words, "--out", str(tmp_path / "run"), *QUICK)


def test_repeats_stand_behind_a_colon_and_flags_change_the_recipe(tmp_path: Path):
    assert source_words("pictures:3") == (Path("pictures"), 3)
    assert source_words("C:") == (Path("C:"), 1)
    (tmp_path / "odd:3").mkdir()
    assert source_words(f"{tmp_path / 'odd:3'}") == (tmp_path / "odd:3", 1)
    options = tiny_finetune.options_of("--data", "x", "--out", "y", "--token", "<a>", "--steps", "9")
    run = chosen_run(options)
    assert run.word.word == "<a>" and run.fit.total_steps == 9
    assert chosen_run(options).fit.optimizer.learning_rate == 1e-4


@pytest.mark.slow
def test_templates_and_conditions_belong_to_the_data_before_them():
    def sources(*words: str) -> tuple[SourceConfig, ...]:
        return given_sources(command_line.build_parser().parse_args(["finetune", "--out", "run", *words]))

    a, b = Path("a"), Path("b")
    assert sources(
        "--data", "a:2", "--template", "{x}", "--data", "b", "--where", "c=d", "--where", "e=f"
    ) == (
        SourceConfig(path=a, repeats=2, template="{x}"),
        SourceConfig(path=b, where=("c=d", "e=f")),
    )
    assert sources(
        "--template", "{x}", "--where", "c=d", "--data", "a", "--data", "b", "--template", "{y}"
    ) == (
        SourceConfig(path=a, template="{x}", where=("c=d",)),
        SourceConfig(path=b, template="{y}", where=("c=d",)),
    )
