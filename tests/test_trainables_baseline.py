import pytest
import torch

from spaces.errors import UserError
from trainables.models.baseline import BaselineCNN, ConvBlock
from trainables.models.input_sizes import output_size, smallest_input


def closed_form_params(*, size: int, width: float, classes: int, batch_norm: bool) -> int:
    """Weights and biases of the four convolutions, their norms, and the linear layer."""
    narrow, wide = max(1, round(64 * width)), max(1, round(128 * width))
    convolutions = (
        (3 * 25 * narrow + narrow) + (narrow * 9 * wide + wide) + 2 * (wide * 9 * wide + wide)
    )
    norms = 2 * (narrow + 3 * wide) if batch_norm else 0
    return convolutions + norms + (wide * output_size(size) ** 2 + 1) * classes


def num_params(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_are_those_of_the_seed_report():
    assert num_params(BaselineCNN(151, 112)) == 857_239
    assert num_params(BaselineCNN(151, 112, batch_norm=True)) == 858_135


@pytest.mark.parametrize("size", [48, 96, 112, 225])
@pytest.mark.parametrize("width", [0.001, 0.25, 1.0, 1.5])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_follow_the_closed_form(size: int, width: float, batch_norm: bool):
    model = BaselineCNN(7, size, width, batch_norm)
    assert num_params(model) == closed_form_params(
        size=size, width=width, classes=7, batch_norm=batch_norm
    )


def test_outputs_are_log_probabilities():
    outputs_NC = BaselineCNN(5, 48, 0.1)(torch.rand(3, 3, 48, 48))
    assert outputs_NC.shape == (3, 5)
    torch.testing.assert_close(outputs_NC.exp().sum(1), torch.ones(3))


def test_residual_connections_change_outputs_and_no_parameters():
    torch.manual_seed(0)
    plain = BaselineCNN(5, 64, 0.1)
    residual = BaselineCNN(5, 64, 0.1, residual=True)
    residual.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert [block.crop for block in residual.blocks] == [None, None, 1, 1]
    assert not torch.allclose(plain(images), residual(images))


def test_a_residual_block_adds_the_cropped_input_before_the_relu():
    block = BaselineCNN(5, 64, residual=True).blocks[2]
    assert isinstance(block, ConvBlock)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 128, 10, 10)
    expected = torch.nn.functional.max_pool2d(x[:, :, 1:9, 1:9].relu(), 2)
    torch.testing.assert_close(block(x), expected)


def test_the_smallest_input_works_and_one_pixel_less_is_told():
    assert smallest_input() == 48
    assert BaselineCNN(2, 48, 0.1)(torch.rand(1, 3, 48, 48)).shape == (1, 2)
    with pytest.raises(UserError, match="at least 48"):
        BaselineCNN(2, 47)
