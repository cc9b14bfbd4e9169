"""Four steps instead of fourteen: without the bundled LoRA (above), with it, and all steps (below)."""

import sys
from pathlib import Path

from ldm_pipeline import contact_sheet, load_pipeline

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
out.mkdir(parents=True, exist_ok=True)

prompts = [
    "Paris on a rainy day",
    "two blue cars in London",
    "a yellow bus in San Francisco at night",
    "snow in Tokyo",
]
call = {"negative_prompt": "umbrella", "seed": [1, 2, 3, 4]}

pipeline = load_pipeline()
every_step = pipeline(prompts, **call).images
four_steps = pipeline(prompts, **call, num_inference_steps=4).images

quick = load_pipeline(lora="few_steps")  # needs the extra `lora`
with_lora = quick(prompts, **call).images  # in four steps, unless a call says otherwise

contact_sheet([*four_steps, *with_lora, *every_step], columns=4).save(out / "few_steps.png")
