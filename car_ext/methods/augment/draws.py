"""Random numbers that are a function of what they are for: the same in any batch, order, process and worker."""

import numpy as np

from car_ext.seeds import derive

Keys = np.ndarray  # (N, 3) int64: epoch, how often the epoch has drawn the sample before, index of the sample

_WORD = 0xFFFFFFFF
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_STEPS = 0x9E3779B9, 0xBB67AE85  # of the key from round to round
_ROUNDS = 10


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10: four 32-bit words, as good as random, from each counter.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.

    Args:
        counters: (4, ...) uint64, each a word: 0 to 2^32 - 1.
        key: two words.

    Returns:
        (4, ...) uint64, each a word.
    """
    shape = (2,) + (1,) * (counters.ndim - 1)
    multipliers = _MULTIPLIERS.reshape(shape)
    even, odd, high, word = counters[0::2], counters[1::2], np.uint64(32), np.uint64(_WORD)
    for number in range(_ROUNDS):
        words = [(part + number * step) & _WORD for part, step in zip(key, _STEPS, strict=True)]
        products = even * multipliers
        even = (products >> high)[::-1] ^ odd
        even ^= np.array(words, np.uint64).reshape(shape)
        products &= word
        odd = products[::-1]
    return np.stack([even, odd], axis=1).reshape(counters.shape)


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
        counters = np.empty((4, len(keys), blocks), np.uint64)
        counters[0], counters[1], counters[2] = (keys[:, column, None] & _WORD for column in (2, 0, 1))
        counters[3] = np.arange(blocks)
        words = philox(counters, self._key)
        return words.transpose(1, 2, 0).reshape(len(keys), -1)[:, :count] * 2.0**-32
