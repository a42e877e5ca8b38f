"""What the demo is made of, without a suite: scenes, archives, rankings."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from services.cli.demo import scenes, sentences
from services.cli.demo.digit_images import write_annotated, write_image_folder


@pytest.fixture(scope="module")
def composed() -> list[scenes.Scene]:
    digits = load_digits()
    return scenes.compose(digits.images, digits.target, 40, seed=3)


def test_boxes_of_scenes_are_inside_and_contain_the_ink(composed: list[scenes.Scene]) -> None:
    for scene in composed:
        assert len(scene.boxes) == len(scene.digits) >= 1
        assert scene.light in scenes.LIGHTS
        for left, top, width, height in scene.boxes.astype(int).tolist():
            assert min(left, top) >= 0
            assert max(left + width, top + height) <= scenes.SIZE
            inside = scene.pixels[top : top + height, left : left + width]
            assert inside.mean() > scene.pixels.mean()


def test_boxes_of_a_scene_do_not_overlap(composed: list[scenes.Scene]) -> None:
    for scene in composed:
        covered = np.zeros(scene.pixels.shape, int)
        for left, top, width, height in scene.boxes.astype(int).tolist():
            covered[top : top + height, left : left + width] += 1
        assert covered.max() == 1


def test_the_same_seed_gives_the_same_archive(composed: list[scenes.Scene], tmp_path: Path) -> None:
    digits = load_digits()
    again = scenes.compose(digits.images, digits.target, 40, seed=3)
    for name, made in (("a.zip", composed), ("b.zip", again)):
        scenes.write_scenes(made, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_archives_of_digits_contain_every_image_with_its_digit(tmp_path: Path) -> None:
    images, labels = np.zeros((3, 1, 8, 8), np.float32), np.array([7, 7, 0])
    images[2] = 255
    write_image_folder(images, labels, tmp_path / "folder.zip")
    write_annotated(images, labels, tmp_path / "annotated.zip")
    with zipfile.ZipFile(tmp_path / "folder.zip") as archive:
        assert archive.namelist() == ["7/00000.png", "7/00001.png", "0/00002.png"]
    with zipfile.ZipFile(tmp_path / "annotated.zip") as archive:
        lines = [json.loads(line) for line in archive.read("annotations.jsonl").splitlines()]
    assert [line["classifications"]["digit"] for line in lines] == ["7", "7", "0"]
    assert [line["attributes"]["strokes"] for line in lines] == ["thin", "thin", "bold"]


def test_a_ranking_is_right_if_the_partner_comes_first() -> None:
    right = np.array([[-1, 0.9, 0.1, 0.2], [0.9, -1, 0.3, 0.1], [0.1, 0.3, -1, 0.8], [0.2, 0.1, 0.8, -1]])
    assert sentences.first_ranks(right) == 1
    wrong = right.copy()
    wrong[0, 2] = 1
    assert sentences.first_ranks(wrong) == 0.75
