"""A Stable Diffusion checkpoint in its original format, one file: what it is, told from its weights' shapes.

Knows nothing of pipelines; the numbers themselves are not read here.
"""

import gzip
import importlib.util
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ldm_pipeline.folder import (
    INPAINTING_CHANNELS,
    one_line,
    pickle_remedy,
    read_json_object,
    readable_weights,
    write_json,
)

IN_THE_FILE = frozenset({"unet", "vae", "text_encoder", "safety_checker"})
"""Components whose weights a config folder need not have."""
PREDICTION_TYPES = ("epsilon", "v_prediction")
HUB_FILE = re.compile(
    r"(?:https://)?(?:huggingface\.co|hf\.co)/([^/]+/[^/]+)/(?:blob|resolve)/([^/]+)/(.+\.safetensors)"
)
REMEDY = "give config=FOLDER, a pipeline folder that describes it"

FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
TEXT_READER = re.compile(
    r"model\.diffusion_model\.input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight"
)
# Names of the token tables: transformers' CLIP in 1.x, open_clip's in 2.x.
TOKEN_TABLES = (
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.model.token_embedding.weight",
)
OTHER_KINDS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "Flux",
    "double_blocks.": "Flux",
    "lora_": "a LoRA (see load_lora_weights)",
    "unet.": "a LoRA (see load_lora_weights)",
    "emb_params": "an embedding (see load_textual_inversion)",
}


@dataclass(frozen=True, kw_only=True)
class SingleFileFacts:
    """What the shapes of an original-format checkpoint tell."""

    file: Path
    in_channels: int
    """The UNet's: 4, or 9 for inpainting."""
    channels: int
    """The UNet's on its first level: 320."""
    text_width: int
    """Of the token states that the UNet reads: 768 in 1.x, 1024 in 2.x."""
    tokens: int
    """Rows of the text encoder's table; 49408 is CLIP's."""


def fetched(link_or_path: Any, **hub_arguments: Any) -> Path:
    """Give the local path of a file, or of a file on the hub named by its link; ValueError for pickles."""
    link = HUB_FILE.fullmatch(str(link_or_path))
    if link is not None:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(link[1], link[3], revision=link[2], **hub_arguments))
    file = Path(link_or_path)
    if not file.is_file():
        raise ValueError(f"{one_line(link_or_path)} is not a file: give a .safetensors file's path")
    if file.suffix.lower() != ".safetensors":
        raise ValueError(f"{one_line(file)} is no .safetensors file: {pickle_remedy(file)}")
    return file


def fetched_config(config: Any, **hub_arguments: Any) -> Path:
    """Give a config folder, from the hub where it is no folder here: descriptions only, no weights."""
    if Path(config).is_dir():
        return Path(config)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(config)) is None or str(config).startswith("."):
        raise ValueError(f"config={one_line(config)} is no folder: give a pipeline folder, or owner/name")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(config), allow_patterns=["*.json", "*.txt"], **hub_arguments))


def read_facts(file: Path) -> SingleFileFacts:
    """Read names and shapes; ValueError that says what else the file is, if it is known."""
    shown = one_line(file)
    with readable_weights(str(file)), safe_open(file, framework="np") as weights:
        names = list(weights.keys())
        shapes = {
            name: tuple(weights.get_slice(name).get_shape())
            for name in names
            if name == FIRST_LAYER or name in TOKEN_TABLES or TEXT_READER.fullmatch(name)
        }
    readers = [shape[1] for name, shape in shapes.items() if TEXT_READER.fullmatch(name)]
    tables = [shapes[name][0] for name in TOKEN_TABLES if name in shapes]
    for start, kind in OTHER_KINDS.items():
        if any(name.startswith(start) for name in names):
            raise ValueError(f"{shown} is {kind}: this pipeline opens Stable Diffusion 1.x and 2.x")
    if FIRST_LAYER not in shapes or not readers:
        raise ValueError(
            f"{shown} holds no UNet in Stable Diffusion's original format: give a whole checkpoint"
        )
    return SingleFileFacts(
        file=file,
        in_channels=shapes[FIRST_LAYER][1],
        channels=shapes[FIRST_LAYER][0],
        text_width=readers[0],
        tokens=tables[0] if tables else 0,
    )


def check_fit(facts: SingleFileFacts, folder: Path) -> None:
    """Refuse a config folder whose UNet has other shapes than the file's."""
    unet = read_json_object(folder / "unet" / "config.json")
    told = {
        "in_channels": facts.in_channels,
        "cross_attention_dim": facts.text_width,
        "block_out_channels": facts.channels,
    }
    for name, held in told.items():
        wanted = unet.get(name)
        wanted = wanted[0] if isinstance(wanted, list) and wanted else wanted
        if wanted is not None and wanted != held:
            raise ValueError(
                f"config={one_line(folder)} has a UNet with {name} {wanted!r}, but {one_line(facts.file)} has"
                f" {held}: give the folder that belongs to it"
            )


def write_config_folder(facts: SingleFileFacts, folder: Path, *, prediction_type: str | None) -> None:
    """Write the settings of Stable Diffusion 1.x or 2.x, as far as weights do not tell them, to a folder.

    ValueError where the shapes are neither's, and where nobody says what a 2.x model predicts: 2.0-base and
    2.1-base predict eps, 2.0 and 2.1 for 768 pixels predict v (arXiv 2202.00512), with the same shapes.
    """
    shown = one_line(facts.file)
    if prediction_type is not None and prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"prediction_type={prediction_type!r} is unknown: use {' or '.join(PREDICTION_TYPES)}"
        )
    second = facts.text_width == 1024
    if facts.channels != 320 or facts.text_width not in (768, 1024):
        raise ValueError(
            f"{shown} has a UNet of {facts.channels} channels that reads {facts.text_width}-wide tokens,"
            f" which is neither Stable Diffusion 1.x nor 2.x: {REMEDY}"
        )
    if facts.in_channels not in (4, INPAINTING_CHANNELS):
        raise ValueError(f"{shown} has a UNet with {facts.in_channels} inputs: 4 and 9 can be run")
    if prediction_type is None and second and facts.in_channels == 4:
        raise ValueError(
            f"{shown} is of Stable Diffusion 2.x, and no shape tells what it predicts:"
            " give prediction_type='v_prediction' (768 pixels) or 'epsilon' (512 pixels), or config=FOLDER"
        )
    prediction = prediction_type or "epsilon"
    settings = {
        "unet": _unet(facts, second=second, large=prediction == "v_prediction"),
        "vae": VAE,
        "text_encoder": TEXT_ENCODERS[second],
    }
    scheduler = "DDIMScheduler" if prediction == "v_prediction" else "PNDMScheduler"
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", scheduler],
        "requires_safety_checker": False,
    }
    write_json(folder / "model_index.json", index)
    for name, content in settings.items():
        (folder / name).mkdir()
        write_json(folder / name / "config.json", content)
    own = {"clip_sample": False} if scheduler == "DDIMScheduler" else {"skip_prk_steps": True}
    (folder / "scheduler").mkdir()
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {**SCHEDULE, **own, "_class_name": scheduler, "prediction_type": prediction},
    )


def clip_tokenizer(facts: SingleFileFacts, **hub_arguments: Any) -> Any:
    """Make CLIP's tokenizer from open_clip's word list, where that is installed, or else from the hub.

    This package does not bring the 49408 tokens. 1.x pads with the end mark, 2.x with token 0.
    """
    from transformers import CLIPTokenizer

    pad = "!" if facts.text_width == 1024 else "<|endoftext|>"
    words = open_clip_words()
    if words is not None:
        return _tokenizer_of(words, pad=pad)
    with suppress(OSError):
        found = CLIPTokenizer.from_pretrained("openai/clip-vit-large-patch14", pad_token=pad, **hub_arguments)
        if len(found) == CLIP_TOKENS:  # without its files transformers makes an empty one
            return found
    raise ValueError(
        f"{one_line(facts.file)} brings no tokenizer, and CLIP's is not on this machine:"
        " pip install open-clip-torch, pass tokenizer=, or give config=FOLDER"
    )


def open_clip_words() -> Path | None:
    """Give the file of merges that open_clip brings; looked for, not imported."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        return None
    words = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    return words if words.is_file() else None


def _tokenizer_of(words: Path, *, pad: str) -> Any:
    """Read open_clip's list of merges: a header, then pairs, of which CLIP uses the first 48894."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())  # CLIP's order of bytes
    lines = gzip.decompress(words.read_bytes()).decode("utf-8").split("\n")[1 : CLIP_TOKENS - 512 - 2 + 1]
    merges: Any = [tuple(line.split()) for line in lines]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    numbers = {token: i for i, token in enumerate([*vocabulary, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=77, pad_token=pad)


def _unet(facts: SingleFileFacts, *, second: bool, large: bool) -> dict[str, Any]:
    own: dict[str, Any] = {"attention_head_dim": 8}
    if second:  # attention_head_dim is diffusers' name for the number of heads, here of 64 channels each
        own = {
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
            "upcast_attention": large,
        }
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 96 if large else 64,
        "in_channels": facts.in_channels,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
        "cross_attention_dim": facts.text_width,
        **own,
    }


CLIP_TOKENS = 49408
VAE = {
    "_class_name": "AutoencoderKL",
    "sample_size": 512,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_CLIP = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": CLIP_TOKENS,
    "max_position_embeddings": 77,
    "bos_token_id": CLIP_TOKENS - 2,
    "eos_token_id": CLIP_TOKENS - 1,
}
TEXT_ENCODERS: Mapping[bool, dict[str, Any]] = {
    False: {
        **_CLIP,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
        "pad_token_id": CLIP_TOKENS - 1,
    },
    # open_clip's ViT-H/14 without its last layer, which Stable Diffusion 2.x leaves out.
    True: {
        **_CLIP,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "projection_dim": 512,
        "pad_token_id": 0,
    },
}
"""By whether it is of Stable Diffusion 2.x."""
