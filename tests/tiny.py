"""Real Stable Diffusion components at a tiny size, with weights drawn from fixed seeds, for all tests.

Knows nothing of what is tested with them.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ldm_pipeline import LatentDiffusionPipeline

LATENT_CHANNELS = 8
WORDS = [
    *(
        "a",
        "and",
        "black",
        "car",
        "cat",
        "city",
        "day",
        "dog",
        "in",
        "london",
        "night",
        "on",
        "paris",
        "rain",
    ),
    *("rainy", "red", "sunny", "the", "umbrella"),
]


def randomize(network: nn.Module, seed: int) -> None:
    """Give a network weights that depend on nothing but the seed, at the spread torch would choose."""
    draw = torch.Generator("cpu").manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            drawn = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim > 1:
                parameter.copy_(drawn / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.05 * drawn + (1.0 if name.endswith("weight") else 0.0))


def make_tokenizer() -> CLIPTokenizer:
    """A byte-level CLIP tokenizer: letters, letters that end a word, `WORDS` built from them, two marks."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
                vocabulary.append("".join(pair))
            pieces = ["".join(pair), *pieces[2:]]
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    numbers = {token: i for i, token in enumerate(vocabulary)}
    return CLIPTokenizer(
        vocab=numbers,
        merges=merges,  # pyright: ignore[reportArgumentType] (its annotation is wrong)
        model_max_length=77,
        pad_token="<|endoftext|>",
    )


def make_text_encoder(tokenizer: Any) -> CLIPTextModel:
    """Three layers of width 32."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text_encoder = CLIPTextModel(config).eval()
    randomize(text_encoder, 1)
    return text_encoder


def make_vae() -> AutoencoderKL:
    """Eight pixels to a latent cell, 8 latent channels, as in the bundled model."""
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),  # pyright: ignore[reportArgumentType]
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        scaling_factor=0.18215,
        mid_block_add_attention=False,
        sample_size=64,
    ).eval()
    randomize(vae, 2)
    return vae


def make_unet() -> UNet2DConditionModel:
    """Two levels of 8 and 16 channels on latents of 8 x 8."""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
    ).eval()
    randomize(unet, 3)
    return unet


def make_scheduler(prediction_type: str = "flow_prediction") -> DPMSolverMultistepScheduler:
    """The bundled model's scheduler, or DPM++ with Stable Diffusion's schedule for eps and v."""
    if prediction_type == "flow_prediction":
        return DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0, steps_offset=1
        )
    return DPMSolverMultistepScheduler(
        prediction_type=prediction_type,  # pyright: ignore
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
    )


def make_components(prediction_type: str = "flow_prediction") -> dict[str, Any]:
    """The arguments of a Stable Diffusion pipeline, ours or diffusers'."""
    tokenizer = make_tokenizer()
    return {
        "vae": make_vae(),
        "text_encoder": make_text_encoder(tokenizer),
        "tokenizer": tokenizer,
        "unet": make_unet(),
        "scheduler": make_scheduler(prediction_type),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    }


def make_stable_diffusion_components(*, unet_channels: int = 4, **unet_config: Any) -> dict[str, Any]:
    """As `make_components`, for eps, with the four latent channels that diffusers' inpainting asks for.

    `unet_channels` is 9 for a UNet made for inpainting; `unet_config` goes to the UNet.
    """
    vae = AutoencoderKL(**{**make_vae().config, "latent_channels": 4}).eval()
    channels = {"in_channels": unet_channels, "out_channels": 4}
    unet = UNet2DConditionModel(**{**make_unet().config, **channels, **unet_config}).eval()
    randomize(vae, 5)
    randomize(unet, 6)
    return {**make_components("epsilon"), "vae": vae, "unet": unet}


def make_pipeline(prediction_type: str = "flow_prediction") -> Any:
    """Our pipeline of tiny components, quiet; untyped, as its pictures are lists, arrays or tensors."""
    pipe = LatentDiffusionPipeline(**make_components(prediction_type))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_folder(folder: Path, prediction_type: str = "flow_prediction") -> Path:
    """Save a tiny pipeline folder with defaults and known words, as the bundled one has; 64 x 64 pixels."""
    make_pipeline(prediction_type).save_pretrained(folder, max_shard_size="15MB")
    defaults = {"num_inference_steps": 4, "guidance_scale": 4.0, "negative_start": 0.25}
    (folder / "generation_defaults.json").write_text(json.dumps(defaults))
    (folder / "tokenizer" / "known_words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


def write_lora(folder: Path) -> Path:
    """Save a LoRA of rank 2 for the tiny UNet's attention, strong enough to be seen."""
    unet = make_unet()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"]))
    draw = torch.Generator("cpu").manual_seed(4)
    layers: dict[str, nn.Module | torch.Tensor] = {
        name: torch.randn(weight.shape, generator=draw)
        for name, weight in get_peft_model_state_dict(unet).items()
    }
    LatentDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"
