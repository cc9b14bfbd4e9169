"""Prompts to conditioning: token states of whole rows of texts, weighted and summed as their rows say.

Knows nothing of guidance or latents, nor of how a text becomes tokens (`tokens.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from ldm_pipeline.prompt_rows import NegativeRow, PromptRow
from ldm_pipeline.prompt_syntax import LongPrompt, PromptSyntax
from ldm_pipeline.tokens import Tokens, pieces_of, tokenize

LARGEST_MEAN_RATIO = 10.0
"""Beyond it restoring the mean would blow the states up. Measured on the bundled model: 0.5 to 1.9, all words
of a prompt weighted from 0.5 to 2."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One text per picture for the network to read: one prediction, a term of a weighted sum."""

    states: Float[Tensor, "batch tokens width"]
    """Token states; zeros where a picture's text is shorter than its neighbor's."""
    attention: Bool[Tensor, "batch tokens"] | None = None
    """False at those zeros; None: every token is read."""
    weight: Float[Tensor, " batch"] | None = None
    """float32, 0 where a picture's row has fewer terms; None: 1 for all."""


@dataclass(frozen=True, kw_only=True)
class TextConditioning:
    """What the network reads: the terms of each picture's weighted sum, most often one."""

    prompts: tuple[Branch, ...]
    negatives: tuple[Branch, ...] = ()
    """Empty in a run without guidance."""
    null: Branch | None = None
    """The encoded empty prompt (never zeros), where it was asked for."""

    @property
    def prompt(self) -> Float[Tensor, "batch tokens width"]:
        """The token states of the only prompt branch; ValueError where prompts are weighted sums."""
        return _only(self.prompts).states

    @property
    def negative(self) -> Float[Tensor, "batch tokens width"] | None:
        """The token states of the only negative branch, None in a run without guidance."""
        return _only(self.negatives).states if self.negatives else None


def _only(branches: tuple[Branch, ...]) -> Branch:
    if len(branches) != 1:
        raise ValueError(
            f"a picture has {len(branches)} texts here: give one text per row to read its states"
        )
    return branches[0]


def token_limit(tokenizer: Any, text_encoder: Any) -> int:
    """Give the number of tokens a prompt may have, both end marks included (77 for CLIP)."""
    return min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)


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


def weigh(
    states: Float[Tensor, "chunks tokens width"], weights: Float[Tensor, "chunks tokens"]
) -> Float[Tensor, "chunks tokens width"]:
    """Multiply token states by their weights, and each chunk back to the mean it had.

    z' = w z mean(z) / mean(w z), as A1111 does. It takes the mean over the chunks of a whole batch; here it
    is each chunk's own, so that no text depends on its neighbors and one alone is as in A1111. Chunks of
    weight 1 throughout stay bit-equal. ValueError where the weights turn the mean's sign or nearly undo it.
    """
    plain = (weights == 1).all(dim=1)
    if plain.all():
        return states
    weighted = states.float() * weights[..., None]
    ratio = states.float().mean(dim=(1, 2)) / weighted.mean(dim=(1, 2))
    if not ((ratio > 0) & (ratio < LARGEST_MEAN_RATIO) | plain).all():
        raise ValueError(
            f"prompt has weights down to {weights.min():g} and up to {weights.max():g}, which undo its mean:"
            " use weights nearer to 1"
        )
    restored = (weighted * ratio[:, None, None]).to(states.dtype)
    return torch.where(plain[:, None, None], states, restored)


def condition(
    tokenizer: Any,
    text_encoder: Any,
    *,
    prompts: Sequence[PromptRow] | Tensor,
    negatives: Sequence[NegativeRow] | Tensor | None,
    needs_null: bool,
    per_row: int,
    clip_skip: int | None,
    device: torch.device,
    dtype: torch.dtype,
    long_prompt: LongPrompt = "truncate",
    prompt_syntax: PromptSyntax = "plain",
    exact: bool = False,
) -> tuple[TextConditioning, list[str]]:
    """Encode rows of texts, each different text once, and give every row `per_row` pictures.

    Token states given in place of texts are taken as they are. `negatives` is None in a run without guidance.
    Also gives the ends of texts that did not fit, for the caller to tell. `long_prompt="chunk"` reads such
    ends in further chunks, whose states are put behind one another; `prompt_syntax="a1111"` reads weights and
    BREAK (`prompt_syntax.py`), BREAK only together with "chunk". With `exact` every text is encoded alone, so
    that its bits do not depend on the others. ValueError for a sum without weight.
    """
    terms: list[list[list[tuple[str, float]]] | None] = [
        None if given is None or isinstance(given, Tensor) else [_terms(row) for row in given]
        for given in (prompts, negatives)
    ]
    wanted = [text for rows in terms for row in rows or () for text, _ in row] + [""] * needs_null
    different = list(dict.fromkeys(wanted))
    states: dict[str, Tensor] = {}
    lost: list[str] = []
    together = [[text] for text in different] if exact else [different] if different else []
    for some in together:
        pieces = [pieces_of(text, long_prompt=long_prompt, prompt_syntax=prompt_syntax) for text in some]
        limit = token_limit(tokenizer, text_encoder)
        tokens = tokenize(tokenizer, pieces, limit=limit, long_prompt=long_prompt)
        encoded = encode(text_encoder, tokens, clip_skip=clip_skip, device=device)
        weighted = weigh(encoded, tokens.weights.to(device))
        rows = [chunks.flatten(0, 1) for chunks in weighted.split(tokens.chunks)]
        states |= dict(zip(some, rows, strict=True))
        lost += tokens.lost

    def branches(given: Any, rows: list[list[tuple[str, float]]] | None) -> tuple[Branch, ...]:
        if given is None:
            return ()
        found = [Branch(states=given)] if rows is None else _branches(rows, states)
        return tuple(_spread(branch, per_row, device=device, dtype=dtype) for branch in found)

    found = TextConditioning(
        prompts=branches(prompts, terms[0]),
        negatives=branches(negatives, terms[1]),
        null=branches([""], [[("", 1.0)]] * len(prompts))[0] if needs_null else None,
    )
    return found, [end for end in lost if end]


def _terms(row: PromptRow | NegativeRow) -> list[tuple[str, float]]:
    """Write a row as a weighted sum; ValueError where the weights add up to nothing."""
    entries = (row,) if isinstance(row, str) else row
    terms = [(entry, 1.0) if isinstance(entry, str) else (entry[0], float(entry[1])) for entry in entries]
    if not sum(weight for _, weight in terms) > 0:
        raise ValueError(f"prompt={row!r} has weights with a sum of 0 or less: give it a positive sum")
    return terms


def _branches(rows: list[list[tuple[str, float]]], states: dict[str, Tensor]) -> list[Branch]:
    """Make branch i of every row's term i; a row with fewer terms repeats its first with weight 0."""
    found = []
    for i in range(max(map(len, rows))):
        terms = [row[i] if i < len(row) else (row[0][0], 0.0) for row in rows]
        weights = [weight for _, weight in terms]
        branch = stack([states[text] for text, _ in terms])
        weight = None if all(weight == 1 for weight in weights) else torch.tensor(weights)
        found.append(replace(branch, weight=weight))
    return found


def stack(texts: Sequence[Float[Tensor, "_ width"]]) -> Branch:
    """Stack the token states of texts; shorter ones are filled up with zeros that attention leaves out."""
    lengths = torch.tensor([len(states) for states in texts], device=texts[0].device)
    longest = int(lengths.max())
    padded = [pad(states, (0, 0, 0, longest - len(states))) for states in texts]
    attention = torch.arange(longest, device=lengths.device) < lengths[:, None]
    return Branch(states=torch.stack(padded), attention=None if attention.all() else attention)


def lengthen(branch: Branch, tokens: int) -> Branch:
    """Fill a branch up to a number of tokens with zeros that attention leaves out."""
    missing = tokens - branch.states.shape[1]
    if not missing:
        return branch
    attention = branch.attention
    if attention is None:
        attention = torch.ones(branch.states.shape[:2], dtype=torch.bool, device=branch.states.device)
    return replace(
        branch, states=pad(branch.states, (0, 0, 0, missing)), attention=pad(attention, (0, missing))
    )


def _spread(branch: Branch, per_row: int, *, device: torch.device, dtype: torch.dtype) -> Branch:
    """Give every row its pictures, on the network's device and in its number type."""

    def repeated(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device).repeat_interleave(per_row, dim=0)

    states = branch.states.to(device=device, dtype=dtype).repeat_interleave(per_row, dim=0)
    return Branch(states=states, attention=repeated(branch.attention), weight=repeated(branch.weight))
