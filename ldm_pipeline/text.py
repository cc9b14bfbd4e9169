"""Prompts to conditioning: tokens, token states, what was cut off and which words are unknown.

Knows nothing of guidance or latents; it reports losses as values and leaves the telling to the caller.
"""

import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

# A fast tokenizer keeps its padding and truncation as state: two threads at once raise "Already borrowed".
_tokenizing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class TextConditioning:
    """What the network reads: token states, each (pictures tokens width).

    `negative` and `null` (the encoded empty prompt, never zeros) are None in a run without guidance.
    """

    prompt: Float[Tensor, "batch tokens width"]
    negative: Float[Tensor, "batch tokens width"] | None = None
    null: Float[Tensor, "batch tokens width"] | None = None


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Texts as token numbers, all of one length, with the ends that did not fit."""

    ids: Int[Tensor, "texts tokens"]
    """int64 (texts tokens)."""
    attention: Int[Tensor, "texts tokens"]
    """int64 (texts tokens), 1 up to each text's end token."""
    lost: tuple[str, ...]
    """Per text what was cut off; "" where nothing was."""


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words as `known_words.txt` counts them: letters and digits, no hyphens."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.lower())


def unknown_words(texts: Sequence[str], known: Collection[str]) -> list[str]:
    """List the words of `texts` that are not in `known`, each once, in reading order."""
    seen = dict.fromkeys(word for text in texts for word in words_of(text))
    return [word for word in seen if word not in known and re.split("['’]", word)[0] not in known]


def token_limit(tokenizer: Any, text_encoder: Any) -> int:
    """Give the number of tokens a prompt may have, both end marks included (77 for CLIP)."""
    return min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)


def tokenize(tokenizer: Any, texts: Sequence[str], *, limit: int) -> Tokens:
    """Turn texts into token numbers, cut to `limit` tokens and padded to it with the tokenizer's own pad."""
    with _tokenizing:
        # Padding and cutting happen below, so the same numbers also say what was lost.
        uncut = [tokenizer(text, truncation=False, padding=False, verbose=False).input_ids for text in texts]
        lost = tuple(tokenizer.decode(ids[limit - 1 : -1]) if len(ids) > limit else "" for ids in uncut)
    cut = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in uncut]
    padded = [[*ids, *[tokenizer.pad_token_id] * (limit - len(ids))] for ids in cut]
    attention = [[1] * len(ids) + [0] * (limit - len(ids)) for ids in cut]
    return Tokens(ids=torch.tensor(padded), attention=torch.tensor(attention), lost=lost)


def encode(
    text_encoder: Any, tokens: Tokens, *, clip_skip: int | None, device: torch.device
) -> Float[Tensor, "texts tokens width"]:
    """Run the CLIP text tower: token states (texts tokens width) after the final layer norm.

    `clip_skip=n` leaves out the last n layers (A1111 counts one more: its 2 is our 1). ValueError when the
    tower has fewer layers. Works with the flattened `CLIPTextModel` of transformers >= 5.6 and older ones.
    """
    config = text_encoder.config
    if clip_skip is not None and clip_skip >= config.num_hidden_layers:
        raise ValueError(
            f"clip_skip={clip_skip} leaves no layer: use at most {config.num_hidden_layers - 1} here"
        )
    masked = getattr(config, "use_attention_mask", False)
    states = text_encoder(
        tokens.ids.to(device),
        attention_mask=tokens.attention.to(device) if masked else None,
        output_hidden_states=clip_skip is not None,
    )
    if clip_skip is None:
        return states.last_hidden_state
    tower = getattr(text_encoder, "text_model", text_encoder)
    return tower.final_layer_norm(states.hidden_states[-(clip_skip + 1)])


def condition(
    tokenizer: Any,
    text_encoder: Any,
    *,
    prompts: Sequence[str] | Tensor,
    negatives: Sequence[str] | Tensor | None,
    needs_null: bool,
    per_row: int,
    clip_skip: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[TextConditioning, list[str]]:
    """Encode rows of texts, each different text once, and give every row `per_row` pictures.

    Token states given in place of texts are taken as they are. `negatives` is None in a run without guidance.
    Also gives the ends of texts that did not fit, for the caller to tell.
    """
    rows = len(prompts)
    wanted = [
        list(given) for given in (prompts, negatives) if given is not None and not isinstance(given, Tensor)
    ]
    different = list(dict.fromkeys([text for texts in wanted for text in texts] + [""] * needs_null))
    states: dict[str, Tensor] = {}
    lost: tuple[str, ...] = ()
    if different:
        tokens = tokenize(tokenizer, different, limit=token_limit(tokenizer, text_encoder))
        states = dict(
            zip(different, encode(text_encoder, tokens, clip_skip=clip_skip, device=device), strict=True)
        )
        lost = tokens.lost

    def spread(texts: Sequence[str] | Tensor) -> Tensor:
        stacked = texts if isinstance(texts, Tensor) else torch.stack([states[text] for text in texts])
        return stacked.to(device=device, dtype=dtype).repeat_interleave(per_row, dim=0)

    negative = None if negatives is None else spread(negatives)
    null = spread([""] * rows) if needs_null else negative
    return TextConditioning(prompt=spread(prompts), negative=negative, null=null), [
        end for end in lost if end
    ]
