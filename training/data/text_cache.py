"""A picture set's captions and a text encoder -> the token states of every caption on disk.

Knows nothing of pictures. The empty caption is always among them, for dropping captions in training.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from training.data.cache import content_key
from training.data.found import digest_of
from training.data.picture_set import PictureSet
from training.data.row_store import RowStore, stored_rows


class TextCache:
    """The token states of texts."""

    def __init__(self, store: RowStore, rows: dict[str, int]):
        self._store, self._rows = store, rows

    def read(self, texts: Sequence[str]) -> Float[Tensor, "batch tokens width"]:
        """Token states as float32.

        Raises:
            ValueError: a text that no caption of the set is, or a row that the disk has damaged.
        """
        for text in texts:
            if text not in self._rows:
                raise ValueError(f"texts: {text!r} is not in the cache; it holds the set's captions and ''.")
        return self._store.read([self._rows[text] for text in texts])


def text_cache(
    picture_sets: Sequence[PictureSet],
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    folder: Path,
    *,
    more: Sequence[str] = (),
    batch_size: int = 32,
    dtype: torch.dtype = torch.float16,
) -> TextCache:
    """Encode all captions of some sets (training, held-out), and open them.

    Token states are the encoder's last ones, without an attention mask, as Stable Diffusion has them. The
    file's name carries the content behind it: token ids, weights, dtype.

    Args:
        more: further texts, such as prompts of previews.
    Raises:
        ValueError: a set shuffles its tags, which makes every caption a new one.
        OSError: the disk is full; what is made so far stays.
    """
    if any(pictures.config.caption_shuffle for pictures in picture_sets):
        raise ValueError(
            "caption_shuffle=True: makes every caption a new one, which no cache holds; encode the captions "
            "in the training step, or turn it off."
        )
    captions = {
        text
        for pictures in picture_sets
        for index in range(len(pictures))
        for text in pictures.captions(index)
    }
    texts = sorted({"", *captions, *more})
    ids = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    facts = {
        "texts": digest_of(ids.tolist()),
        "weights": content_key(text_encoder),
        "dtype": str(dtype),
    }

    @torch.no_grad()
    def make(first: int, last: int) -> Tensor:
        return text_encoder(ids[first:last].to(text_encoder.device)).last_hidden_state

    store = stored_rows(
        folder / f"captions-{digest_of(facts)}.npy",
        make,
        count=len(texts),
        batch_size=batch_size,
        facts=facts,
        title="captions",
        dtype=dtype,
    )
    return TextCache(store, {text: row for row, text in enumerate(texts)})
