"""Random numbers that are a function of what they are for: the same in any batch, order, process and worker."""

import numpy as np
import torch
from torch import Tensor

from car_ext.seeds import derive

Keys = np.ndarray  # (N, 3) int64: epoch, how often the epoch has drawn the sample before, index of the sample

_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_STEPS = 0x9E3779B9, 0xBB67AE85  # of the key from round to round
_ROUNDS = 10


def philox(counters: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox4x32-10: four 32-bit words, as good as random, from each counter.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.

    Args:
        counters: (4, ...) int64, each a word: 0 to 2^32 - 1.
        key: two words.

    Returns:
        (4, ...) int64, each a word.
    """
    shape = (2,) + (1,) * (counters.ndim - 1)
    multipliers = torch.tensor(_MULTIPLIERS, device=counters.device).view(shape)
    even, odd = counters[0::2], counters[1::2]
    for number in range(_ROUNDS):
        words = [(word + number * step) & _WORD for word, step in zip(key, _STEPS, strict=True)]
        products = even * multipliers  # modulo 2^64: the bits are those of the unsigned product
        high, low = (products >> 32) & _WORD, products & _WORD
        even = high.flip(0) ^ odd ^ torch.tensor(words, device=counters.device).view(shape)
        odd = low.flip(0)
    return torch.stack([even, odd], dim=1).flatten(0, 1)


class Draws:
    """Uniform numbers for each image of a batch.

    They are drawn where the keys are, on the CPU: a dozen numbers an image decide which images get which operation, and
    a GPU would have to be waited for to learn it.

    Args:
        purpose: numbers for another one are unrelated.
        seed: of the run.
    """

    def __init__(self, purpose: str, seed: int) -> None:
        mixed = derive(purpose, seed)
        self._key = mixed & _WORD, mixed >> 32

    def __call__(self, keys: Keys, count: int) -> np.ndarray:
        """(N, count) float64 in [0, 1), multiples of 2^-32."""
        blocks = -(-count // 4)
        counters = np.empty((4, len(keys), blocks), np.int64)
        counters[0], counters[1], counters[2] = (keys[:, column, None] & _WORD for column in (2, 0, 1))
        counters[3] = np.arange(blocks)
        words = philox(torch.from_numpy(counters), self._key).numpy()
        return words.transpose(1, 2, 0).reshape(len(keys), -1)[:, :count] * 2.0**-32
