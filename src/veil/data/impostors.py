"""Files that are not what their name says: quota pages, pointers, archives, nothing at all."""

from __future__ import annotations

_HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml")
_STARTS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: run 'git lfs pull'"),
    (b"/annex/objects/", "is a git-annex pointer, not the file itself: run 'git annex get'"),
    (b".git/annex/objects/", "is a git-annex pointer, not the file itself: run 'git annex get'"),
    (b"../.git/annex/", "is a git-annex pointer, not the file itself: run 'git annex get'"),
    (b"\x1f\x8b", "is a gzip file: unpack it"),
    (b"PK\x03\x04", "is a zip file: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z file: unpack it"),
    (b"%PDF-", "is a PDF document: download the right file"),
)


def impostor(data: bytes) -> str | None:
    """What a file holds that is plainly neither a picture nor a list of labels, and how to mend it.

    Args:
        data: the file's first bytes (all of them when it is short).

    Returns:
        A clause to follow the file's name ("is empty: download it again"), or None.
    """
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if not start:
        return "is empty: download it again"
    if start[:16].lower().startswith(_HTML):
        return "is a web page, not the file itself (a download quota?): download it again"
    return next((what for magic, what in _STARTS if start.startswith(magic)), None)
