"""Finds out whether there is a gradient to learn from: without one a run would learn to save bits alone, or nothing."""

from torch import Tensor
from torch.autograd.graph import Node

from precomp_sdk.errors import ContractError

__all__ = ["require_gradient"]


def require_gradient(value: Tensor, source: Tensor | None, where: str, expected: str) -> None:
    """Refuse a value that has no gradient, or none that leads to its source.

    Looks at the recorded graph and computes nothing.

    Args:
        value: such as the task's losses.
        source: what must be reached, such as the images they are of; None where any gradient does.
        where: whose value it is, for the message.
        expected: what it should have been.

    Raises:
        ContractError: there is none.
    """
    if value.grad_fn is not None and (source is None or _leads(value.grad_fn, source.grad_fn)):
        return
    raise ContractError(
        where=where,
        expected=expected,
        got="one without",
        remedy="Keep it differentiable: no torch.no_grad(), .detach(), argmax or NumPy on its way. What has no "
        "gradient, such as an ONNX Runtime network, can judge but cannot train.",
    )


def _leads(start: Node, goal: Node | None) -> bool:
    """Return whether a node of the recorded graph is reached from another."""
    waiting, known = [start], {start}
    while waiting:
        node = waiting.pop()
        if node is goal:
            return True
        following = {before for before, _ in node.next_functions if before is not None} - known
        known |= following
        waiting.extend(following)
    return False
