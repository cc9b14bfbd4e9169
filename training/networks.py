"""The shapes of our networks: stock diffusers classes built from small configs.

Knows nothing of how they are trained.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from dataclasses import dataclass

from diffusers import AutoencoderKL, UNet2DConditionModel

VAE_FACTOR = 8
"""Pixels per latent in each direction."""


@dataclass(frozen=True, kw_only=True)
class VaeShape:
    """An `AutoencoderKL` that halves the picture three times."""

    channels: tuple[int, int, int, int] = (16, 32, 64, 128)
    layers: int = 1
    latent_channels: int = 8


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """A `UNet2DConditionModel`; head dimension 32 throughout."""

    channels: tuple[int, ...] = (64, 128, 256)
    attention: tuple[bool, ...] = (False, True, True)
    """Which levels, finest first, hold self- and cross-attention."""
    layers: int = 1
    sample_size: int = 16


def build_vae(shape: VaeShape) -> AutoencoderKL:
    """Pictures [-1, 1], batch 3 height width <-> latents, batch c height/8 width/8."""
    levels = len(shape.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
        block_out_channels=shape.channels,  # pyright: ignore[reportArgumentType]
        layers_per_block=shape.layers,
        latent_channels=shape.latent_channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=0.18215,
        sample_size=128,
    )


def build_unet(shape: UNetShape, *, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """Latents, timestep in [0, 1000], token states batch 77 text_width -> prediction of their shape."""
    down = tuple("CrossAttnDownBlock2D" if on else "DownBlock2D" for on in shape.attention)
    up = tuple("CrossAttnUpBlock2D" if on else "UpBlock2D" for on in reversed(shape.attention))
    return UNet2DConditionModel(
        sample_size=shape.sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=shape.channels,
        layers_per_block=shape.layers,
        # In this class the argument's name notwithstanding, it is the number of heads of each level.
        attention_head_dim=tuple(c // 32 for c in shape.channels),  # pyright: ignore[reportArgumentType]
        cross_attention_dim=text_width,
        use_linear_projection=True,
    )
