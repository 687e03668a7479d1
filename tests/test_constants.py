"""Constants that are brought to a device once."""

from __future__ import annotations

import torch
from adcgs.constants import constant


def test_one_tensor_for_each_type_that_also_trains_if_made_where_nothing_does() -> None:
    with torch.inference_mode():
        made = constant((1.5, -2.0), torch.zeros(1, dtype=torch.float64))
    assert made.dtype == torch.float64
    assert made.tolist() == [1.5, -2.0]
    assert constant((1.5, -2.0), torch.ones(3, dtype=torch.float64)) is made
    assert constant((1.5, -2.0), torch.ones(3)).dtype == torch.float32
    value = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (value * made).sum().backward()  # an inference tensor cannot be saved for this
    assert value.grad is not None
    assert torch.equal(value.grad, made)
