"""More latent channels for trained networks, which at first compute what they did before.

Knows nothing of training. A VAE whose latents hold too little, and the UNet that draws them, can so learn on
instead of anew (as Net2Net widens networks, arXiv 1511.05641): old channels come first, new ones last.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

LATENT_LAYERS = (
    "encoder.conv_out.", "quant_conv.", "post_quant_conv.", "decoder.conv_in.",  # of a VAE
    "conv_in.", "conv_out.",  # of a UNet
)  # fmt: skip
"""How the names of parameters begin whose shape depends on the number of latent channels."""
NEW_LOG_VARIANCE = -12.0
"""Of new channels at first: next to no noise, as in channels that have long learned."""
_CHANNELS = {AutoencoderKL: "latent_channels", UNet2DConditionModel: "in_channels"}


@torch.no_grad()
def copy_vae(old: AutoencoderKL, new: AutoencoderKL) -> None:
    """Load `old` into `new`, which has as many latent channels or more.

    Decoding gives the same pictures as before, whatever the new channels hold; they begin as random
    projections of the encoder's last features.
    """
    fewer, more = old.config["latent_channels"], new.config["latent_channels"]
    _copy_rest(old, new)
    # Rows of the means, then rows of the log variances.
    rows = torch.cat([torch.arange(fewer), more + torch.arange(fewer)])
    out = new.encoder.conv_out
    out.weight[more:] = 0
    _bias(out)[more:] = NEW_LOG_VARIANCE
    out.weight[rows] = old.encoder.conv_out.weight
    _bias(out)[rows] = _bias(old.encoder.conv_out)
    pairs = ((old.quant_conv, new.quant_conv, rows), (old.post_quant_conv, new.post_quant_conv, rows[:fewer]))
    for before, after, places in pairs:
        assert before is not None and after is not None
        after.weight[:, :, 0, 0] = torch.eye(len(after.weight))
        after.weight[places[:, None], places] = before.weight
        _bias(after).zero_()
        _bias(after)[places] = _bias(before)
    new.decoder.conv_in.weight.zero_()
    new.decoder.conv_in.weight[:, :fewer] = old.decoder.conv_in.weight
    _bias(new.decoder.conv_in).copy_(_bias(old.decoder.conv_in))


@torch.no_grad()
def copy_unet(old: UNet2DConditionModel, new: UNet2DConditionModel) -> None:
    """Load `old` into `new`, which has as many latent channels or more.

    The prediction of the old channels stays, whatever the new ones hold; that of the new ones is zero.
    """
    fewer = old.config["in_channels"]
    _copy_rest(old, new)
    new.conv_in.weight.zero_()
    new.conv_in.weight[:, :fewer] = old.conv_in.weight
    _bias(new.conv_in).copy_(_bias(old.conv_in))
    new.conv_out.weight.zero_()
    new.conv_out.weight[:fewer] = old.conv_out.weight
    _bias(new.conv_out).zero_()
    _bias(new.conv_out)[:fewer] = _bias(old.conv_out)


def grows_into(old: AutoencoderKL | UNet2DConditionModel, new: AutoencoderKL | UNet2DConditionModel) -> bool:
    """Whether `old` has the shape of `new` but for, perhaps, fewer latent channels."""
    shapes = [
        {
            name: p.ndim if name.startswith(LATENT_LAYERS) else p.shape
            for name, p in network.named_parameters()
        }
        for network in (old, new)
    ]
    fewer, more = (int(network.config[_CHANNELS[type(network)]]) for network in (old, new))
    return shapes[0] == shapes[1] and fewer <= more


def _copy_rest(old: nn.Module, new: nn.Module) -> None:
    """All but the layers that latents come from or go to."""
    rest = {k: value for k, value in old.state_dict().items() if not k.startswith(LATENT_LAYERS)}
    new.load_state_dict(rest, strict=False)


def _bias(convolution: nn.Conv2d | None) -> Tensor:
    assert convolution is not None and convolution.bias is not None
    return convolution.bias
