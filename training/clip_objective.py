"""The losses of the text encoder: pictures against captions, and the record read back from the token states.

Knows nothing of scenes or words: captions are token ids, and records are class numbers in given fields.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from open_clip.model import CLIP
from torch import Tensor, nn

from training.text_tower import embed_text, encode_text_states, end_positions, states_at, without_padding

IGNORED = -1
"""The code of a field about which a caption says nothing."""


class RecordReadings(NamedTuple):
    """Class scores of all fields side by side, each [batch, sum of class counts]."""

    attended: Tensor
    """Read as a UNet reads: one learned query per field attends to all token states, pads included."""
    pooled: Tensor
    """Read linearly from the end token's state and the mean state up to there."""


class RecordHead(nn.Module):
    """Predicts every field of the record from token states in two linear ways.

    All weights start at zero (every class equally likely), so that it needs no random draw.
    """

    def __init__(self, class_counts: Sequence[int], *, width: int):
        super().__init__()
        self.class_counts = tuple(class_counts)
        classes = sum(self.class_counts)
        self.queries = nn.Parameter(torch.zeros(len(self.class_counts), width))
        self.attended_weight = nn.Parameter(torch.zeros(classes, width))
        self.attended_bias = nn.Parameter(torch.zeros(classes))
        self.pooled_weight = nn.Parameter(torch.zeros(classes, 2 * width))
        self.pooled_bias = nn.Parameter(torch.zeros(classes))
        field_of_class = torch.arange(len(self.class_counts)).repeat_interleave(
            torch.tensor(self.class_counts)
        )
        self.register_buffer("field_of_class", field_of_class, persistent=False)

    def forward(
        self,
        states: Float[Tensor, "batch tokens width"],
        end: Int64[Tensor, "batch"],  # noqa: F821
    ) -> RecordReadings:
        """`end` is the position of each row's end token."""
        field_of_class = self.get_buffer("field_of_class")
        attention = (states @ self.queries.T / states.shape[-1] ** 0.5).softmax(dim=1)
        read = attention.transpose(1, 2) @ states  # batch fields width
        attended = (read[:, field_of_class] * self.attended_weight).sum(dim=2) + self.attended_bias

        said = (torch.arange(states.shape[1], device=states.device) <= end[:, None]).to(states.dtype)
        mean = (states * said[:, :, None]).sum(dim=1) / said.sum(dim=1, keepdim=True)
        pooled = F.linear(
            torch.cat([states_at(states, end), mean], dim=1), self.pooled_weight, self.pooled_bias
        )
        return RecordReadings(attended, pooled)


class ClipObjective(nn.Module):
    """Sigmoid contrastive loss with wrong captions, plus `record_weight` times the record's loss.

    Args:
        clip: From `training.text_tower.build_clip`.
        class_counts: Number of classes of each field of the record, e.g. `training.claims.class_counts()`.
        record_weight: Of the record's loss in the sum.
    """

    def __init__(self, clip: CLIP, *, class_counts: Sequence[int], record_weight: float = 0.5):
        super().__init__()
        self.clip = clip
        self.head = RecordHead(class_counts, width=clip.get_parameter("text_projection").shape[0])
        self.record_weight = record_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalar losses: `loss` = `sigmoid` + record_weight * `record`.

        `sigmoid` is summed over captions and averaged over pictures; `record` is the negative log-likelihood
        of what a caption claims, in nats a caption, averaged over the two readings.

        Args:
            batch: `pictures` float [n, 3, height, width] in [-1, 1];
                `ids` int64 [n, tokens], a true caption of each picture, padded to the whole context;
                `negative_ids` int64 [n, k, tokens], wrong captions of each picture;
                `claims` int64 [n, fields], what `ids` claim, -1 = nothing;
                `also_true` bool [n, total], whether caption j of the whole batch is true of picture i too;
                `row` int64 [n], each row's own column in `also_true`: 0 ... n - 1, unless processes share it.
        """
        pictures = _unit(self.clip.encode_image(batch["pictures"]))
        end = end_positions(self.clip, batch["ids"])
        states = encode_text_states(self.clip, batch["ids"])
        texts = _unit(embed_text(self.clip, states, ids=batch["ids"]))
        wrong = self._embed_captions(batch["negative_ids"])
        # Dot products of unit vectors lose five digits in bf16, and the temperature multiplies the error.
        with torch.autocast(pictures.device.type, enabled=False):
            sigmoid = sigmoid_loss(
                pictures,
                texts,
                wrong=wrong,
                also_true=batch["also_true"][:, batch["row"]],
                log_scale=self.clip.get_parameter("logit_scale"),
                bias=self.clip.get_parameter("logit_bias"),
            )
            readings = self.head(states.float(), end)
            record = record_loss(readings, batch["claims"], class_counts=self.head.class_counts)
        return {"loss": sigmoid + self.record_weight * record, "sigmoid": sigmoid, "record": record}

    def _embed_captions(self, ids: Int64[Tensor, "n k tokens"]) -> Float[Tensor, "n k width"]:
        """Unit embeddings. Padding is cut: it costs half of the time and does not change the result."""
        flat = without_padding(self.clip, ids.flatten(0, 1))
        return _unit(embed_text(self.clip, encode_text_states(self.clip, flat), ids=flat)).unflatten(
            0, ids.shape[:2]
        )


def sigmoid_loss(
    pictures: Float[Tensor, "n width"],
    texts: Float[Tensor, "n width"],
    *,
    wrong: Float[Tensor, "n k width"],
    also_true: Bool[Tensor, "n n"],
    log_scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """-1/n sum_ij log sigmoid(z_ij (t x_i . y_j + b)), arXiv 2303.15343, plus k wrong captions a picture.

    Rows are unit vectors. z is 1 on the diagonal and -1 elsewhere; pairs off the diagonal in which the
    caption is true of the picture too are left out.
    """
    scale = log_scale.exp()
    logits = scale * pictures @ texts.T + bias
    own = torch.eye(len(pictures), dtype=torch.bool, device=pictures.device)
    pairs = F.logsigmoid(torch.where(own, logits, -logits))
    wrong_logits = scale * torch.einsum("nw,nkw->nk", pictures, wrong) + bias
    kept = own | ~also_true
    return -(pairs.masked_fill(~kept, 0.0).sum() + F.logsigmoid(-wrong_logits).sum()) / len(pictures)


def record_loss(
    readings: RecordReadings, claims: Int64[Tensor, "n fields"], *, class_counts: Sequence[int]
) -> Float[Tensor, ""]:
    """-log p(claims) in nats a caption, summed over the claimed fields and averaged over both readings."""
    total = readings.attended.new_zeros(())
    for scores in readings:
        for field, part in enumerate(scores.split(list(class_counts), dim=1)):
            total = total + F.cross_entropy(part, claims[:, field], ignore_index=IGNORED, reduction="sum")
    return total / (len(readings) * len(claims))


@dataclass(frozen=True, kw_only=True)
class FieldScore:
    """How often one field was read right from captions that claim it."""

    name: str
    correct: int
    claimed: int


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """What `evaluate_clip` counted."""

    wrong_captions: int
    wrong_captions_beaten: int
    """Wrong captions that match their picture less than its true caption does."""
    fields: tuple[FieldScore, ...]

    @property
    def swap_accuracy(self) -> float:
        """Share of wrong captions beaten; chance is 0.5."""
        return self.wrong_captions_beaten / max(1, self.wrong_captions)

    @property
    def record_accuracy(self) -> float:
        """Share of claimed fields read right, over all fields."""
        return sum(f.correct for f in self.fields) / max(1, sum(f.claimed for f in self.fields))


@torch.no_grad()
def evaluate_clip(
    objective: ClipObjective, batches: Iterable[dict[str, Tensor]], *, field_names: Sequence[str]
) -> ClipScores:
    """Count wrong captions beaten, and fields read right by the attending linear probe, in fp32.

    Args:
        batches: As `ClipObjective.forward` takes them, on the objective's device; `also_true` and `row` are
            not read. Captions that claim nothing can beat no wrong one: leave them out here.
        field_names: In the order of `claims`.
    """
    counts = objective.head.class_counts
    device = objective.head.queries.device
    correct, claimed = (torch.zeros(len(counts), dtype=torch.int64, device=device) for _ in range(2))
    pairs = beaten = 0
    was_training = objective.training
    objective.eval()
    for batch in batches:
        pictures = _unit(objective.clip.encode_image(batch["pictures"]))
        states = encode_text_states(objective.clip, batch["ids"])
        texts = _unit(embed_text(objective.clip, states, ids=batch["ids"]))
        wrong = objective._embed_captions(batch["negative_ids"])
        margin = (pictures * texts).sum(dim=1, keepdim=True) - torch.einsum("nw,nkw->nk", pictures, wrong)
        pairs += margin.numel()
        beaten += int((margin > 0).sum())
        scores = objective.head(states, end_positions(objective.clip, batch["ids"])).attended
        read = torch.stack([part.argmax(dim=1) for part in scores.split(list(counts), dim=1)], dim=1)
        is_claimed = batch["claims"] != IGNORED
        correct += ((read == batch["claims"]) & is_claimed).sum(dim=0)
        claimed += is_claimed.sum(dim=0)
    objective.train(was_training)
    fields = tuple(
        FieldScore(name=name, correct=right, claimed=all_)
        for name, right, all_ in zip(field_names, correct.tolist(), claimed.tolist(), strict=True)
    )
    return ClipScores(wrong_captions=pairs, wrong_captions_beaten=beaten, fields=fields)


def _unit(vectors: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    return F.normalize(vectors.float(), dim=-1)
