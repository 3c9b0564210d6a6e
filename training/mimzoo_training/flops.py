"""Floating-point operations of a training step."""


def step_flops(task: object, batch_size: int) -> float:
    """Forward and backward pass of a mimzoo task or classifier over a batch.

    A teacher's forward pass is not counted, nor what rematerialisation computes again.
    """
    return 3 * task.forward_flops() * batch_size
