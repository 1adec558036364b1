"""Boxes about pixels."""

import pytest
import torch

from car_ext.methods.augment.boxes import clipped_box


@pytest.mark.parametrize(("height", "width", "box_height", "box_width"), [(5, 8, 4, 2), (6, 3, 3, 9), (4, 4, 0, 1)])
def test_boxes_are_drawn_from_every_centre(height, width, box_height, box_width):
    def reach(centre, box, side):
        inside = [pixel for pixel in range(side) if centre - box // 2 <= pixel < centre + box // 2]
        return tuple(inside)

    expected = [(reach(y, box_height, height), reach(x, box_width, width)) for y in range(height) for x in range(width)]
    generator, draws = torch.Generator().manual_seed(0), 100 * len(expected)
    drawn = []
    for _ in range(draws):
        rows, columns = clipped_box(height, width, box_height, box_width, generator)
        drawn.append((tuple(range(rows.start, rows.stop)), tuple(range(columns.start, columns.stop))))
    assert set(drawn) == set(expected)
    for box in set(expected):
        p = expected.count(box) / len(expected)
        assert abs(drawn.count(box) - draws * p) <= 5 * (draws * p * (1 - p)) ** 0.5
