"""Beyond one short text: a prompt read to its end, weighted words, a sum of texts, several negatives."""

import sys
from pathlib import Path
from typing import Any

from ldm_pipeline import LatentDiffusionPipeline, contact_sheet

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

art = "a travel poster, a flat vector illustration, a picture, an image, a view of the French capital, art, "
wordy = f"a postcard of Paris, {4 * art}a yellow balloon in the center at night"  # CLIP reads 77 tokens
asked: dict[str, dict[str, Any]] = {
    "cut, with a warning": {"prompt": wordy},
    "long_prompt='chunk'": {"prompt": wordy, "long_prompt": "chunk"},
    "(red balloon:0.5)": {"prompt": "Agra with a (red balloon:0.5)", "prompt_syntax": "a1111"},
    "(red balloon:1.6)": {"prompt": "Agra with a (red balloon:1.6)", "prompt_syntax": "a1111"},
    "day": {"prompt": "Paris on a sunny day"},
    "half day, half night": {"prompt": [[("Paris on a sunny day", 0.5), ("Paris at night", 0.5)]]},
    "no negative prompt": {"prompt": "Moscow"},
    "not snow, rain, night": {"prompt": "Moscow", "negative_prompt": [["snow", "rain", "night"]]},
}

pipeline = LatentDiffusionPipeline.from_pretrained()
pictures, captions = [], []
for caption, arguments in asked.items():
    pictures += pipeline(**arguments, num_images_per_prompt=4, seed=7).images
    captions += [caption] * 4
contact_sheet(pictures, columns=8, captions=captions).save(out / "prompts.png")
