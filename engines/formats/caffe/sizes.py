"""Whether a net takes images of another size than its text states: layers whose weights count every place do not."""

from __future__ import annotations

from engines.formats.caffe.net import Net, Step

_COUNTING = frozenset({"InnerProduct", "Embed"})


def bound_to_size(net: Net) -> Step | None:
    """Return the first layer that takes images of one size alone; None if the net takes others, too.

    Behind global pooling, there is one place whatever the size is.
    """
    sized = set(net.inputs)
    for step in net.steps:
        if sized.isdisjoint(step.bottoms):
            continue
        if step.kind in _COUNTING:
            return step
        if not (step.kind == "Pooling" and step.layer.pooling_param.global_pooling):
            sized.update(step.tops)
    return None
