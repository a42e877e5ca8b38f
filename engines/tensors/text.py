"""Reads tensor information, the text in which users describe the inputs of a model.

One element per line, or several with spaces between them: `place:dtype(shape)`, then options.

    input_0:float(1*3*224*224)                 first input of a list or tuple, one shape
    input_ids:int32(1*4,8*384)                 key of a dict; a range from the first shape to the second
    image:float([3*512*512,3*1024*1024])       a set of shapes
    input_0[image]:float(3*1024*1024)          the tensor's name in the model
    input_1[key](1)[0]:int64(1*16)             key of a dict, then item 1 of a tuple, then item 0 of a list
    state:float(2*1*128) batch=1               axis 1 counts the samples of a batch; `batch=none`: no axis does
    sr:int64() value=16000                     a scalar, and its value in generated samples; `[1,2]` for each element

`[word]` alone after the first level is the tensor's name, unless several elements share that level: these are keys of a
dict. In quotes, `input_0['image']`, it is always a key. Spaces and empty lines do not matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from engines.tensors.element import DTYPES, ESCAPES, PLAIN_ARGUMENT, PLAIN_KEY, Shapes, Step, TensorElement
from engines.tensors.scanner import Scanner, fail
from engines.tensors.shapes import MAX_ELEMENTS, Shape
from engines.tensors.signature import NO_BATCH
from engines.tensors.tree import check_structure

MAX_TENSORS = 64
"""Most elements of one text, as many as a component has inputs."""
MAX_STEPS = 16
"""Deepest nesting below level 1."""
MAX_AXES = 16
MAX_EXTENT = 2**20
MAX_SHAPES = 128
"""Most shapes of a set."""
MAX_VALUES = 4096
"""Most values of an input."""

_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][-+]?[0-9]{1,4})?")
_OPTION = re.compile(r"(batch|value)[ \t\r]*=")
_WORD = re.compile(r"[\w.]+")
_QUOTED = re.compile(r"'((?:[^'\\\x00-\x1f\x7f-\x9f]|\\['\\])*)'")
_ESCAPED = re.compile(r"\\['\\]")


def parse(text: str) -> list[TensorElement]:
    """Return the elements of a text, in its order.

    Raises:
        EngineFailure: INVALID_SPEC with line and column, both from 1, what was expected there and what was found.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r")]
    if not lines:
        fail(1, 1, "Expected an element such as input_0:float(1*3*224*224), found nothing.")
    read = [(number, *found) for number, line in lines for found in _Line(line, number).elements()]
    if len(read) > MAX_TENSORS:
        number, column, _ = read[MAX_TENSORS]
        fail(number, column, f"Expected at most {MAX_TENSORS} elements, found {len(read)}.")
    elements = [element for *_, element in read]
    arguments = [element.argument for element in elements]
    elements = [
        replace(element, tensor_name="", steps=(Step("dict", element.tensor_name),))
        if element.tensor_name and arguments.count(element.argument) > 1
        else element
        for element in elements
    ]
    objection = check_structure(elements)
    if objection:
        index, message = objection
        fail(read[index][0], read[index][1], message)
    return elements


class _Line(Scanner):
    """Reads the elements of one line from left to right."""

    def elements(self) -> Iterator[tuple[int, TensorElement]]:
        """Yield each element of the line with the column that it begins at."""
        while self._rest():
            start = self._at + 1
            if start > 1 and self._text[self._at - 1] not in " \t\r":
                self._expected("a space before the next element, or the end of the line")
            yield start, self._element()

    def _element(self) -> TensorElement:
        argument = self._key(PLAIN_ARGUMENT, "the name of an input: input_0, or a key")[0]
        name, steps = self._way()
        self._take(":", "':' and the dtype" if steps or name else "'[', '(' or ':' and the dtype")
        dtype = self._dtype()
        self._take("(", "'(' and the shape")
        shapes = self._shapes()
        self._take(")", "'*' and an extent, ',' and a shape, or ')'" if shapes.kind == "fixed" else "')'")
        element = TensorElement(argument, steps, name, DTYPES[dtype], shapes, self._number)
        return self._with_options(element)

    def _with_options(self, element: TensorElement) -> TensorElement:
        """Return the element with the options after its shape: `batch=1`, `value=16000`."""
        while (found := _OPTION.match(self._rest())) is not None:
            said = element.batch_axis is not None if found[1] == "batch" else bool(element.values)
            if said:
                self._expected(f"'{found[1]}=' once")
            self._at += found.end()
            if found[1] == "batch":
                element = replace(element, batch_axis=self._batch_axis(element))
            else:
                element = replace(element, values=self._values())
        if len(element.values) not in {0, 1, math.prod(element.one_sample)}:
            self._expected(f"1 value before, or {math.prod(element.one_sample)}, one for each element")
        return element

    def _batch_axis(self, element: TensorElement) -> int:
        if self._rest().startswith("none"):
            self._at += len("none")
            return NO_BATCH
        rank = len(element.shapes.min)
        if not rank:
            self._expected("'none', as a scalar has no axes")
        return self._index("the number of an axis, or 'none'", 0, rank - 1)

    def _values(self) -> tuple[float, ...]:
        if not self._rest().startswith("["):
            return (self._value(),)
        self._at += 1
        values = [self._value()]
        while self._rest().startswith(","):
            if len(values) == MAX_VALUES:
                self._expected(f"']', for at most {MAX_VALUES} values are given")
            self._at += 1
            values.append(self._value())
        self._take("]", "',' and a value, or ']'")
        return tuple(values)

    def _value(self) -> float:
        self._rest()
        found = _FLOAT.match(self._text, self._at)
        value = float(found[0]) if found else math.inf
        if found is None or not math.isfinite(value):
            self._expected("a number")
        self._at = found.end()
        return value

    def _way(self) -> tuple[str, tuple[Step, ...]]:
        """Return the tensor's name and the steps; a lone word is the name."""
        steps: list[Step] = []
        in_quotes = False
        while self._rest()[:1] in ("[", "("):
            if len(steps) == MAX_STEPS:
                self._expected(f"':' and the dtype, for inputs nest at most {MAX_STEPS} deep")
            if self._rest()[0] == "(":
                self._at += 1
                steps.append(Step("tuple", self._index("the index of a tuple's item")))
                self._take(")", "')' after the index")
                continue
            self._at += 1
            key, in_quotes = self._key(PLAIN_KEY, "an index, a key or the tensor's name")
            is_index = key.isascii() and key.isdigit() and not in_quotes
            steps.append(Step("list", self._integer(key)) if is_index else Step("dict", key))
            self._take("]", "']'")
        if len(steps) == 1 and steps[0].kind == "dict" and not in_quotes:
            return str(steps[0].key), ()
        return "", tuple(steps)

    def _key(self, plain: re.Pattern[str], expected: str) -> tuple[str, bool]:
        if self._rest().startswith("'"):
            found = _QUOTED.match(self._text, self._at)
            if found is None:
                self._expected(
                    "a key in single quotes, closed on its line; write \\' for a quote and \\\\ for a backslash"
                )
            self._at = found.end()
            written = {escape: character for character, escape in ESCAPES.items()}
            return _ESCAPED.sub(lambda match: written[match[0]], found[1]), True
        found = plain.match(self._text, self._at)
        if found is None:
            self._expected(expected)
        self._at = found.end()
        return found[0], False

    def _dtype(self) -> str:
        self._rest()
        found = _WORD.match(self._text, self._at)
        if found is None or found[0] not in DTYPES:
            self._expected(f"a dtype, one of {', '.join(DTYPES)}")
        self._at = found.end()
        return found[0]

    def _shapes(self) -> Shapes:
        if self._rest().startswith("["):
            self._at += 1
            members = [self._shape("an extent")]
            while self._rest().startswith(","):
                if len(members) == MAX_SHAPES:
                    self._expected(f"']', for a set holds at most {MAX_SHAPES} shapes")
                self._at += 1
                members.append(self._shape("an extent", like=members[0], others=members))
            self._take("]", "'*' and an extent, ',' and a shape, or ']'")
            return Shapes("discrete", tuple(members))
        if self._rest().startswith(")"):
            return Shapes("fixed", ((),))
        low = self._shape("an extent, '[' and a set of shapes, or ')'")
        if not self._rest().startswith(","):
            return Shapes("fixed", (low,))
        self._at += 1
        return Shapes("range", (low, self._shape("an extent", like=low, least=low)))

    def _shape(
        self, expected: str, like: Shape | None = None, least: Shape = (), others: Iterable[Shape] = ()
    ) -> Shape:
        self._rest()
        start, extents = self._at, list[int]()
        while not extents or self._rest().startswith("*"):
            self._at += bool(extents)
            self._rest()
            if len(extents) == (len(like) if like else MAX_AXES):
                self._expected(f"no more than {len(extents)} axes" + (", as the first shape has" if like else ""))
            low = least[len(extents)] if least else 1
            extents.append(self._index(expected if not extents else "an extent", low, MAX_EXTENT))
        if like and len(extents) != len(like):
            self._expected(f"'*' and an extent: the first shape has {len(like)} axes")
        shape = tuple(extents)
        if math.prod(shape) > MAX_ELEMENTS:
            self._at = start
            self._expected(f"a shape of at most {MAX_ELEMENTS} elements")
        if shape in others:
            self._at = start
            self._expected("a shape that the set does not hold yet")
        return shape
