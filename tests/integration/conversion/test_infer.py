"""The package's own `infer.py`, in an interpreter that sees nothing of Lathe's checkout."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.integration.conversion.workbench import CNN, TWO_INPUTS, WHOLE_BATCH, Bench

TAXONOMY = [{"task": "digit", "classes": [f"digit-{n}" for n in range(10)]}]


def run(bench: Bench, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", str(bench.package / "infer.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, env={"PATH": "/usr/bin"})


def refusal(bench: Bench, *arguments: object) -> str:
    result = run(bench, *arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(params=["onnxruntime", "openvino"])
def converted(request: pytest.FixtureRequest, bench: Bench) -> tuple[Bench, Any]:
    network = bench.put_network(CNN)
    bench.convert(bench.request(runtime=request.param, taxonomies=TAXONOMY, output_names=["scores"]))
    return bench, network


def test_it_gives_the_results_of_the_network_and_refuses_wrong_inputs(
    converted: tuple[Bench, Any], tmp_path: Path
) -> None:
    bench, network = converted
    x = np.random.default_rng(0).standard_normal((4, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = run(bench, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npz")
    assert result.returncode == 0, result.stderr
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    scores = np.load(tmp_path / "y.npz")["scores"]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)
    assert f"digit[0]: digit-{expected[0].argmax()} " in result.stdout
    assert "latency: median" in result.stdout
    assert "scores: float32 4 * 10" in result.stdout
    smoke = run(bench, "--batch", 2)
    assert smoke.returncode == 0, smoke.stderr
    assert "smoke run" in smoke.stdout
    np.savez(tmp_path / "wide.npz", x=np.zeros((5, 3, 12, 13), np.float32))
    assert "input 'x' takes the shape 1..4 * 3 * 12 * 12, not 5 * 3 * 12 * 13" in refusal(
        bench, "--input", tmp_path / "wide.npz"
    )
    np.save(tmp_path / "empty.npy", x[:0])
    assert "takes the shape 1..4 * 3 * 12 * 12, not 0 * 3" in refusal(bench, "--input", tmp_path / "empty.npy")
    np.savez(tmp_path / "other.npz", z=x)
    assert "takes the inputs x, not z" in refusal(bench, "--input", tmp_path / "other.npz")
    np.save(tmp_path / "complex.npy", x.astype(np.complex64))
    assert "takes float32, not complex64" in refusal(bench, "--input", tmp_path / "complex.npy")
    assert "No such file" in refusal(bench, "--input", tmp_path / "absent.npy")
    assert "there are net" in refusal(bench, "--component", "other")


@pytest.mark.parametrize("max_batch", [4, 1])
def test_more_samples_than_the_largest_batch_run_in_several_batches(
    max_batch: int, bench: Bench, tmp_path: Path
) -> None:
    network = bench.put_network(CNN)
    bench.convert(bench.request(output_names=["scores"], max_batch=max_batch))
    x = np.random.default_rng(0).standard_normal((11, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = run(bench, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.returncode == 0, result.stderr
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-3, atol=1e-5)
    assert "scores: float32 11 * 10" in result.stdout
    assert f"latency of the first of {-(-11 // max_batch)} batches: median" in result.stdout


def test_an_output_without_a_row_per_sample_is_not_joined_from_batches(bench: Bench, tmp_path: Path) -> None:
    bench.put_network(WHOLE_BATCH)
    bench.convert(bench.request(method="raw"))
    np.save(tmp_path / "x.npy", np.ones((5, 3, 12, 12), np.float32))
    assert "output 'output_0' is not one row per sample, so at most 4 samples" in refusal(
        bench, "--input", tmp_path / "x.npy"
    )


def test_an_output_that_is_the_same_for_every_batch_is_not_mistaken_for_rows(bench: Bench, tmp_path: Path) -> None:
    constant = "x * self.scale, self.scale[:, 0].repeat(4, 1)[:4]"
    bench.put_network(WHOLE_BATCH.replace("(x * self.scale).mean((0, 2, 3))", constant))
    bench.convert(bench.request(method="raw", output_names=["y", "anchors"]))
    np.save(tmp_path / "x.npy", np.ones((8, 3, 12, 12), np.float32))
    assert "output 'anchors' is not one row per sample" in refusal(bench, "--input", tmp_path / "x.npy")


def test_several_inputs_come_by_name(bench: Bench, tmp_path: Path) -> None:
    network = bench.put_network(TWO_INPUTS)
    inputs = [{"name": "ids", "shape": [1, 6], "dtype": "int64", "sample_max": 49}, {"name": "mask", "shape": [1, 6]}]
    bench.convert(bench.request(inputs=inputs, method="raw", output_names=["hidden", "best"], runtime="openvino"))
    ids, mask = np.arange(12).reshape(2, 6), np.full((2, 6), 0.5, np.float32)
    np.savez(tmp_path / "x.npz", ids=ids, mask=mask)
    result = run(bench, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert result.returncode == 0, result.stderr
    found = np.load(tmp_path / "y.npz")
    with torch.inference_mode():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask))
    np.testing.assert_allclose(found["hidden"], expected["hidden"].numpy(), atol=1e-5)
    np.testing.assert_array_equal(found["best"], expected["best"].numpy())
    ids, mask = np.arange(42).reshape(7, 6) % 50, np.full((7, 6), 0.5, np.float32)
    np.savez(tmp_path / "x.npz", ids=ids, mask=mask)
    assert run(bench, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz").returncode == 0
    with torch.inference_mode():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask))
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["hidden"], expected["hidden"].numpy(), atol=1e-5)
    np.savez(tmp_path / "x.npz", ids=ids, mask=mask[:1])
    assert "all inputs must have the same batch" in refusal(bench, "--input", tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", ids=ids.astype(np.float32), mask=mask)
    assert "'ids' takes int64, not float32" in refusal(bench, "--input", tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", ids=np.full((7, 6), 2**63, np.uint64), mask=mask)
    assert "'ids' takes int64, which cannot hold" in refusal(bench, "--input", tmp_path / "x.npz")
    assert "an .npy holds one output" in refusal(bench, "--output", tmp_path / "y.npy")
    np.save(tmp_path / "x.npy", mask)
    assert "takes 2 inputs, so name them" in refusal(bench, "--input", tmp_path / "x.npy")


def test_packages_of_torch_networks_run_without_lathe(bench: Bench, tmp_path: Path) -> None:
    network = bench.put_network(CNN)
    bench.convert(bench.request(runtime="torchscript", output_names=["scores"]))
    x = np.random.default_rng(0).standard_normal((5, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = run(bench, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npz")
    assert result.returncode == 0, result.stderr
    assert "note:" not in result.stderr
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["scores"], expected, rtol=1e-3, atol=1e-5)
