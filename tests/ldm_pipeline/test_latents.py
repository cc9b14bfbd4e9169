"""Four starts, masks, and a VAE whose failures are never silent."""

from typing import Any

import pytest
import torch

from ldm_pipeline import latents, schedulers
from tests import tiny

CPU = torch.device("cpu")


def flow_schedule(steps: int = 10):
    scheduler = tiny.make_scheduler()
    scheduler.set_timesteps(steps)
    return scheduler


def pair():
    return torch.randn(2, 1, 8, 4, 4, generator=torch.Generator().manual_seed(0))


def test_text_to_image_starts_from_the_noise_and_runs_every_step():
    _, noise = pair()
    start = latents.start_from_noise(flow_schedule(), noise)
    assert torch.equal(start.latents, noise) and len(start.timesteps) == 10
    assert (start.first_step, start.total_steps, start.mask) == (0, 10, None)


def test_image_to_image_runs_the_last_share_of_the_schedule():
    clean, noise = pair()
    scheduler = flow_schedule()
    start = latents.start_from_picture(scheduler, clean, noise, steps=10, strength=0.35)
    assert start.first_step == 7 and torch.equal(start.timesteps, scheduler.timesteps[7:])
    s = scheduler.sigmas[7]
    torch.testing.assert_close(start.latents, (1 - s) * clean + s * noise)


@pytest.mark.parametrize("steps", [1, 3, 7, 14, 50, 999])
def test_the_strength_an_error_names_is_one_that_works(steps):
    with pytest.raises(ValueError) as caught:
        latents.steps_left(steps, 0.0009)
    named = float(str(caught.value).split("at least ")[1].split(",")[0])
    assert latents.steps_left(steps, named) >= 1


def test_a_masked_start_puts_the_picture_back_at_the_level_of_the_next_step():
    clean, noise = pair()
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    scheduler = flow_schedule(4)
    start = latents.start_from_masked_picture(scheduler, clean, noise, mask, steps=4, strength=1.0)
    assert torch.equal(start.latents, noise)
    drawn = mixed = torch.full_like(clean, 5.0)
    for i, t in enumerate(start.timesteps):
        scheduler.step(torch.zeros_like(clean), t, drawn)
        mixed = start.put_back(scheduler, drawn, i)
        s = scheduler.sigmas[i + 1]
        assert torch.equal(mixed[..., :2], drawn[..., :2])
        torch.testing.assert_close(mixed[..., 2:], ((1 - s) * clean + s * noise)[..., 2:])
    assert torch.equal(mixed[..., 2:], clean[..., 2:])


def test_a_latent_cell_is_painted_as_soon_as_one_of_its_pixels_is():
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 3, 9] = 1
    assert latents.latent_mask(mask, 8).tolist() == [[[[0, 1], [0, 0]]]]


def test_diffusers_cells_take_after_their_first_pixel():
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 3, 9] = mask[0, 0, 8, 0] = 1
    assert latents.sampled_mask(mask, 8).tolist() == [[[[0, 0], [1, 0]]]]


def test_a_gray_cell_is_left_to_the_network_in_its_share_of_the_last_steps():
    clean, noise = pair()
    mask = torch.tensor([0.0, 0.24, 0.25, 0.6, 1.0]).expand(1, 1, 4, 5)
    clean, noise = clean[..., :1].expand(-1, -1, -1, 5), noise[..., :1].expand(-1, -1, -1, 5)
    scheduler = flow_schedule(4)
    start = latents.start_from_masked_picture(scheduler, clean, noise, mask, steps=4, strength=1.0)
    drawn = torch.full_like(clean, 50.0)
    painted = []
    for i, t in enumerate(start.timesteps):
        scheduler.step(torch.zeros_like(clean), t, drawn)
        painted.append((start.put_back(scheduler, drawn, i) == 50.0).all((0, 1, 2)).tolist())
    free = [sum(steps) for steps in zip(*painted, strict=True)]
    assert free == [0, 0, 1, 2, 4]  # floor(share x 4) steps
    assert painted[-1] == [False, False, True, True, True]


def test_a_unet_for_inpainting_reads_its_mask_and_then_the_masked_latents():
    clean, noise = pair()
    mask = torch.ones(1, 1, 4, 4)
    scheduler = flow_schedule(4)
    start = latents.start_beside_masked_picture(
        scheduler, None, noise, mask, 2 * clean, steps=4, strength=1.0
    )
    both = torch.cat([noise, noise])
    joined = start.joined(both)
    assert joined.shape == (2, 17, 4, 4) and torch.equal(joined[:, :8], both)
    assert torch.equal(joined[1, 8:9], mask[0]) and torch.equal(joined[1, 9:], 2 * clean[0])
    assert start.put_back(scheduler, noise, 0) is noise
    plain = latents.start_from_noise(scheduler, noise)
    assert plain.joined(both) is both and torch.equal(start.latents, plain.latents)


@torch.no_grad()
def test_a_picture_that_several_share_is_encoded_once_for_all():
    vae: Any = tiny.make_vae()
    calls = []
    vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def sample(pictures):
        calls.clear()
        generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
        return latents.picture_to_latents(vae, pictures, generators, device=CPU)

    shared, encoded = sample(picture), len(calls)
    assert encoded == 2
    assert torch.equal(shared, sample(picture.repeat_interleave(2, dim=0))) and len(calls) == 4


@torch.no_grad()
@pytest.mark.parametrize("blend", ["exact", "none"])
def test_the_masked_picture_is_drawn_for_whether_it_is_read_or_not(blend):
    vae, given = tiny.make_vae(), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 1, 32, 32)

    def next_draw(**settings):
        generator = torch.Generator().manual_seed(5)
        latents.prepare_start(
            vae,
            flow_schedule(4),
            **{"steps": 4, "strength": 1.0, "shape": (1, 8, 4, 4), "generators": generator, "noise": None},
            **{"picture": given, "mask": mask, "dtype": torch.float32, "device": CPU, "blend": blend},
            **settings,
        )
        return torch.randn(1, generator=generator).item()

    def after(draws):
        generator = torch.Generator().manual_seed(5)
        for _ in range(draws):
            torch.randn(1, 8, 4, 4, generator=generator)
        return torch.randn(1, generator=generator).item()

    assert next_draw() == after(3)
    assert next_draw(masked_image_latents=torch.zeros(1, 8, 4, 4)) == after(2)
    assert next_draw(made_for_inpainting=True) == after(2)
    assert next_draw(made_for_inpainting=True, masked_image_latents=torch.zeros(1, 8, 4, 4)) == after(1)


@torch.no_grad()
def test_a_large_batch_is_decoded_in_parts_to_the_same_pictures():
    vae: Any = tiny.make_vae()
    sizes = []
    vae.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    z = torch.randn(5, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    drawn = latents.latents_to_picture(vae, z)
    assert sizes == [(4, 8, 32, 32), (1, 8, 32, 32)]  # 4 x 32 x 32 cells are as many as 64 x 64
    at_once = (vae.decode(z / vae.config.scaling_factor).sample * 0.5 + 0.5).clamp(0, 1)
    assert (drawn - at_once).abs().max() < 1e-5


@torch.no_grad()
def test_a_picture_is_sampled_with_its_own_generator():
    vae = tiny.make_vae()
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def sample(pictures, *seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return latents.picture_to_latents(vae, pictures, generators, device=CPU)

    both = sample(picture, 5, 6)
    torch.testing.assert_close(both[1:], sample(picture[1:], 6))
    assert not torch.allclose(both[1:], sample(picture[1:], 7))


def test_latents_that_are_not_finite_are_an_error_that_names_the_stage():
    broken = torch.full((1, 8, 2, 2), float("nan"))
    with pytest.raises(ValueError, match="denoising ended in latents that are not finite"):
        latents.latents_to_picture(tiny.make_vae(), broken)


@torch.no_grad()
def test_a_half_precision_vae_that_overflows_is_tried_again_in_float32():
    vae: Any = tiny.make_vae()
    vae.decoder.conv_out.weight.mul_(1e-3)
    vae.decoder.conv_norm_out.weight.mul_(1e3)
    vae.decoder.conv_in.weight.mul_(3e4)  # beyond 65504 in float16, harmless in float32
    z = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = latents.latents_to_picture(vae, z)
    half: Any = tiny.make_vae()
    half.load_state_dict(vae.state_dict())
    half.half()
    raw = half.decode((z / 0.18215).half()).sample
    assert not torch.isfinite(raw).all()
    assert (latents.latents_to_picture(half, z) - expected).abs().max() < 0.05
    assert half.dtype == torch.float16

    small = 1e-3 * z
    assert torch.isfinite(half.decode((small / 0.18215).half()).sample).all()
    beside = latents.latents_to_picture(half, torch.cat([z, small]), exact=True)
    assert torch.equal(beside[1:], latents.latents_to_picture(half, small, exact=True)), (
        "only z is tried again"
    )


@torch.no_grad()
def test_a_vae_that_decodes_to_nan_is_an_error_and_not_a_black_picture():
    vae: Any = tiny.make_vae()
    vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="the VAE decoded finite latents to a picture that is not"):
        latents.latents_to_picture(vae, torch.zeros(1, 8, 2, 2))


def test_the_schedule_copy_is_what_moves():
    original = tiny.make_scheduler()
    run = schedulers.scheduler_for_run(original)
    run.set_timesteps(3)
    latents.start_from_picture(run, *pair(), steps=3, strength=1.0)
    assert original.begin_index is None and run.begin_index == 0
