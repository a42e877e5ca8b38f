"""A net as it is used: the layers of the test phase in order, each blob written once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.formats.caffe import messages_pb2 as messages
from engines.formats.caffe.failures import refused, unsupported
from engines.formats.caffe.inputs import Extents, brought_by, stated_inputs
from engines.formats.caffe.kinds import ALIASES, BOTTOMS, COMPUTED, DATA, INPUT, KNOWN, TRAINING
from engines.formats.caffe.prototxt import Prototxt, WrittenLayer, read_prototxt
from engines.graph.naming import free_name

_SHOWN = 10


@dataclass(frozen=True)
class Step:
    """A layer that computes something.

    Attributes:
        layer: Its parameters.
        where: The layer in sentences: `layer 'conv1' (line 12)`.
        bottoms: Values that it reads.
        tops: Values that it writes. A layer that works in place writes a new one.
    """

    layer: messages.LayerParameter
    where: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def kind(self) -> str:
        """The layer's type."""
        return self.layer.type


@dataclass(frozen=True)
class Net:
    """A net as it is used.

    Attributes:
        file: Name of the prototxt.
        inputs: Extents of each input by name, as the text states them; None for an open one, None instead of all if it
            states none.
        steps: The layers, in order.
        outputs: The value behind each output, by the blob's name.
    """

    file: str
    inputs: dict[str, Extents | None]
    steps: tuple[Step, ...]
    outputs: dict[str, str]


def load_net(path: Path) -> Net:
    """Return the net of a prototxt.

    Raises:
        EngineFailure: as `read_prototxt`; UNSUPPORTED_OPERATOR naming layers of unknown types with their lines;
            INVALID_MODEL for layers that read what nobody writes, or a net without inputs or outputs.
    """
    text = read_prototxt(path)
    layers = [layer for layer in text.layers if _in_use(layer.message, text.head.state)]
    _refuse_unknown(layers, text.name)
    return _connected(text, layers)


def with_outputs(net: Net, names: Sequence[str]) -> Net:
    """Return the net with the named blobs as its outputs, without layers that they do not need.

    Raises:
        EngineFailure: INVALID_SPEC for a blob that the net does not have.
    """
    values = {value for step in net.steps for value in step.tops} | set(net.inputs)
    unknown = next((name for name in names if name not in values), None)
    if unknown is not None:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The net of '{net.file}' has no blob '{unknown}', which `output_names` names.",
            suggested_fix=f"Its outputs are {', '.join(net.outputs)}.",
        )
    needed, steps = set(names), []
    for step in reversed(net.steps):
        if not needed.isdisjoint(step.tops):
            needed.update(step.bottoms)
            steps.append(step)
    inputs = {name: shape for name, shape in net.inputs.items() if name in needed}
    return replace(net, inputs=inputs, steps=tuple(reversed(steps)), outputs={name: name for name in names})


def _in_use(layer: messages.LayerParameter, state: messages.NetState) -> bool:
    """Return whether a layer is part of the net in the test phase, as Caffe's `Net::FilterNet` decides."""
    if layer.include:
        return any(_met(rule, state) for rule in layer.include)
    return not any(_met(rule, state) for rule in layer.exclude)


def _met(rule: messages.NetStateRule, state: messages.NetState) -> bool:
    if rule.HasField("phase") and rule.phase != messages.TEST:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return set(rule.stage) <= set(state.stage) and set(rule.not_stage).isdisjoint(state.stage)


def _refuse_unknown(layers: Sequence[WrittenLayer], file: str) -> None:
    unknown = [layer for layer in layers if layer.message.type not in KNOWN]
    if not unknown:
        return
    first = unknown[0]
    kind = first.message.type
    each = [
        f"{layer.message.name} ({layer.message.type or 'no type'}, line {layer.line})" for layer in unknown[:_SHOWN]
    ]
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    raise unsupported(
        f"The layer '{first.message.name}' on line {first.line} of '{file}' is of the type '{kind}', which Lathe does "
        "not read.",
        "Write this part of the net with layers of Caffe's master branch or of SSD, or end the net before it and do "
        "the rest outside."
        + (" A Python layer is code of its owner, which is not in the files." if kind == "Python" else ""),
        layer=first.message.name,
        kind=kind,
        evidence=f"Layers that are not read: {', '.join(each)}{more}.",
    )


class _Wiring:
    """Follows blobs from layer to layer: which value each holds now, and which blobs nobody has read."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._current: dict[str, str] = {}
        self._writes: Counter[str] = Counter()
        self.unread: dict[str, None] = {}

    def claim(self, layer: messages.LayerParameter, where: str) -> None:
        """Refuse a layer that writes a blob which another one has written, unless it works in place."""
        for blob in layer.top:
            if blob in self._current and blob not in layer.bottom:
                raise refused(
                    f"The {where} of '{self._file}' writes the blob '{blob}', which is written before it already.",
                    layer=layer.name,
                    kind=layer.type,
                )

    def source(self, blob: str) -> None:
        """Note a blob that comes from outside."""
        self._current[blob] = blob
        self._writes[blob] += 1

    def read(self, layer: messages.LayerParameter, where: str) -> tuple[str, ...]:
        """Return the values that a layer reads."""
        for blob in layer.bottom:
            if blob not in self._current:
                raise refused(
                    f"The {where} of '{self._file}' reads the blob '{blob}', which no layer before it writes.",
                    layer=layer.name,
                    kind=layer.type,
                )
            self.unread.pop(blob, None)
        return tuple(self._current[blob] for blob in layer.bottom)

    def write(self, blob: str) -> str:
        """Return the value that a blob holds from now on."""
        self._writes[blob] += 1
        count = self._writes[blob]
        value = blob if count == 1 else f"{blob}\0{count}"  # until `names` finds it a better one
        self._current[blob] = value
        self.unread[blob] = None
        return value

    def alias(self, blob: str, value: str) -> None:
        """Let a blob hold a value that is there already."""
        self._current[blob] = value
        self.unread[blob] = None

    def names(self, inputs: Sequence[str]) -> dict[str, str]:
        """Return the name of each value: the last of a blob has the blob's, unless that is an input's."""
        taken, found = set(self._writes), {}
        for blob, count in self._writes.items():
            values = [blob, *(f"{blob}\0{number}" for number in range(2, count + 1))]
            owner = values[0] if blob in inputs else values[-1]
            found.update({value: blob if value == owner else free_name(blob, taken) for value in values})
        return found

    def value(self, blob: str) -> str:
        """Return the value that a blob holds at the end."""
        return self._current[blob]


def _connected(text: Prototxt, layers: Sequence[WrittenLayer]) -> Net:
    wiring, steps = _Wiring(text.name), list[Step]()
    shapes: dict[str, Extents | None] = dict(stated_inputs(text.head))
    for name in shapes:
        wiring.source(name)
    for written in layers:
        layer, where = written.message, f"layer '{written.message.name}' (line {written.line})"
        if layer.type not in TRAINING:
            wiring.claim(layer, where)
        if layer.type == INPUT or layer.type in DATA:
            for name, shape in brought_by(layer):
                shapes[name] = shape
                wiring.source(name)
        elif layer.type in ALIASES:
            (value, *_) = wiring.read(layer, where) or (None,)
            if value is None:
                raise refused(f"The {where} of '{text.name}' reads nothing.", layer=layer.name, kind=layer.type)
            for blob in layer.top:
                wiring.alias(blob, value)
        elif layer.type in COMPUTED:
            _check_ends(layer, where, text.name)
            steps.append(Step(layer, where, wiring.read(layer, where), tuple(wiring.write(top) for top in layer.top)))
    return _named(text, wiring, shapes, steps)


def _named(
    text: Prototxt,
    wiring: _Wiring,
    shapes: dict[str, Extents | None],
    steps: Sequence[Step],
) -> Net:
    read = {value for step in steps for value in step.bottoms}
    inputs = {name: shape for name, shape in shapes.items() if name in read}
    names = wiring.names(list(inputs))
    made = {value for step in steps for value in step.tops}
    left = {blob: names[wiring.value(blob)] for blob in wiring.unread if wiring.value(blob) in made}
    taken = {*inputs, *names.values()}  # a blob may hold another value in the end than the one of its name
    outputs = {value if blob != value and blob in taken else blob: value for blob, value in left.items()}
    if not inputs or not outputs:
        what = "no layer that reads an input" if not inputs else "no layer whose output is left over"
        raise refused(f"The net of '{text.name}' has {what}, so that there is nothing to compute.")
    renamed = tuple(
        replace(
            step, bottoms=tuple(map(names.__getitem__, step.bottoms)), tops=tuple(map(names.__getitem__, step.tops))
        )
        for step in steps
    )
    return Net(text.name, inputs, renamed, outputs)


def _check_ends(layer: messages.LayerParameter, where: str, file: str) -> None:
    least, most = BOTTOMS.get(layer.type, (1, 1))
    if not least <= len(layer.bottom) <= most or not layer.top:
        wanted = f"{least}" if least == most else f"{least} or more" if most > 2 else f"{least} or {most}"
        raise refused(
            f"The {where} of '{file}', of the type {layer.type}, reads {len(layer.bottom)} blobs and writes "
            f"{len(layer.top)}; it takes {wanted} and writes 1 at least.",
            layer=layer.name,
            kind=layer.type,
        )
