"""diffusers' guiders in the place of plain guidance: one row each, same seeds."""

# pyright: reportPrivateImportUsage=false

import sys
from pathlib import Path
from typing import Any

from diffusers import guiders
from diffusers.hooks import LayerSkipConfig

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

projected = guiders.AdaptiveProjectedGuidance(
    16.0, adaptive_projected_guidance_momentum=-0.5, adaptive_projected_guidance_rescale=5.0, eta=0.0
)
middle = "mid_block.attentions.0.transformer_blocks"  # the layers of a UNet must be named
scores = LayerSkipConfig([0], middle, skip_attention=False, skip_attention_scores=True, skip_ff=False)
perturbed = guiders.PerturbedAttentionGuidance(
    1.0, perturbed_guidance_scale=3.0, perturbed_guidance_stop=1.0, perturbed_guidance_config=scores
)
asked: dict[str, dict[str, Any]] = {
    "guidance_scale=6": {"guidance_scale": 6.0},
    "6, in the first half": {"guider": guiders.ClassifierFreeGuidance(6.0, stop=0.5)},  # costs a quarter less
    "guidance_scale=16": {"guidance_scale": 16.0},  # invents things
    "16, projected (APG)": {"guider": projected},
    "guidance_scale=1": {"guidance_scale": 1.0},  # no guidance
    "perturbed (PAG) only": {"guider": perturbed},  # away from its own answer without attention
}

pipeline = LatentDiffusionPipeline.from_pretrained()
pictures, captions = [], []
for caption, guidance in asked.items():
    pictures += pipeline("Rome on a rainy day", num_images_per_prompt=4, seed=7, **guidance).images
    captions += [caption] * 4
contact_sheet(pictures, columns=4, captions=captions).save(out / "guiders.png")
