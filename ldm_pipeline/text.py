"""Prompts to conditioning: tokens, token states, what was cut off and which words are unknown.

Knows nothing of guidance or latents; it reports losses as values and leaves the telling to the caller.
"""

import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from ldm_pipeline.prompt_syntax import WeightedText, weighted_pieces

LongPrompt = Literal["truncate", "chunk"]
PromptSyntax = Literal["plain", "a1111"]
PromptRow = str | Sequence[tuple[str, float]]
"""A text, or a weighted sum of texts."""
NegativeRow = str | Sequence[str]
"""A text, or several of equal weight."""

COMMA_REACH = 20
"""A chunk ends at a comma, or at least at a word's end, if one stands among its last 20 tokens (A1111's)."""
LARGEST_MEAN_RATIO = 10.0
"""Beyond it restoring the mean would blow the states up. Measured on the bundled model: 0.5 to 1.9, all words
of a prompt weighted from 0.5 to 2."""
# A fast tokenizer keeps its padding and truncation as state: two threads at once raise "Already borrowed".
_tokenizing = threading.Lock()


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


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Texts as token numbers, in rows of one length, with the ends that did not fit."""

    ids: Int[Tensor, "chunks tokens"]
    """int64 (chunks tokens), text by text."""
    attention: Int[Tensor, "chunks tokens"]
    """int64 (chunks tokens), 1 up to each chunk's end token."""
    weights: Float[Tensor, "chunks tokens"]
    """float32 (chunks tokens), 1 for end marks and padding."""
    chunks: tuple[int, ...]
    """Per text how many rows are its own."""
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


def tokenize(
    tokenizer: Any,
    texts: Sequence[str | Sequence[WeightedText]],
    *,
    limit: int,
    long_prompt: LongPrompt = "truncate",
) -> Tokens:
    """Turn texts into rows of `limit` token numbers, filled up with the tokenizer's own pad.

    What does not fit is cut, or goes into further rows. The pieces of a weighted text are tokenized one by
    one, as A1111 does.
    """
    rows: list[_Run] = []
    chunks: list[int] = []
    lost: list[str] = []
    with _tokenizing:
        for text in texts:
            runs = _runs(tokenizer, [WeightedText(text=text)] if isinstance(text, str) else text)
            if long_prompt == "chunk":
                parts = [part for run in runs for part in run.parts(tokenizer, limit - 2)]
                lost.append("")
            else:
                (run,) = runs
                parts = [run[: limit - 2]]
                lost.append(tokenizer.decode(run.ids[limit - 2 :]) if len(run.ids) > limit - 2 else "")
            rows += parts
            chunks.append(len(parts))
    start, end, filler = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    empty = [limit - 2 - len(row.ids) for row in rows]
    ids = [[start, *row.ids, end, *[filler] * free] for row, free in zip(rows, empty, strict=True)]
    weights = [[1.0, *row.weights, 1.0, *[1.0] * free] for row, free in zip(rows, empty, strict=True)]
    return Tokens(
        ids=torch.tensor(ids),
        attention=torch.tensor([[1] * (limit - free) + [0] * free for free in empty]),
        weights=torch.tensor(weights),
        chunks=tuple(chunks),
        lost=tuple(lost),
    )


@dataclass(frozen=True)
class _Run:
    """Token numbers without marks between two BREAKs, and their weights."""

    ids: list[int]
    weights: list[float]

    def __getitem__(self, part: slice) -> "_Run":
        return _Run(self.ids[part], self.weights[part])

    def parts(self, tokenizer: Any, size: int) -> "list[_Run]":
        """Cut into parts of at most `size` tokens; an empty run is one empty part."""
        names = tokenizer.convert_ids_to_tokens(self.ids)
        ends = chunk_ends(names, size)
        return [self[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _runs(tokenizer: Any, pieces: Sequence[WeightedText]) -> list[_Run]:
    """Tokenize the pieces of a text; a BREAK at the very end starts nothing, as in A1111."""
    runs = [_Run([], [])]
    for piece in pieces:
        ids = tokenizer(
            piece.text, add_special_tokens=False, truncation=False, padding=False, verbose=False
        ).input_ids
        if piece.starts_chunk:
            runs.append(_Run([], []))
        runs[-1] = _Run([*runs[-1].ids, *ids], [*runs[-1].weights, *[piece.weight] * len(ids)])
    return runs if runs[-1].ids or len(runs) == 1 else runs[:-1]


def chunk_ends(names: Sequence[str], size: int) -> list[int]:
    """Say where to cut tokens, given by name, so that no chunk has more than `size`.

    After the last comma among a full chunk's last 20 tokens, or else after the last word that ends there,
    or else where it is full.
    """
    ends, start = [], 0
    while (full := start + size) < len(names):
        near = range(full, max(full - COMMA_REACH, start), -1)
        commas = [end for end in near if names[end - 1] == ",</w>"]
        words = [end for end in near if names[end - 1].endswith("</w>")]
        # A comma that just missed the chunk: the phrase before it is whole.
        start = full if names[full] == ",</w>" else [*commas, *words, full][0]
        ends.append(start)
    return [*ends, len(names)]


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
) -> tuple[TextConditioning, list[str]]:
    """Encode rows of texts, each different text once, and give every row `per_row` pictures.

    Token states given in place of texts are taken as they are. `negatives` is None in a run without guidance.
    Also gives the ends of texts that did not fit, for the caller to tell. `long_prompt="chunk"` reads such
    ends in further chunks, whose states are put behind one another; `prompt_syntax="a1111"` reads weights and
    BREAK (`prompt_syntax.py`), BREAK only together with "chunk". ValueError for a sum without weight.
    """
    terms: list[list[list[tuple[str, float]]] | None] = [
        None if given is None or isinstance(given, Tensor) else [_terms(row) for row in given]
        for given in (prompts, negatives)
    ]
    wanted = [text for rows in terms for row in rows or () for text, _ in row] + [""] * needs_null
    different = list(dict.fromkeys(wanted))
    states: dict[str, Tensor] = {}
    lost: tuple[str, ...] = ()
    if different:
        pieces = [_pieces(text, long_prompt, prompt_syntax) for text in different]
        limit = token_limit(tokenizer, text_encoder)
        tokens = tokenize(tokenizer, pieces, limit=limit, long_prompt=long_prompt)
        encoded = encode(text_encoder, tokens, clip_skip=clip_skip, device=device)
        weighted = weigh(encoded, tokens.weights.to(device))
        rows = [chunks.flatten(0, 1) for chunks in weighted.split(tokens.chunks)]
        states = dict(zip(different, rows, strict=True))
        lost = tokens.lost

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


def _pieces(text: str, long_prompt: LongPrompt, prompt_syntax: PromptSyntax) -> tuple[WeightedText, ...]:
    """Read a text's weights and breaks, where its syntax has any."""
    if prompt_syntax == "plain":
        return (WeightedText(text=text),)
    pieces = weighted_pieces(text)
    if long_prompt == "truncate" and any(piece.starts_chunk for piece in pieces):
        raise ValueError("prompt has the word BREAK, which starts a chunk: use long_prompt='chunk'")
    return pieces


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
