"""A CLIP model as a judge of any picture: is it nearer to a text with the thing than to the same without it?

Knows nothing of studies. The weights are a file of the user's; nothing is fetched and no pickle is read.
"""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

TEMPLATES = (
    ("a photo of {}.", "a photo."),
    ("a picture of {}.", "a picture."),
    ("an illustration of {}.", "an illustration."),
    ("a street scene with {}.", "a street scene."),
)
"""(with the thing, without it). The second says nothing instead of "without ...": CLIP does not understand
negation (Alhamoud et al. 2025, arXiv 2501.09425). Embeddings are averaged over the templates, as in section
3.1.4 of CLIP's paper (arXiv 2103.00020)."""
THRESHOLD = 0.5
PICTURES_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class ClipJudge:
    """Yes where the softmax over a pair of texts gives the one with the thing at least `threshold`.

    A question is a thing as a caption would put it ("an umbrella"), which goes into `TEMPLATES`, or two whole
    texts in your own words, "a wet street|a dry street". The threshold is not calibrated: it moves P(yes) in
    all arms, and a comparison is only as good as it separates pictures that people would tell apart.
    """

    network: Any
    preprocess: Any
    """PIL picture -> tensor."""
    tokenizer: Any
    model: str
    weights: str
    """SHA-256 of the weights' file."""
    threshold: float = THRESHOLD

    @classmethod
    def load(cls, weights: Path, *, model: str, threshold: float = THRESHOLD) -> "ClipJudge":
        """Open a local safetensors file as open_clip's model of that name.

        ValueError without open_clip, for an unknown model, one whose tokenizer lies on a hub, a file that is
        no safetensors or holds another model, and a threshold outside (0, 1).
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold:g} is not allowed: use more than 0 and less than 1")
        if weights.suffix.lower() != ".safetensors" or not weights.is_file():
            raise ValueError(f"judge weights {str(weights)!r} are no .safetensors file: check the path")
        try:
            import open_clip
            from open_clip.transform import PreprocessCfg, image_transform_v2
        except ImportError:
            raise ValueError("the CLIP judge needs open_clip: run pip install '.[clip]'") from None
        config = open_clip.get_model_config(model)
        if config is None:
            near = difflib.get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.0)
            raise ValueError(f"judge model {model!r} is unknown to open_clip: nearest are {', '.join(near)}")
        text = config.get("text_cfg", {})
        if {"hf_model_name", "hf_tokenizer_name"} & set(text) or "siglip" in model.lower():
            raise ValueError(f"judge model {model!r} reads its tokenizer from a hub: use e.g. ViT-B-32")
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten, are drawn globally
            network: Any = open_clip.create_model(model, load_weights=False, pretrained_text=False)
        try:
            network.load_state_dict(load_file(weights))
        except (RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"judge weights {weights.name!r} do not fit {model}: {reason}") from None
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(
            network=network.eval().requires_grad_(False),
            preprocess=image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False),
            tokenizer=open_clip.get_tokenizer(model),
            model=model,
            weights=digest,
            threshold=threshold,
        )

    def facts(self) -> dict[str, Any]:
        """Tell model, weights, threshold and templates."""
        return {
            "judge": "clip",
            "model": self.model,
            "weights": self.weights,
            "threshold": self.threshold,
            "templates": [list(pair) for pair in TEMPLATES],
        }

    def check(self, question: str) -> None:
        """Refuse a question that is no thing and no pair of texts, or longer than the model reads."""
        longest = self.tokenizer.context_length - 2  # two marks
        for text in (text for pair in text_pairs(question) for text in pair):
            if len(self.tokenizer.encode(text)) > longest:
                raise ValueError(f"ask={question!r} has more than {longest} tokens: shorten it")

    def asks(self, pictures: Sequence[Image.Image], question: str) -> list[bool]:
        """Answer for each picture whether its probability reaches the threshold."""
        return [p >= self.threshold for p in self.probabilities(pictures, question)]

    @torch.no_grad()
    def probabilities(self, pictures: Sequence[Image.Image], question: str) -> list[float]:
        """Softmax of scaled cosines with the two averaged text embeddings, the share of the first."""
        with_it, without = (self._embedded(texts) for texts in zip(*text_pairs(question), strict=True))
        scale, found = self.network.logit_scale.exp(), []
        for first in range(0, len(pictures), PICTURES_AT_ONCE):
            few = [self.preprocess(picture) for picture in pictures[first : first + PICTURES_AT_ONCE]]
            seen = self.network.encode_image(torch.stack(few), normalize=True)
            found += (scale * (seen @ (with_it - without))).sigmoid().tolist()
        return found

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Give the mean direction of texts."""
        directions = self.network.encode_text(self.tokenizer(list(texts)), normalize=True)
        return torch.nn.functional.normalize(directions.mean(dim=0), dim=0)


def text_pairs(question: str) -> list[tuple[str, str]]:
    """Turn a question into pairs of texts, with the thing and without; ValueError if it is neither form."""
    parts = [" ".join(part.split()) for part in question.split("|")]
    if not all(parts) or len(parts) > 2:
        raise ValueError(f"ask={question!r} is no thing and no pair of texts, like 'a red bus|a blue bus'")
    if len(parts) == 2:
        return [(parts[0], parts[1])]
    return [(with_it.replace("{}", parts[0]), without) for with_it, without in TEMPLATES]
