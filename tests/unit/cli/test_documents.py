"""Documents and `path=value` pairs as overrides of a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.documents import overrides
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError


def test_every_value_of_a_document_is_in_the_mask() -> None:
    made = overrides(["error_threshold=0.00005", "components.net.max_batch=8", "execution.fuse_operators=true"], None)
    assert made.values.error_threshold == 5e-5
    with_options = overrides(["runtime_options={streams: '2'}"], None, {"threads": "1"})
    assert dict(with_options.values.runtime_options) == {"streams": "2", "threads": "1"}
    assert list(with_options.paths) == ["runtime_options"]
    assert [(each.name, each.max_batch) for each in made.values.components] == [("net", 8)]
    assert made.values.execution.fuse_operators
    assert list(made.paths) == ["error_threshold", "components.net.max_batch", "execution.fuse_operators"]


@pytest.mark.parametrize(
    "pair",
    ["execution.fuse_operators=false", "components.net.state_dict_key=''", "components.net.num_classes=0", "repo=''"],
)
def test_a_zero_overrides_a_value(pair: str) -> None:
    made = overrides(["runtime=openvino", pair], None)
    assert list(made.paths) == ["runtime", pair.partition("=")[0]]


def test_pairs_take_precedence_over_the_document(tmp_path: Path) -> None:
    document = tmp_path / "overrides.yaml"
    document.write_text("runtime: openvino\ncomponents: [{name: net, max_batch: 4, state_dict_key: ema}]\n")
    made = overrides(["components.net.max_batch=8", "components.net.state_dict_key=''"], document)
    (net,) = made.values.components
    assert (net.max_batch, net.state_dict_key) == (8, "")
    assert list(made.paths) == ["runtime", "components.net.max_batch", "components.net.state_dict_key"]


def test_a_zero_in_a_document_counts(tmp_path: Path) -> None:
    document = tmp_path / "overrides.yaml"
    document.write_text("execution: {fuse_operators: false}\nrepo: ''\n")
    assert list(overrides([], document).paths) == ["execution.fuse_operators", "repo"]


@pytest.mark.parametrize("pair", ["max_batch", "components.net.max_batch=many", "speed=11", "execution.magic=true"])
def test_invalid_pairs_are_rejected(pair: str) -> None:
    with pytest.raises(CliError) as caught:
        overrides([pair], None)
    assert caught.value.code is ExitCode.USAGE


def test_a_word_that_a_field_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(CliError, match=r"precision cannot be 'FP8'; it is one of FP32, FP16, BF16, INT8, INT4"):
        overrides(["precision=FP8"], None)
    with pytest.raises(
        CliError, match=r"inputs\[0\]\.preprocessing\.input_color cannot be 'NV21'; it is one of .*NV12"
    ):
        overrides(["components.net.inputs=[{name: x, preprocessing: {input_color: NV21}}]"], None)
