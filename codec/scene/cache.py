"""One bounded store for decoded images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import numpy as np
from numpy.typing import NDArray


class ImageCache:
    """Least recently used images go first; what counts is their bytes. Safe to share between threads.

    Args:
        capacity: bytes that the cached arrays may hold together. An image larger than that is never kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0
        self._images: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The image under ``key``, made now if it is not held; read-only, because it is shared.

        Two threads that miss the same key at once both make it: decoding outside the lock is worth that.
        """
        image = self.peek(key)
        if image is not None:
            return image
        image = make()
        image.setflags(write=False)
        self._keep(key, image)
        return image

    def peek(self, key: Hashable) -> NDArray[np.uint8] | None:
        """The image under ``key`` if it is held."""
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
            return image

    def _keep(self, key: Hashable, image: NDArray[np.uint8]) -> None:
        if image.nbytes > self.capacity:
            return
        with self._lock:
            known = self._images.pop(key, None)
            self.held += image.nbytes - (known.nbytes if known is not None else 0)
            self._images[key] = image
            while self.held > self.capacity:
                _, dropped = self._images.popitem(last=False)
                self.held -= dropped.nbytes
