"""Named images in a folder, a zip or a tar, read one at a time from any thread."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO, Self

from veil.data.decode import BadImage
from veil.data.impostors import impostor
from veil.errors import VeilError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
"""What an archive of images may end with, after the name of the folder it replaces."""


class Store(ABC):
    """Where images lie. Close it (or use it in a `with`) when done.

    Attributes:
        path: the folder or archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Every image in it: posix paths relative to the store, sorted."""

    @abstractmethod
    def stamp(self, name: str) -> str | None:
        """A cheap mark that changes when the file does; None where there is no such file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The file's bytes; safe from any thread.

        Raises:
            BadImage: it is missing or cannot be read.
        """

    def where(self, name: str) -> str:
        """How messages call the image `name`."""
        return str(self.path / name)

    def close(self) -> None:  # noqa: B027 - a folder has nothing to close
        """Let go of the archive."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class FolderStore(Store):
    """A folder, with its subfolders."""

    def names(self) -> list[str]:
        found: list[str] = []
        for folder, _, files in os.walk(self.path):
            inside = Path(folder).relative_to(self.path).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            found += [prefix + file for file in files if is_image(file)]
        return sorted(found)

    def stamp(self, name: str) -> str | None:
        try:
            status = (self.path / name).stat()
        except OSError:
            return None
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self, name: str) -> bytes:
        path = self.path / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if path.is_symlink() and "annex" in str(path.readlink()):
                raise BadImage(
                    "is a git-annex link whose content is absent: run 'git annex get'"
                ) from None
            raise BadImage("is missing") from None
        except IsADirectoryError:
            raise BadImage("is a folder, not a picture") from None
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from None


class ZipStore(Store):
    """A zip archive; read in place."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _opening(path):
            self._zip = zipfile.ZipFile(path)
        self._members = {info.filename: info for info in self._zip.infolist()}
        self._lock = Lock()

    def names(self) -> list[str]:
        return sorted(filter(is_image, self._members))

    def stamp(self, name: str) -> str | None:
        info = self._members.get(name)
        return None if info is None else f"{info.file_size} {info.CRC:08x}"

    def read(self, name: str) -> bytes:
        if name not in self._members:
            raise BadImage("is missing")
        try:
            with self._lock:
                return self._zip.read(name)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise BadImage(f"is damaged in the archive ({error}): download it again") from None
        except (RuntimeError, NotImplementedError) as error:
            raise BadImage(f"cannot be unpacked ({error}): unpack the archive yourself") from None

    def where(self, name: str) -> str:
        return f"{self.path}:{name}"

    def close(self) -> None:
        self._zip.close()


class TarStore(Store):
    """A tar archive, read in place; a gzipped one is unpacked to a temporary file each time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock = Lock()
        with _opening(path), ExitStack() as on_error:
            self._file = on_error.enter_context(_plain_tar(path))
            self._modified = path.stat().st_mtime_ns
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                members = [member for member in tar if member.isfile()]
            on_error.pop_all()
        self._members = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in members}

    def names(self) -> list[str]:
        return sorted(filter(is_image, self._members))

    def stamp(self, name: str) -> str | None:
        place = self._members.get(name)
        return None if place is None else f"{place[0]} {place[1]} {self._modified}"

    def read(self, name: str) -> bytes:
        if name not in self._members:
            raise BadImage("is missing")
        start, size = self._members[name]
        try:
            with self._lock:
                self._file.seek(start)
                data = self._file.read(size)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from None
        if len(data) < size:
            raise BadImage("is cut short in the archive: download it again")
        return data

    def where(self, name: str) -> str:
        return f"{self.path}:{name}"

    def close(self) -> None:
        self._file.close()


def open_store(path: Path) -> Store:
    """The folder, .zip, .tar or .tar.gz at `path`, ready to read.

    Raises:
        VeilError: there is no such thing or it is not the archive that its name says.
    """
    if path.is_dir():
        return FolderStore(path)
    if path.name.lower().endswith(".zip"):
        return ZipStore(path)
    return TarStore(path)


def is_image(name: str) -> bool:
    """Whether a file's name ends like a picture's; leaves out the `._` files that macOS adds."""
    return name.lower().endswith(SUFFIXES) and not name.rpartition("/")[2].startswith("._")


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An ordered choice of the images in a store.

    Attributes:
        store: the folder or archive, open.
        names: (n,) names in it, in the order wanted.
    """

    store: Store
    names: tuple[str, ...]

    def fingerprint(self) -> str | None:
        """A hash of the names and of cheap marks of the files, or None where one is missing.

        For a folder the marks are size and time of change, for a zip size and CRC-32, for a tar
        place, size and the archive's time of change.
        """
        stamps = [self.store.stamp(name) for name in self.names]
        if None in stamps:
            return None
        lines = [str(self.store.path.absolute())]
        lines += [f"{name}\0{stamp}" for name, stamp in zip(self.names, stamps, strict=True)]
        text = "\n".join(lines).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def _plain_tar(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.open("rb")
        file.seek(0)
        with ExitStack() as on_error, gzip.open(file) as unpacking:
            plain = on_error.enter_context(tempfile.TemporaryFile(prefix="veil-"))
            shutil.copyfileobj(unpacking, plain, 1 << 20)
            plain.seek(0)
            on_error.pop_all()
            return plain


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Turn a failure to open an archive into one clear line."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise VeilError(f"{path} {_whats_wrong(path, error)}") from None


def _whats_wrong(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as unreadable:
        return f"cannot be read: {unreadable.strerror}"
    if start[:2] not in (b"PK", b"\x1f\x8b") and (what := impostor(start)):
        return what
    return f"is not an archive that can be read, or is cut short ({error}): download it again"
