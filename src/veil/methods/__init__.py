"""One file = one paper. METHODS is the registry: the name on the command line -> the class."""

from __future__ import annotations

from veil.errors import VeilError, nearest
from veil.method import Method
from veil.methods.aia import AIA
from veil.methods.answer_only import AnswerOnly
from veil.methods.deepobfuscator import DeepObfuscator
from veil.methods.disco import DISCO
from veil.methods.maxent import MaxEnt
from veil.methods.narl import NARL
from veil.methods.pcgan import PCGAN
from veil.methods.plain import Blur, Noise, Original, Pixelate
from veil.methods.stargan import StarGAN
from veil.methods.task_oriented import TaskOriented

METHODS: dict[str, type[Method]] = {
    "aia": AIA,
    "answer-only": AnswerOnly,
    "blur": Blur,
    "deepobfuscator": DeepObfuscator,
    "disco": DISCO,
    "maxent": MaxEnt,
    "narl": NARL,
    "noise": Noise,
    "original": Original,
    "pcgan": PCGAN,
    "pixelate": Pixelate,
    "stargan": StarGAN,
    "task-oriented": TaskOriented,
}


def method_named(name: str) -> type[Method]:
    """The method called `name`; an unknown one is an error with the nearest spelling."""
    try:
        return METHODS[name]
    except KeyError:
        raise VeilError(f"no method '{name}': {nearest(name, METHODS)}") from None
