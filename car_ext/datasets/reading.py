"""Stored images as arrays, and their batches read ahead of the model."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from car_ext.datasets.mapped import MappedImages
from car_ext.datasets.split import Images, Positions, Split
from car_ext.machine.memory import available_bytes


def read_ahead(split: Split, image_size: int, batch_size: int, threads: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, in order, and its label; `threads` batches are being decoded while one is in use."""
    batches = [np.arange(start, min(start + batch_size, len(split))) for start in range(0, len(split), batch_size)]
    with ThreadPoolExecutor(threads) as pool:

        def read(indices: np.ndarray) -> Future:
            return pool.submit(centres, split.images, indices, image_size)

        coming = deque(map(read, batches[:threads]))
        for number, indices in enumerate(batches):
            images = coming.popleft().result()
            coming.extend(map(read, batches[number + threads : number + threads + 1]))
            yield images, split.targets[indices]


def centres(stored: Images | np.ndarray, indices: Positions, image_size: int | None) -> np.ndarray:
    """The centre of some stored images, uint8 (N, image_size, image_size, C); as they are where None."""
    return np.ascontiguousarray(centre(stack(stored, indices), image_size))


def centre(images: Any, image_size: int | None) -> Any:
    """The centre of images (N, H, W, C), array or tensor, `image_size` square; as they are where None."""
    if image_size is None:
        return images
    edge = (images.shape[1] - image_size) // 2
    inside = slice(edge, edge + image_size)
    return images[:, inside, inside]


def at_hand(stored: Images | np.ndarray) -> bool:
    """Whether images are there without being decoded or waited for, so that nobody need read them ahead."""
    return isinstance(stored, np.ndarray) or (isinstance(stored, MappedImages) and stored.nbytes < available_bytes())


def stack(stored: Images | np.ndarray, indices: Positions) -> np.ndarray:
    """Some stored images as one array, (N, H, W, C)."""
    if isinstance(stored, np.ndarray):
        return stored[indices]
    return stored.rows(indices) if isinstance(stored, MappedImages) else np.stack([stored[int(i)] for i in indices])
