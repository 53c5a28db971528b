"""Every source of images, by the name that a run's configuration gives it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from veil.data.celeba import CelebAConfig
from veil.data.fairface import FairFaceConfig
from veil.data.lfw import LFWConfig
from veil.data.synthfaces import SynthFacesConfig
from veil.data.table import TableConfig
from veil.data.utkface import UTKFaceConfig
from veil.data.vggface import VGGFaceConfig

AnyConfig = (
    SynthFacesConfig
    | CelebAConfig
    | FairFaceConfig
    | LFWConfig
    | UTKFaceConfig
    | VGGFaceConfig
    | TableConfig
)
DataConfig = Annotated[AnyConfig, Field(discriminator="source")]
"""One source's settings; the field `source` says which."""

SOURCES: dict[str, type[AnyConfig]] = {
    "synthfaces": SynthFacesConfig,
    "celeba": CelebAConfig,
    "fairface": FairFaceConfig,
    "lfw": LFWConfig,
    "utkface": UTKFaceConfig,
    "vggface": VGGFaceConfig,
    "table": TableConfig,
}
