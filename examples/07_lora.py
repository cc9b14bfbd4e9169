"""A LoRA at scale 0, 0.5 and 1, same seed: the file given on the command line, or one trained in a minute."""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict
from PIL import ImageOps

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

TRAINED_ON = ["Paris on a sunny day", "Tokyo at night", "Venice at sunset", "London in the rain"]
TRAINED_ON += ["a red bus in Moscow", "Rome at dawn", "a yellow balloon in Cairo", "San Francisco in snow"]
DRAWN = ["New York on a sunny day", "a red bus in London", "Agra at sunset", "Paris in the snow"]
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out"]


def train_sepia_lora(folder: Path) -> Path:
    """Show the UNet eight of its own pictures in sepia, and write what it learned to a file in `folder`."""
    pipeline, draw = LatentDiffusionPipeline.from_pretrained(), torch.Generator().manual_seed(0)
    pictures = pipeline(TRAINED_ON, seed=1).images
    sepia = [ImageOps.colorize(picture.convert("L"), "#1e0f05", "#ffe9c4") for picture in pictures]
    with torch.no_grad():
        pixels = pipeline.image_processor.preprocess(sepia)
        x_0 = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
        words, empty = pipeline.encode_prompt(TRAINED_ON)
    unet = pipeline.unet.requires_grad_(False)
    with torch.random.fork_rng():  # peft draws its first weights from the global state
        torch.set_rng_state(draw.get_state())
        unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=LAYERS))
    optimizer = torch.optim.AdamW([p for p in unet.parameters() if p.requires_grad], lr=4e-3)
    for step in range(100):
        noise = torch.randn(x_0.shape, generator=draw)
        s = torch.rand(len(x_0), 1, 1, 1, generator=draw)  # each picture's noise level, 0 to 1
        text = words if step % 2 else empty  # guidance asks the network for both
        flow = unet((1 - s) * x_0 + s * noise, 1000 * s.flatten(), text).sample
        torch.nn.functional.mse_loss(flow, noise - x_0).backward()
        optimizer.step()
        optimizer.zero_grad()
    pipeline.save_lora_weights(folder, unet_lora_layers={**get_peft_model_state_dict(unet)})
    return folder / "pytorch_lora_weights.safetensors"


out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)
lora = Path(sys.argv[2]) if len(sys.argv) > 2 else train_sepia_lora(out)

pipeline = LatentDiffusionPipeline.from_pretrained()
pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
pictures, captions = [], []
for scale in (0.0, 0.5, 1.0):
    pictures += pipeline(DRAWN, seed=[7] * len(DRAWN), cross_attention_kwargs={"scale": scale}).images
    captions += [f"scale {scale:g}"] * len(DRAWN)
contact_sheet(pictures, columns=len(DRAWN), captions=captions).save(out / "lora_scales.png")
