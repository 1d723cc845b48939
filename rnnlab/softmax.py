"""Cross entropy of many classes, without ever holding the logits of all rows."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnlab.products import onednn_products

# the logits of a chunk, in bytes: on a CPU they should stay in its cache
_CHUNK = {"cpu": 1 << 25}
_CHUNK_ELSEWHERE = 1 << 28


def cross_entropy_sum(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """Sum over all targets of the cross entropy in nats, with logits `features @ weight.T + bias`.

    The rows are taken in chunks: logits, their softmax in the same memory, loss, and, where gradients are
    wanted, the gradients of features, weight and bias before the next chunk. So beside the gradients
    themselves the memory is that of one chunk (32 MiB on a CPU), and no logit is computed twice. N rows, V
    classes and H features take 6 N V H floating-point operations (2 N V H without gradients), and weight and
    its gradient pass the memory once a chunk.

    Under autocast the three products are in its type; softmax, losses and the sum over chunks of the gradient
    of `weight` are in float32. Losses of rows are summed pairwise, which loses no more than a few roundings.

    Args:
        features: `(*batch, hidden)`.
        weight: `(classes, hidden)`.
        bias: `(classes,)`, or None.
        targets: `(*batch)`, int64; classes 0..classes-1 or `ignore_index`.
        ignore_index: Targets that count for nothing.

    Returns:
        A scalar; float32 if `features` are of a smaller type.

    Raises:
        ValueError: Sizes don't fit, or a target is no class; the latter is checked on a CPU only, as it
            would make other devices wait.
        RuntimeError: The gradient is to be differentiated once more.

    Example:
        >>> features, weight = torch.zeros(5, 3), torch.zeros(8, 3)
        >>> round(cross_entropy_sum(features, weight, None, torch.tensor([0, 1, 2, 3, -100])).item(), 4)
        8.3178
    """
    classes, hidden = weight.shape
    if features.shape[-1] != hidden:
        raise ValueError(
            f"features of length {features.shape[-1]} are not possible: weight has {hidden} columns."
        )
    if targets.shape != features.shape[:-1]:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} are not possible: "
            f"give one for each of the features, {tuple(features.shape[:-1])}."
        )
    rows, wanted = targets.flatten(), targets.flatten() != ignore_index
    if rows.device.type == "cpu":
        strange = rows[wanted & ((rows < 0) | (rows >= classes))]
        if len(strange):
            raise ValueError(
                f"target {strange[0].item()} is not possible: give 0 to {classes - 1}, or {ignore_index}."
            )
    flat, rows = features.reshape(-1, hidden), rows.where(wanted, 0)
    device, dtype = features.device.type, features.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (flat, weight, bias)):
        return _CrossEntropySum.apply(flat, weight, bias, rows, wanted, dtype)
    return _sweep(flat, weight, bias, rows, wanted, dtype, (False, False, False))[0]


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, weight, bias, targets, wanted, dtype):
        ctx.save_for_backward(features, weight, bias, targets, wanted)
        ctx.dtype = dtype
        needed = ctx.needs_input_grad[:3]
        total, *ctx.gradients = _sweep(features, weight, bias, targets, wanted, dtype, needed)
        return total

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise RuntimeError("cross_entropy_sum can be differentiated once: leave out create_graph=True.")
        (features, weight, bias, targets, wanted), gradients = ctx.saved_tensors, ctx.gradients
        # given away, and written in place; a second time over a graph that was kept they are computed anew
        ctx.gradients = None
        if gradients is None:
            needed = ctx.needs_input_grad[:3]
            _, *gradients = _sweep(features, weight, bias, targets, wanted, ctx.dtype, needed)
        return *(g if g is None else g.mul_(grad) for g in gradients), None, None, None


def _sweep(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    wanted: Tensor,
    dtype: torch.dtype,
    needed: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The sum, and its gradients by features, weight and bias where they are needed; products in `dtype`."""
    device = features.device.type
    exact = torch.promote_types(dtype, torch.float32)
    with torch.no_grad(), torch.autocast(device, enabled=False), onednn_products():
        (rows, _), classes = features.shape, len(weight)
        x, w = features.to(dtype), weight.to(dtype)
        b = None if bias is None else bias.to(dtype)
        counted = wanted.to(exact)
        losses = counted.clone()
        grad_x = torch.empty_like(x) if needed[0] else None
        grad_w = torch.zeros_like(w, dtype=exact) if needed[1] else None
        grad_b = w.new_zeros(classes, dtype=exact) if needed[2] else None

        # chunks as equal as can be
        most = max(1, _CHUNK.get(device, _CHUNK_ELSEWHERE) // (classes * exact.itemsize))
        size = max(1, -(-rows // max(1, -(-rows // most))))
        products = w.new_empty(min(size, rows), classes)
        probabilities = products if dtype == exact else torch.empty_like(products, dtype=exact)
        for start in range(0, rows, size):
            part = slice(start, start + size)
            chunk, target, count = x[part], targets[part, None], counted[part]
            logits, p = products[: len(chunk)], probabilities[: len(chunk)]
            if b is None:
                torch.mm(chunk, w.mT, out=logits)
            else:
                torch.addmm(b, chunk, w.mT, out=logits)
            # log sum exp is the largest logit less the log of the largest probability
            below = logits.amax(1, keepdim=True).to(exact) - logits.gather(1, target)
            torch.softmax(logits, 1, dtype=exact, out=p)
            losses[part] = torch.where(wanted[part], below.squeeze(1) - p.amax(1).log_(), 0.0)
            if not any(needed):
                continue

            p.scatter_add_(1, target, p.new_full((), -1.0).expand_as(target))
            if grad_b is not None:
                grad_b.addmv_(p.mT, count)
            if dtype != exact:
                p = logits.copy_(p)
            if grad_x is not None:
                torch.mm(p, w, out=grad_x[part]).mul_(count[:, None])
            if grad_w is not None:
                counting = chunk * count[:, None].to(dtype)
                if dtype == exact:
                    grad_w.addmm_(p.mT, counting)
                else:
                    grad_w += p.mT @ counting
        return (
            losses.sum(),
            None if grad_x is None else grad_x.to(features.dtype),
            None if grad_w is None else grad_w.to(weight.dtype),
            None if grad_b is None or bias is None else grad_b.to(bias.dtype),
        )
