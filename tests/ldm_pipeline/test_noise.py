"""A picture's noise depends on its seed alone."""

import torch

from ldm_pipeline.noise import Float32Draws, draw_noise, generators_for

CPU = torch.device("cpu")


def draw(shape, seeds, dtype=torch.float32):
    return draw_noise(shape, generators_for(seeds), dtype=dtype, device=CPU)


def test_a_picture_has_the_same_noise_alone_and_in_a_batch_of_an_odd_size():
    # 65 x 65 x 8 is no multiple of 16: there a batch drawn at once gives the first picture other noise.
    together = draw((3, 8, 65, 65), [7, 8, 9])
    for i in range(3):
        assert torch.equal(together[i : i + 1], draw((1, 8, 65, 65), [7 + i]))


def test_noise_is_what_torch_draws_with_that_seed_in_float32():
    expected = torch.randn((1, 4, 8, 8), generator=torch.Generator("cpu").manual_seed(7))
    assert torch.equal(draw((1, 4, 8, 8), [7]), expected)
    assert torch.equal(draw((1, 4, 8, 8), [7], torch.float16), expected.half())
    assert torch.equal(draw((1, 4, 8, 8), [7], torch.float64), expected.double())


def test_one_generator_for_a_batch_draws_it_at_once():
    single = draw_noise((2, 4, 5, 5), torch.Generator("cpu").manual_seed(3), dtype=torch.float32, device=CPU)
    assert torch.equal(single, torch.randn((2, 4, 5, 5), generator=torch.Generator("cpu").manual_seed(3)))


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    draw((2, 4, 8, 8), [1, 2])
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_of_others_are_float32_while_told_so_and_theirs_afterwards():
    def drawn(dtype=None):
        return torch.randn(1, 4, 9, 7, generator=torch.Generator("cpu").manual_seed(7), dtype=dtype)

    with Float32Draws():
        inside = drawn(torch.bfloat16)
        assert torch.equal(drawn(), drawn(torch.float32))
    assert torch.equal(inside, drawn().to(torch.bfloat16))
    assert not torch.allclose(inside, drawn(torch.bfloat16)), "torch draws other noise in half precision"
