"""Images decoded once: a memory-mapped uint8 cache keyed by content.

`images/<key>/` holds the pixels (entries.py); `contents/<fingerprint>` remembers which bytes a set
of files with these sizes and times held, so that they are not read again.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from veil.data.decode import DECODER, BadImage, decode_image
from veil.data.entries import Images, Skipped, build_entry, open_entry, write_small
from veil.data.image_files import ImageFiles
from veil.errors import VeilError

__all__ = [
    "Images",
    "OnBad",
    "Progress",
    "Skipped",
    "cache_folder",
    "decoded_images",
    "drawn_images",
]

OnBad = Literal["raise", "skip"]
Progress = Callable[[int, int], None]
"""Called with (images done, images in all) now and then."""

CHUNK = 128
Result = TypeVar("Result")


def cache_folder() -> Path:
    """`$VEIL_CACHE`, else `$XDG_CACHE_HOME/veil`, else `~/.cache/veil`."""
    if chosen := os.environ.get("VEIL_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "veil"


def decoded_images(
    files: ImageFiles,
    size: int,
    channels: int,
    crop: int | None,
    on_bad: OnBad,
    progress: Progress | None = None,
) -> Images:
    """The files' pictures, decoded now or taken from the cache (see `decode_image`).

    The key is the content: the names and bytes of all files in order, `size`, `channels`, `crop`
    and the decoder's version. A memo from the files' sizes and times to their content saves
    reading them again; a folder that was moved or touched is read once, not decoded.

    Args:
        files: the pictures, in order.
        size: height and width of the result in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop: side of the centre square in pixels; the largest square where None.
        on_bad: "raise" at the first file that is not a usable picture, or "skip" such files.
        progress: called with (files decoded, files).

    Raises:
        VeilError: a bad file and `on_bad` is "raise"; no usable picture at all; the cache cannot
            be written.
    """
    content = _content(files)
    entry = _entry("decoded", DECODER, content, str(size), str(channels), str(crop))
    images = open_entry(entry)
    if images is None:
        skipped: dict[int, Skipped] = {}

        def decode(name: str) -> NDArray[np.uint8] | BadImage:
            try:
                return decode_image(files.store.read(name), size, channels, crop)
            except BadImage as bad:
                return bad

        def chunks() -> Iterator[NDArray[np.uint8]]:
            done = 0
            with closing(_in_threads(decode, files.names)) as chunks_of_results:
                for results in chunks_of_results:
                    good = []
                    for position, result in enumerate(results, done):
                        if isinstance(result, BadImage):
                            skipped[position] = Skipped(files.names[position], str(result))
                            if on_bad == "raise":
                                raise _bad_file(files, skipped[position])
                        else:
                            good.append(result)
                    if good:
                        yield np.stack(good)
                    done += len(results)
                    if progress is not None:
                        progress(done, len(files.names))

        with warnings.catch_warnings():
            # Pillow warns of odd metadata; what matters becomes a reason (decode.py).
            warnings.simplefilter("ignore")
            images = build_entry(entry, (size, size, channels), len(files.names), chunks(), skipped)
    if images.skipped and on_bad == "raise":
        raise _bad_file(files, images.skipped[0])
    return images


def drawn_images(
    key: str,
    count: int,
    size: int,
    channels: int,
    draw: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    progress: Progress | None = None,
) -> Images:
    """Generated images: drawn once, in index order, a few hundred at a time, then kept on disk.

    Args:
        key: everything the pixels depend on besides `count`, `size` and `channels`; change it (a
            version number) when the drawing code changes.
        count: number of images.
        size: height and width in pixels.
        channels: 1 or 3.
        draw: (m,) int64 indices -> (m, size, size, channels) uint8.
        progress: called with (drawn, count).

    Raises:
        VeilError: the cache cannot be written.
    """
    entry = _entry("drawn", key, str(count), str(size), str(channels))
    found = open_entry(entry)
    if found is not None:
        return found

    def chunks() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, count, CHUNK):
            indices = np.arange(start, min(start + CHUNK, count), dtype=np.int64)
            yield draw(indices)
            if progress is not None:
                progress(start + len(indices), count)

    return build_entry(entry, (size, size, channels), count, chunks(), {})


def _content(files: ImageFiles) -> str:
    """A hash of the files' names and bytes, from the memo where nothing seems to have changed."""
    fingerprint = files.fingerprint()
    memo = cache_folder() / "contents" / fingerprint if fingerprint else None
    if memo is not None and memo.is_file() and (known := memo.read_text()):
        return known

    def hashed(name: str) -> bytes | BadImage:
        try:
            return hashlib.blake2b(files.store.read(name), digest_size=16).digest()
        except BadImage as bad:
            return bad

    results = [result for chunk in _in_threads(hashed, files.names) for result in chunk]
    content = hashlib.blake2b(digest_size=16)
    for name, result in zip(files.names, results, strict=True):
        digest = str(result).encode() if isinstance(result, BadImage) else result
        content.update(f"{name}\0{len(digest)}\0".encode("utf-8", "surrogateescape") + digest)
    # What could not be read may become readable without leaving a mark, so it is not remembered.
    if memo is not None and not any(isinstance(result, BadImage) for result in results):
        write_small(memo, content.hexdigest())
    return content.hexdigest()


def _in_threads(
    work: Callable[[str], Result], names: Sequence[str]
) -> Generator[list[Result], None, None]:
    """The results in order, `CHUNK` names at a time; a few chunks are in work at once.

    Reading, hashing and decoding let go of Python's lock, so threads suffice.
    """

    def chunk(start: int) -> list[Result]:
        return [work(name) for name in names[start : start + CHUNK]]

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        for start in range(0, len(names), CHUNK):
            waiting.append(pool.submit(chunk, start))
            if len(waiting) > 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _bad_file(files: ImageFiles, bad: Skipped) -> VeilError:
    return VeilError(
        f'{files.store.where(bad.name)} {bad.reason}; or set on_bad = "skip" to leave out '
        "and count such files"
    )


def _entry(*parts: str) -> Path:
    """The folder of the entry that these parts identify."""
    text = "\x1f".join(parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return cache_folder() / "images" / digest
